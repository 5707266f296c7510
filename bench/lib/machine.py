"""What a result was measured on: enough to judge it by, nothing that identifies the machine."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

import torch


def _first_value(path: str, key: str) -> str | None:
    """The value of the first ``key: value`` line of a /proc file."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _run(*command: str) -> str | None:
    """Standard output of a command, or None where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def _commit() -> str | None:
    """The commit that was measured; marked when the working tree differs from it.

    Where what git says of a copy of the tree is not what is measured, the environment variable
    COMMIT names it.
    """
    if told := os.environ.get("COMMIT"):
        return told
    commit = _run("git", "rev-parse", "--short=12", "HEAD")
    changed = _run("git", "status", "--porcelain", "--untracked-files=no")
    return f"{commit}, changed" if commit and changed else commit


def available_bytes(device: torch.device) -> int:
    """Memory that can be taken on ``device`` now."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    value = _first_value("/proc/meminfo", "MemAvailable")
    if value is None:  # not Linux: half of what is installed is a careful guess
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return int(value.split()[0]) * 1024


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe(device: torch.device) -> dict[str, str | int | float | None]:
    """The machine and the software, for the results file."""
    gpu = device.type == "cuda"
    return {
        "cpu": _first_value("/proc/cpuinfo", "model name") or platform.processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": _usable_cores(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        # Other processes at the start of the run: timings of a busy machine say little.
        "load": round(os.getloadavg()[0], 2),
        "gpu": torch.cuda.get_device_name(device) if gpu else None,
        "gpu_driver": _run("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
        if gpu
        else None,
        "cuda": torch.version.cuda if gpu else None,
        "system": _system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
        "adamp": _version("adamp"),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
    }
