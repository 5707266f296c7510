"""The CUDA kernels on the CPU: every schedule of threads and blocks comes to the same bits.

See tests/kernels/emulation: threads are fibers, a seed draws who runs next, and the first run of
each case is compared with an oracle. More of it:
``build/emulation/*/explore-* --schedules 99999 --seed 7``.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from kernels.emulation import build

pytestmark = pytest.mark.skipif(
    shutil.which(build.compiler()) is None, reason=f"no C++ compiler ({build.compiler()})"
)


def run(program: Path, *arguments: str) -> str:
    """What a program of the emulation prints; it must find nothing wrong."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"{program.name} {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_detectors() -> None:
    """Deadlocks, barriers that some miss, and misaligned accesses of small kernels are noticed."""
    run(build.selftest(build.PLAIN))


def test_race_detector() -> None:
    """Races, missing releases and reads of poison in small kernels are noticed, too."""
    assert "race" in run(build.selftest(build.RACES))


def test_schedules() -> None:
    """No deadlock, no lost or doubled tile, equal bits, with 1 block resident to all of them."""
    said = run(build.driver(build.PLAIN), "--schedules", "1500")
    assert int(said.splitlines()[-1].split()[0]) >= 1000


def test_races() -> None:
    """Whatever two threads touch is ordered by a barrier, or by a release and an acquire."""
    run(build.driver(build.RACES), "--schedules", "100")
