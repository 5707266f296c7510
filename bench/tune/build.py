"""Compiles the timing program, once for each variant."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

from bench.tune.variants import FLOAT32_ALONE, Variant, apply

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "bench/tune/time_step.cpp"
SOURCES = ("csrc/cuda/runtime.cu", "csrc/cuda/executor.cpp", PROGRAM)
# As setup.py compiles them, and the compiler says how many registers it took.
FLAGS = ("-O3", "-fmad=false", "--expt-relaxed-constexpr", "-std=c++17", "-Xptxas", "-v")


@dataclasses.dataclass(frozen=True)
class Built:
    """A variant's program; the most registers and spilled bytes of its kernels, by the compiler."""

    variant: Variant
    program: Path
    registers: int
    spilled: int


def copy_of_tree(variant: Variant, folder: Path) -> Path:
    """A copy of the sources with the variant's edits."""
    tree = folder / re.sub(r"\W+", "-", variant.name)
    shutil.copytree(ROOT / "csrc", tree / "csrc")
    (tree / PROGRAM).parent.mkdir(parents=True)
    shutil.copy(ROOT / PROGRAM, tree / PROGRAM)
    apply((*FLOAT32_ALONE, *variant.edits), tree)
    return tree


def build(variant: Variant, folder: Path, nvcc: str, arch: str) -> Built | str:
    """Compile a variant in ``folder``; the compiler's words where it fails."""
    tree = copy_of_tree(variant, folder)
    program = tree / "time_step"
    command = [nvcc, *FLAGS, f"-arch={arch}", *SOURCES, "-o", str(program)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode:
        return said.strip()
    registers = max(map(int, re.findall(r"Used (\d+) registers", said)), default=0)
    spilled = max(map(int, re.findall(r"(\d+) bytes spill stores", said)), default=0)
    return Built(variant, program, registers, spilled)
