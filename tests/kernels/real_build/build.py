"""Builds the CUDA extension of this tree in a copy of its sources, and imports it without a GPU."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from environments import ROOT, short_hash

JOBS = 2
PROBE = "tests/kernels/real_build/launch_probe.cpp"


@dataclass(frozen=True)
class Launch:
    """How a kernel is launched.

    Attributes:
        name: for readers.
        symbol: in the machine code.
        threads: of a block.
        shared: bytes of dynamic shared memory of a block.
    """

    name: str
    symbol: str
    threads: int
    shared: int


def output_of(*command: str | Path, **options: object) -> str:
    """What a command prints; where it fails, its messages and the end."""
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        words = " ".join(map(str, command))
        sys.exit(f"{done.stdout}{done.stderr}\nfailed ({done.returncode}): {words}")
    return str(done.stdout)


def nvcc_path() -> Path:
    """Where torch's build tools would find the CUDA compiler; it need not be there."""
    home = os.environ.get("CUDA_HOME")
    on_path = None if home else shutil.which("nvcc")
    return Path(on_path) if on_path else Path(home or "/usr/local/cuda") / "bin" / "nvcc"


def find_nvcc() -> Path:
    """The CUDA compiler, or the end with what to install."""
    nvcc = nvcc_path()
    if not nvcc.exists():
        sys.exit(
            f"no CUDA compiler ({nvcc} does not exist): install the CUDA toolkit 13.0, which "
            "needs no GPU, and put its bin folder on PATH or set CUDA_HOME"
        )
    return nvcc


def nvcc_version() -> str:
    """Release and build, such as ``13.0.88``."""
    text = output_of(find_nvcc(), "--version")
    found = re.search(r"\bV(\d+(\.\d+)+)", text)
    return found[1] if found else text.strip()


def sources(root: Path) -> Iterator[Path]:
    """Files that the extension and the package are made of, relative to the tree."""
    for name in ("setup.py", "pyproject.toml", "README.md"):
        yield Path(name)
    for folder in ("adamp_fused", "csrc"):
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.suffix in {".py", ".h", ".cpp", ".cu", ".cuh"}:
                yield path.relative_to(root)


def synchronise(root: Path, tree: Path) -> None:
    """Bring a copy up to date; what has not changed keeps its time, so is not compiled again."""
    current = set(sources(root))
    if tree.exists():
        for path in set(sources(tree)) - current:
            (tree / path).unlink(missing_ok=True)
    for path in current:
        to = tree / path
        if not to.exists() or to.read_bytes() != (root / path).read_bytes():
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes((root / path).read_bytes())


def build(python: Path, folder: Path) -> tuple[Path, Path]:
    """Build and import; the extension, and the object made of ``runtime.cu``."""
    # Objects know nothing of the compilers that made them: each compiler has its own folder.
    compiler = output_of(os.environ.get("CXX", "c++"), "--version")
    tree = folder / f"tree-{short_hash(str(python), nvcc_version(), compiler)}"
    synchronise(ROOT, tree)
    ours = ("PYTHONPATH", "TORCH_CUDA_ARCH_LIST")  # the tree and its architectures decide
    env = {name: value for name, value in os.environ.items() if name not in ours}
    env |= {"ADAMP_FUSED_BUILD": "cuda", "MAX_JOBS": str(JOBS), "CUDA_VISIBLE_DEVICES": ""}
    output_of(python, "setup.py", "build_ext", "--inplace", "--force", cwd=tree, env=env)
    info = json.loads(output_of(python, "-m", "adamp_fused", "info", "--json", cwd=tree, env=env))
    if "cuda" not in info["built"]["kernels"].split(", "):
        sys.exit(f"the extension was built and imported, but has no cuda executor: {info['built']}")
    [extension] = (tree / "adamp_fused").glob("_C.*.so")
    [runtime] = (tree / "build").glob("temp.*/csrc/cuda/runtime.o")
    return extension, runtime


def launches(runtime: Path) -> list[Launch]:
    """How the host code launches each kernel, by asking the object of ``runtime.cu`` itself."""
    program = runtime.with_name("launch_probe")
    # Nothing of the CUDA runtime but what the probe answers is ever called.
    partial = ("-no-pie", "-Wl,--unresolved-symbols=ignore-all")
    compiler = os.environ.get("CXX", "c++")
    output_of(compiler, "-std=c++17", *partial, ROOT / PROBE, runtime, "-o", program)
    lines = [line.split("\t") for line in output_of(program).splitlines()]
    return [Launch(name, symbol, int(threads), int(size)) for name, symbol, threads, size in lines]
