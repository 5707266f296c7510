"""The environment with a CUDA build of torch."""

from __future__ import annotations

from pathlib import Path

import environments

# The oldest torch that is supported; its wheel for Linux is a CUDA 13.0 build. It asks for an older
# setuptools than the pinned one, which builds with it all the same.
TORCH = "torch==2.11.0"
TOOLS = ("ninja", "pybind11", "setuptools")
# 4.7 GB once installed; the rest is wheels while pip unpacks them.
GIGABYTES = 8


def prepare(folder: Path) -> Path:
    """The environment's Python."""
    tools = environments.pinned((environments.ROOT / "requirements-dev.txt").read_text(), TOOLS)
    return environments.prepare(folder, ([TORCH], tools), GIGABYTES)
