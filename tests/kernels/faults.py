"""Planted faults as parameters of a test: a sample for ``make test``, all for ``make proofs``."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def parameters(faults: Iterable[Any], sample: Container[Any]) -> list[Any]:
    """Every fault under its name; those that are not of the sample are left to ``make proofs``."""
    return [
        pytest.param(fault, id=fault.name, marks=() if fault in sample else pytest.mark.proof)
        for fault in faults
    ]
