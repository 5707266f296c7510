"""Triton reads 16 bytes at a time where the tables promise aligned memory: the promise is true.

Where it is not, a GPU faults or reads another element; the interpreter would not notice by itself.
"""

from typing import Any

import pytest
import torch

from conftest import Kind
from parity.cases import DECAY, STATE_KEYS, Shape
from parity.gradients import generator, scripted
from parity.layouts import channels_last, misaligned
from parity.oracle import CHANNEL, LAYER, NONE
from parity.pairs import weights
from parity.shards import Cut, Processes
from parity.targets import GPU, Target

pytestmark = pytest.mark.skipif(
    GPU, reason="a program's addresses can be looked at in Triton's interpreter only"
)
TRITON = Target("triton", "triton", "cpu", slow=True)
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
EVEN = (
    Shape("even_rows", (300, 64), "several tiles, which are come back to"),
    Shape("even_filters", (8, 8, 4, 2), "rows of 64 elements, also in channels_last"),
    Shape("even_vector", (64,), "one tile, unprojected"),
)
UNEVEN = (
    Shape("uneven_rows", (300, 13), "several tiles, in which rows start anywhere"),
    Shape("uneven_filters", (4, 3, 3, 3), "the same in channels_last"),
    Shape("uneven_end", (1009,), "starts well and ends within a vector"),
)
TWO_SPANS = Shape("two_spans", (16_399,), "one tile of whole vectors, then one that is not")


@pytest.fixture
def promised(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Which accesses were made as aligned ones, one by one; those that were are checked."""
    stages: Any = pytest.importorskip("adamp_fused.backends.triton.stages", reason="no Triton")
    pointer, accesses = stages.pointer, []

    def checked(base: Any, start: Any, offset: Any, dtype: Any, aligned: Any) -> Any:
        address = pointer(base, start, 0, dtype, False).handle.data
        assert not aligned or (address % 16 == 0).all(), f"promised to be aligned: {address}"
        accesses.append(bool(aligned))
        return pointer(base, start, offset, dtype, aligned)

    monkeypatch.setattr(stages, "pointer", checked)
    return accesses


def train(
    kind: Kind, dtype: torch.dtype, shape: Shape, layout: Any, parts: str = "pg", since: int = 0
) -> Any:
    """Yield before each step; ``parts`` (p, g, s: state) come in ``layout`` from ``since`` on.

    Outcomes come unexpectedly, so that tiles are come back to.
    """
    p, rng = weights(shape, dtype), generator(1)
    optimizer = kind.make([p], TRITON)
    for number, outcome in enumerate((NONE, CHANNEL, CHANNEL, NONE)):
        p.grad = scripted(p.detach().double(), outcome, rng).to(dtype)
        if number >= since and "g" in parts:
            p.grad = layout(p.grad)
        if number == since and "p" in parts:
            p.data = layout(p.data)
        if number == since and "s" in parts:
            state = optimizer.state[p]
            state |= {key: layout(state[key]) for key in STATE_KEYS[kind.name]}
        yield number
        optimizer.step()


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
@pytest.mark.parametrize(
    "layout", [torch.clone, channels_last], ids=["contiguous", "channels_last"]
)
def test_promised_wherever_true(
    promised: list[bool], kind: Kind, dtype: torch.dtype, layout: Any
) -> None:
    """Rows of whole vectors are read in vectors, and no others are."""
    for shape in (*EVEN, *UNEVEN):
        promised.clear()
        for _ in train(kind, dtype, shape, layout):
            pass
        assert set(promised) == {shape in EVEN}, shape


@pytest.mark.parametrize(("parts", "since"), [("p", 0), ("g", 0), ("p", 1), ("g", 1), ("s", 1)])
def test_one_tensor_off(promised: list[bool], kind: Kind, parts: str, since: int) -> None:
    """One tensor that starts between vectors is enough, also when it moves there later."""
    for dtype, shape in zip((torch.float32, torch.float64, torch.bfloat16), EVEN, strict=True):
        for number in train(kind, dtype, shape, misaligned, parts, since):
            if number == since:
                promised.clear()
        assert set(promised) == {False}, (shape, dtype)


@pytest.mark.parametrize(
    ("cut", "aligned"), [(Cut("rows", (0.5,)), True), (Cut("cols", (), (0.3,)), False)]
)
def test_parts(promised: list[bool], kind: Kind, cut: Cut, aligned: bool) -> None:
    """Of a tensor in parts the part that is here counts; it is come back to in a second launch."""
    processes = Processes(kind, TRITON, EVEN[:1], cut, **DECAY)
    for outcome in (CHANNEL, LAYER):
        processes.step(outcome, "step")
    assert set(promised) == {aligned}


def test_end_of_a_row(promised: list[bool], kind: Kind) -> None:
    """A long vector is read in vectors up to its last span, which ends within one."""
    for _ in train(kind, torch.float32, TWO_SPANS, torch.clone):
        pass
    assert set(promised) == {True, False}
