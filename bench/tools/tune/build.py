"""Compiles the timing program, once for each variant."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

from bench.tools.tune.variants import Variant

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = "bench/tools/tune/time_step.cpp"
SOURCES = ("csrc/cuda/runtime.cu", "csrc/cuda/executor.cpp", PROGRAM)
# As setup.py compiles them, and the compiler says how many registers it took.
FLAGS = ("-O3", "-fmad=false", "--expt-relaxed-constexpr", "-std=c++17", "-Xptxas", "-v")

# What ptxas says of a kernel for float32 alone, the first of the type sets; none that measures is
# timed.
FLOAT32 = re.compile(
    r"Compiling entry function '(?!\S*Measured)\S*TypeSetE0E\S*'.*?"
    r"(?P<spilled>\d+) bytes spill stores.*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Built:
    """A variant's program; the most registers and spilled bytes of its float32 kernels."""

    variant: Variant
    program: Path
    registers: int
    spilled: int


def resources(output: str) -> tuple[int, int]:
    """The most registers and spilled bytes of the float32 kernels, from the compiler's output."""
    found = list(FLOAT32.finditer(output))
    registers = max((int(kernel["registers"]) for kernel in found), default=0)
    return registers, max((int(kernel["spilled"]) for kernel in found), default=0)


def build(variant: Variant, folder: Path, nvcc: str, arch: str) -> Built | str:
    """Compile a variant into ``folder``; the compiler's messages where it fails."""
    program = folder / re.sub(r"\W+", "-", variant.name)
    command = [nvcc, *FLAGS, f"-arch={arch}", *variant.flags, *SOURCES, "-o", str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    output = done.stdout + done.stderr
    if done.returncode:
        return output.strip()
    return Built(variant, program, *resources(output))
