"""Planted faults in the CUDA kernels: the emulation must notice each."""

import shutil
import tempfile
from pathlib import Path

import pytest

from kernels.emulation import build
from kernels.emulation.mutations import MUTATIONS, SAMPLE, Mutation
from kernels.emulation.verdicts import caught
from kernels.faults import parameters

pytestmark = pytest.mark.skipif(
    shutil.which(build.compiler()) is None, reason=f"no C++ compiler ({build.compiler()})"
)


@pytest.mark.parametrize("mutation", parameters(MUTATIONS, SAMPLE, shares=8))
def test_noticed(mutation: Mutation) -> None:
    """Something is wrong, and it is said."""
    with tempfile.TemporaryDirectory() as folder:  # of many megabytes, hence not pytest's
        assert caught(mutation, Path(folder))
