"""A Python environment with a CUDA build of torch, made once and kept outside the repository."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# The oldest torch that is supported; its wheel for Linux is a CUDA 13.0 build.
TORCH = "torch==2.11.0"
TOOLS = ("ninja", "pybind11", "setuptools")
# 4.7 GB once installed; the rest is wheels while pip unpacks them.
GIGABYTES = 8
# Last to be written, so that an interrupted installation is not taken for a whole one.
MARK = "complete"


def cache() -> Path:
    """Where environments and builds are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "adamp_fused" / "real_build"


def requirements(pinned: str) -> list[str]:
    """What to install: torch, then the build's tools as a requirements file pins them."""
    lines = [line for line in pinned.splitlines() if re.split("[=;<> ]", line)[0] in TOOLS]
    missing = [name for name in TOOLS if not any(line.startswith(name) for line in lines)]
    if missing:
        sys.exit(
            f"requirements-dev.txt pins no version of {', '.join(missing)}: the build needs it"
        )
    return [TORCH, *lines]


def short_hash(*parts: str) -> str:
    """A name for what all the parts together decide."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def require_space(folder: Path) -> None:
    """End with a message where the disk is too full for the environment."""
    free = shutil.disk_usage(folder).free / 1e9
    if free < GIGABYTES:
        sys.exit(
            f"{folder} has {free:.1f} GB free, and a CUDA build of torch needs {GIGABYTES} GB "
            "while it is installed: make room, or set XDG_CACHE_HOME to a larger disk"
        )


def prepare(folder: Path) -> Path:
    """The environment's Python; made now unless a complete one is there.

    One environment is kept for each version of Python: one with other requirements makes way first.
    """
    wanted = requirements((ROOT / "requirements-dev.txt").read_text())
    prefix = f"env-{sys.implementation.cache_tag}-"
    environment = folder / f"{prefix}{short_hash(sys.version, *wanted)}"
    python = environment / "bin" / "python"
    if (environment / MARK).exists():
        return python
    for old in folder.glob(f"{prefix}*"):
        shutil.rmtree(old)
    require_space(folder)
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    # One after the other, as `make` does, and without a word about it: torch 2.11 asks for an older
    # setuptools than the pinned one, which builds with it all the same.
    install: list[Path | str] = [python, "-m", "pip", "install", "--quiet", "--no-warn-conflicts"]
    for group in (wanted[:1], wanted[1:]):
        subprocess.run([*install, *group], check=True)
    (environment / MARK).touch()
    return python
