"""What is installed, what was built, and which backend each device would get."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

import torch

from adamp_fused._version import __version__
from adamp_fused.backends import registry
from adamp_fused.backends.native import built_for, extension, missing


def collect() -> dict[str, Any]:
    """Everything that ``python -m adamp_fused info`` prints."""
    return {
        "versions": {
            "adamp_fused": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torch CUDA": torch.version.cuda,
            "triton": _installed("triton"),
        },
        "built": _built(),
        "devices": {str(device): _device(device) for device in _devices()},
    }


def as_text(info: dict[str, Any]) -> str:
    """The same for reading."""
    lines = [f"{name:<12} {version or 'none'}" for name, version in info["versions"].items()]
    lines += ["", *(f"{name:<12} {value}" for name, value in info["built"].items())]
    for device, choice in info["devices"].items():
        lines += ["", f"{device} ({choice['name']}): backend {choice['backend']!r}"]
        lines += [f"  not {name!r}: {why}" for name, why in choice["why not better"].items()]
    return "\n".join(lines)


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _built() -> dict[str, str]:
    built = {
        "kernels": f"none ({missing})" if extension is None else ", ".join(extension.executors)
    }
    if built_for is not None:
        built["for torch"] = built_for.torch
        built["for CUDA"] = built_for.cuda or "none"
        built["debug"] = "yes" if built_for.debug else "no"
    if extension is not None:
        built["CUDA archs"] = extension.cuda_archs or "none"
        built["CPU level"] = extension.cpu_capability()
    return built


def _devices() -> list[torch.device]:
    gpus = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    return [*gpus, torch.device("cpu")]


def _device(device: torch.device) -> dict[str, Any]:
    why_not = {}
    for name, backend in registry.BACKENDS.items():
        reason = registry.usable_by_default(backend, device, capturable=False)
        if reason is None:
            break
        why_not[name] = reason
    gpu = device.type == "cuda"
    return {
        "name": torch.cuda.get_device_name(device) if gpu else platform.processor() or "CPU",
        "backend": name,
        "why not better": why_not,
    }
