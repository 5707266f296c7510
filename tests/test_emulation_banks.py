"""Where the tile keeps its elements, against the banks of shared memory."""

from __future__ import annotations

import subprocess

from emulation import build


def test_threads_of_a_warp_meet_in_no_bank() -> None:
    """Each thread at its own pack, wherever the span begins, every element of the pack in turn."""
    objects = [build.compile_object("tests/emulation/banks.cpp", build.PLAIN)]
    program = build.link(
        [*objects, *build.compile_all(build.MACHINE, build.PLAIN)], build.PLAIN, "banks"
    )
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1", "1"]
