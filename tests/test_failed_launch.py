"""A launch that fails has changed nothing, so that the step can be made again."""

from typing import Any

import pytest

from adamp_fused._triton import load_kernels
from conftest import Kind
from gradients import SCRIPT
from parity import model, run
from targets import TARGETS

TRITON = next(target for target in TARGETS if target.name == "triton")


class Failing:
    """In place of a kernel: what Triton raises where one does not compile, or needs too much."""

    def __getitem__(self, grid: Any) -> Any:
        raise RuntimeError("out of resource")


def test_triton(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither values nor step counts nor versions; the next step is the one that failed."""
    kernels, missing = load_kernels()
    if kernels is None:
        pytest.skip(f"Triton is not installed: {missing}")
    optimizer, pairs = model(kind, TRITON)
    run(optimizer, pairs, SCRIPT[:2])
    tensors = [t for pair in pairs for t in (pair.p, *optimizer.state[pair.p].values())]
    before = [(t.tolist(), t._version) for t in tensors]
    with monkeypatch.context() as patched:
        patched.setattr(kernels, "step_kernel", Failing())
        for pair in pairs:
            pair.p.grad = pair.p.detach().cos()
        with pytest.raises(RuntimeError, match="out of resource"):
            optimizer.step()
    assert [(t.tolist(), t._version) for t in tensors] == before
    run(optimizer, pairs, SCRIPT[2:5])
