"""The one place that chooses among the backends."""

from __future__ import annotations

import torch
from torch import Tensor

from adamp_fused._fake import is_fake
from adamp_fused._warnings import warn_once
from adamp_fused.backends.native import NativeBackend
from adamp_fused.backends.protocol import Backend
from adamp_fused.backends.reference import ReferenceBackend
from adamp_fused.backends.triton.backend import TritonBackend


def _backends() -> dict[str, Backend]:
    best_first: list[Backend] = [
        NativeBackend("cuda", "cuda"),
        TritonBackend(),
        NativeBackend("cpu", "cpu"),
        ReferenceBackend(),
    ]
    return {backend.name: backend for backend in best_first}


BACKENDS = _backends()


def check_name(requested: str | None) -> None:
    """Raise ValueError unless ``requested`` is None or names a backend."""
    if requested not in (None, *BACKENDS):
        raise ValueError(
            f"backend={requested!r} is not a backend; use one of {', '.join(map(repr, BACKENDS))}, "
            "or None for the best one of each parameter's device"
        )


def choose_for(requested: str | None, param: Tensor, capturable: bool) -> Backend:
    """The backend of one parameter; the reference where there is nothing to compute with.

    Raises:
        RuntimeError: the requested backend cannot serve the parameter's device.
    """
    if is_fake(param):
        return BACKENDS["reference"]
    return choose(requested, param.device, capturable)


def choose(requested: str | None, device: torch.device, capturable: bool) -> Backend:
    """The requested backend, or the best one that can serve ``device``.

    Raises:
        RuntimeError: the requested backend cannot serve the device.
    """
    check_name(requested)
    if requested is not None:
        reason = BACKENDS[requested].unavailable(device, capturable)
        if reason is not None:
            raise RuntimeError(
                f"backend={requested!r} cannot serve parameters on {str(device)!r}: {reason}"
            )
        return BACKENDS[requested]
    why_not = {}
    for name, backend in BACKENDS.items():
        reason = usable_by_default(backend, device, capturable)
        if reason is None:
            break
        why_not[name] = reason
    if backend.name == "reference":
        _tell(device, why_not)
    return backend


def has_operator(requested: str | None, device: torch.device) -> bool:
    """Whether a compiled function has an operator for parameters on ``device``."""
    if device.type not in ("cpu", "cuda") or requested not in (None, device.type):
        return False
    return usable_by_default(BACKENDS[device.type], device, True) is None


def _tell(device: torch.device, why_not: dict[str, str]) -> None:
    """Tell the user that the slowest backend was the best one, and what the others lack."""
    reasons = "; ".join(f"{name}: {reason}" for name, reason in why_not.items())
    warn_once(
        f"adamp_fused steps parameters on {str(device)!r} with the reference backend, plain torch "
        f"operations, since no faster one is available ({reasons})"
    )


def usable_by_default(backend: Backend, device: torch.device, capturable: bool) -> str | None:
    """None where ``backend=None`` may choose this backend for ``device``, else why not."""
    if backend.name == "triton" and device.type == "cpu":
        return (
            "Triton runs CPU tensors in its interpreter only, which is for tests, not for training"
        )
    return backend.unavailable(device, capturable)
