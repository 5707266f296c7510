"""A core kept busy by another process, as a data loader or a neighbour would."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator


def enough_cores() -> bool:
    """Whether there are two cores to choose from, and a way to choose."""
    return hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) >= 2


def _move_threads(cores: set[int]) -> None:
    """Let every thread of this process run on ``cores`` only."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # one that has ended meanwhile
            os.sched_setaffinity(int(thread), cores)


@contextlib.contextmanager
def one_of_two_cores() -> Iterator[None]:
    """Confine this process to two cores, and keep one of them busy from another process."""
    before = os.sched_getaffinity(0)
    free, taken = sorted(before)[:2]
    other = subprocess.Popen(
        [sys.executable, "-m", "bench.lib.busy", str(taken)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        other.stdout.readline()  # it says so when it spins
        _move_threads({free, taken})
        yield
    finally:
        other.kill()
        other.wait()
        _move_threads(before)


def spin(core: int) -> None:
    """Keep ``core`` busy until the process that asked for it ends or kills this one."""
    parent = os.getppid()
    os.sched_setaffinity(0, {core})
    print("spinning", flush=True)
    while os.getppid() == parent:
        sum(range(10_000))


if __name__ == "__main__":
    spin(int(sys.argv[1]))
