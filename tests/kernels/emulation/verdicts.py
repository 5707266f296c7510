"""Builds the emulation's driver with a fault in it, and says whether it is noticed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kernels.emulation import build
from kernels.emulation.mutations import Mutation


def caught(mutation: Mutation, folder: Path, schedules: int = 300) -> str:
    """Build the driver with the fault and run it; what it says is wrong, or "" if nothing is.

    Args:
        mutation: the fault.
        folder: an empty one, for a copy of the sources.
        schedules: at most so many are tried.
    """
    text = mutation.apply((build.ROOT / "csrc" / mutation.file).read_text())
    variant = build.RACES if mutation.all_types else build.RACES_FLOAT
    return verdict(mutation.file, text, variant, folder, schedules)


def verdict(file: str, text: str, variant: build.Variant, folder: Path, schedules: int) -> str:
    """Build the driver from a copy of the sources and run it; what it says is wrong, or "".

    Args:
        file: in csrc, the one that differs.
        text: its contents.
        variant: how the driver is compiled.
        folder: for the copy; the one of an earlier verdict does, if that changed the same file.
        schedules: at most so many are tried.
    """
    path = build.changed_tree(file, text, "tests/kernels/emulation", folder)
    program = build.driver(variant, path)
    # Seconds and KiB: a fault may be a loop without an end, one that allocates even.
    limited = ["sh", "-c", 'ulimit -t 100 && ulimit -d 2000000 && exec "$@"', "sh", str(program)]
    done = subprocess.run([*limited, "--schedules", str(schedules)], capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    return done.stdout.splitlines()[-1] if done.returncode == 1 else f"status {done.returncode}"
