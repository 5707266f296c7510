"""What the command needs of a machine: a GPU, a toolkit, packages. Imports no torch by itself."""

from __future__ import annotations

import importlib.util
import os
import shutil

PACKAGES = ("torch", "pytest", "xdist")
TOOLKITS = ("/usr/local/cuda/bin",)
TOOLS = ("nvcc", "compute-sanitizer", "ncu")


def find_tools() -> dict[str, str | None]:
    """Where each tool is: on the PATH, else in ``CUDA_HOME`` or the usual place of a toolkit."""
    home = os.environ.get("CUDA_HOME")
    places = [os.environ.get("PATH", ""), *([f"{home}/bin"] if home else []), *TOOLKITS]
    return {name: shutil.which(name, path=os.pathsep.join(places)) for name in TOOLS}


def missing(device: str, tools: dict[str, str | None]) -> list[str]:
    """What is missing, each with a remedy; the lack of ncu is no obstacle."""
    lacks = [
        f"the Python package {name}: install it for the Python that runs this"
        for name in PACKAGES
        if importlib.util.find_spec(name) is None
    ]
    if device == "cuda" and not lacks:
        import torch

        if torch.version.cuda is None:
            lacks.append(f"a CUDA build of torch (this one is {torch.__version__})")
        elif not torch.cuda.is_available():
            lacks.append("a GPU that torch can use: nvidia-smi and torch.cuda.is_available() say")
    if tools["nvcc"] is None:
        lacks.append("nvcc: put it on the PATH, or name the CUDA toolkit in CUDA_HOME")
    return lacks
