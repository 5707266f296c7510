"""The CUDA kernels as a debug build makes them: corrupted counters end in an error that names them.

On the emulated device; without the checks a wrong counter is a hang, or a decision too early.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from kernels.emulation import build

pytestmark = pytest.mark.skipif(
    shutil.which(build.compiler()) is None, reason=f"no C++ compiler ({build.compiler()})"
)

# Corruption -> what is said of it.
ERRORS = {
    "a tile was drawn": "waits in vain for the decision; the tensor's counters: arrived 16 of 17",
    "a tile has arrived": "arrives after the decision",
    "all tiles have arrived": "arrives though all have arrived",
    "less than none": "arrives though all have arrived",
    "a fix-up is done": "waits in vain for the decision",
    "decided": "arrives after the decision",
    "resolved": "arrives after the decision",
}


def run(program: Path, *arguments: str) -> str:
    """What a program of the emulation prints; it must find nothing wrong."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_corrupted_counters() -> None:
    """Each ends the launch, and the words name tensor, tile and counters."""
    lines = run(build.corrupted(build.DEBUG)).splitlines()
    ends = dict(line.split(": ", 1) for line in lines)
    assert ends.pop("nothing") == "no error"
    assert ends.keys() == ERRORS.keys()
    for corruption, end in ends.items():
        assert "adamp_fused: queue position " in end and "(tensor 0, " in end, end
        assert ERRORS[corruption] in end, f"{corruption}: {end}"


def test_nothing_else_is_an_error() -> None:
    """Under every schedule the counters of a launch that is right pass the checks."""
    run(build.driver(build.DEBUG), "--schedules", "400")
