"""Where the tile keeps its elements, and which row an element belongs to."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kernels.emulation import build


def program(name: str) -> Path:
    """A program of the emulation that launches nothing."""
    own = build.compile_object(f"tests/kernels/emulation/{name}.cpp", build.PLAIN)
    machine = build.compile_all(build.MACHINE, build.PLAIN)
    return build.link([own, *machine], build.PLAIN, name)


def test_threads_of_a_warp_meet_in_no_bank() -> None:
    """Threads at their packs, lanes at neighbours; and at thin rows of their own, where two may."""
    done = subprocess.run([program("banks")], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1 1 2", "1 1 2", "1 1 2"]


def test_rows() -> None:
    """The row of an element, for every length of rows and every element of a tile."""
    done = subprocess.run([program("rows")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
