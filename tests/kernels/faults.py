"""Planted faults as parameters of a test: which of them ``make test`` runs, and which the others.

All of them take too long for each commit: a sample is in ``make test``, a share of the rest in
``make proofs``, another at each commit, and ``make nightly`` runs whatever is left.
"""

from __future__ import annotations

import functools
import subprocess
import zlib
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import pytest


@functools.cache
def turn() -> int:
    """A number that differs from commit to commit; 0 outside of a clone."""
    command = ["git", "rev-parse", "--short=7", "HEAD"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except FileNotFoundError:  # no git
        return 0
    return int(done.stdout, 16) if done.returncode == 0 else 0


def parameters(faults: Iterable[Any], sample: Container[Any], shares: int = 1) -> list[Any]:
    """Every fault under its name.

    Args:
        faults: each with a name.
        sample: those that ``make test`` runs.
        shares: into how many the others are divided, of which ``make proofs`` runs one.
    """

    def marks(fault: Any) -> Any:
        if fault in sample:
            return ()
        due = (zlib.crc32(fault.name.encode()) + turn()) % shares == 0
        return pytest.mark.proof if due else pytest.mark.nightly

    return [pytest.param(fault, id=fault.name, marks=marks(fault)) for fault in faults]
