"""What nvcc makes of the CUDA kernels, run on the CPU: its PTX, an instruction at a time.

The emulation compiles the device code with g++ and puts a header of its own in the machine's place;
here nvcc's front end, its optimizer and the real header are tested, inline assembly included. The
same schedules, oracle and race detector; an access that is not aligned to its width is a fault, as
on a GPU. What is left to trust is the assembler and the machine.
"""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from kernels.emulation import build as emulated
from kernels.faults import parameters
from kernels.ptx import build
from kernels.ptx.faults import FAULTS, Fault
from kernels.real_build.build import nvcc_path

pytestmark = [
    pytest.mark.skipif(not nvcc_path().exists(), reason="no nvcc, whose output is tested here"),
    pytest.mark.skipif(
        shutil.which(emulated.compiler()) is None, reason=f"no C++ compiler ({emulated.compiler()})"
    ),
]


@cache
def driver(arch: str, variant: emulated.Variant) -> Path:
    """The driver that runs the kernels of a compute capability."""
    return build.driver(build.listing(arch), variant, f"step_{arch}")


def run(program: Path, schedules: int) -> subprocess.CompletedProcess[str]:
    """Run a driver; its own message says what is wrong."""
    command = [program, "--schedules", str(schedules)]
    return subprocess.run(command, capture_output=True, text=True)


def bits(said: str) -> dict[str, str]:
    """Case -> a digest of all weights and states that it came to."""
    return dict(re.findall(r"^(\w+) .* bits (\w+),", said, re.MULTILINE))


def statistics(said: str) -> dict[str, str]:
    """The same of what ``optimizer.stats()`` reads, where a kernel that measures is translated."""
    return dict(re.findall(r"^(\w+) .* statistics (\w+)$", said, re.MULTILINE))


@pytest.mark.nightly
def test_bits() -> None:
    """Right under every schedule, and bit by bit what g++ makes of the same source."""
    done = run(driver("90", emulated.PLAIN), 1000)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    by_gcc = run(emulated.driver(emulated.PLAIN), 0)
    assert by_gcc.returncode == 0, by_gcc.stdout[-2000:] + by_gcc.stderr
    assert len(bits(done.stdout)) > 20
    assert bits(done.stdout) == bits(by_gcc.stdout)
    measured = statistics(done.stdout)
    assert len(measured) > 20
    assert measured.items() <= statistics(by_gcc.stdout).items()


@pytest.mark.nightly
def test_races() -> None:
    """Every access is ordered by a barrier, or by a release and an acquire."""
    done = run(driver("90", emulated.RACES), 100)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


@pytest.mark.nightly
def test_oldest() -> None:
    """The same on the oldest that is supported, which prefetches by lines; float32."""
    done = run(driver("80", emulated.RACES_FLOAT), 100)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


@pytest.mark.parametrize("fault", parameters(FAULTS, FAULTS[:1], shares=8))
def test_noticed(fault: Fault) -> None:
    """A fault in the listing is noticed."""
    text = fault.apply(build.listing("90"))
    done = run(build.driver(text, emulated.RACES_FLOAT, f"fault_{fault.name}"), 100)
    assert done.returncode == 1, done.stdout[-500:] + done.stderr
    assert re.search(fault.says, done.stdout), done.stdout[-500:]
