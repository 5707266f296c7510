"""Tensors that a step writes lie apart in memory, or nothing is written at all."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from adamp_fused._memory import check_apart
from conftest import Kind
from parity.cases import Shape
from parity.gradients import generator
from parity.pairs import Pair, model, step_and_check
from parity.targets import Target

Views = Callable[[Tensor], tuple[Tensor, ...]]
#: Two views of a buffer of 600 that have an element in common.
OVERLAPPING: dict[str, Views] = {
    "the same": lambda b: (b.view(20, 30), b.view(20, 30)),
    "in another shape": lambda b: (b.view(20, 30), b.view(30, 20)),
    "by one element": lambda b: (b[:100].view(10, 10), b[99:199].view(10, 10)),
    "the later one first": lambda b: (b[99:199].view(10, 10), b[:100].view(10, 10)),
    "one within the other": lambda b: (b.view(6, 100), b[500:520]),
    "columns": lambda b: (b.view(20, 30)[:, :16], b.view(20, 30)[:, 15:]),
    "a column of the other": lambda b: (b.view(20, 30), b.view(20, 30)[:, 3]),
    "a row across columns": lambda b: (b.view(20, 30)[:, :5], b.view(20, 30)[7]),
    "transposed": lambda b: (b.view(20, 30), b.view(20, 30).t()),
    "a vector and a scalar": lambda b: (b[10:20], b[19]),
}
#: Views that lie in one buffer and have no element in common.
APART: dict[str, Views] = {
    "adjacent": lambda b: (b[:200].view(10, 20), b[200:201], b[201:]),
    "columns": lambda b: (b.view(20, 30)[:, :16], b.view(20, 30)[:, 16:]),
    "every second": lambda b: (b[::2], b[1::2]),
    "columns around a vector": lambda b: (b[:300].view(10, 30)[:, 4:], b[300:].view(10, 30)),
    "between rows": lambda b: (b.view(20, 30)[::2], b.view(20, 30)[1], b.view(20, 30)[3]),
}


def buffer(backend: Target) -> Tensor:
    """The memory that views share."""
    return torch.randn(600, generator=generator(3)).to(backend.device)


@pytest.mark.parametrize("views", OVERLAPPING.values(), ids=OVERLAPPING)
def test_overlaps_are_refused(backend: Target, kind: Kind, views: Views) -> None:
    """The message names both, and nothing has changed."""
    memory = buffer(backend)
    params = [Parameter(torch.ones(4, 4, device=backend.device)), *map(Parameter, views(memory))]
    optimizer = kind.make(params, backend)
    for p in params:
        p.grad = torch.ones_like(p)
    before = memory.tolist()
    with pytest.raises(
        ValueError, match=r"parameter [12] of .* and parameter [12] .* share memory"
    ):
        optimizer.step()
    assert memory.tolist() == before and params[0].eq(1).all() and not optimizer.state


@pytest.mark.parametrize("views", APART.values(), ids=APART)
def test_views_that_lie_apart_are_stepped(backend: Target, kind: Kind, views: Views) -> None:
    """Buckets of all weights, and views that interleave: the values of weights by themselves."""
    pairs = []
    for i, view in enumerate(views(buffer(backend))):
        shape = Shape(f"view {i}", tuple(view.shape), "a view of a buffer")
        pairs.append(Pair(shape, Parameter(view), kind.name, kind.options, backend))
    optimizer = kind.make([pair.p for pair in pairs], backend)
    for number, outcome in enumerate((0, 1, 2, 0)):
        step_and_check(optimizer, pairs, [outcome] * len(pairs), f"step {number}")


def test_shared_state_is_refused(backend: Target, kind: Kind) -> None:
    """Two parameters with one moment, or one parameter with its moment in its own memory."""
    optimizer, pairs = model(kind, backend, "odd", "odd")
    step_and_check(optimizer, pairs, [0, 0], "before")
    key = "exp_avg" if kind.name == "AdamP" else "momentum"
    one, other = (pair.p for pair in pairs)
    own = optimizer.state[other][key]
    for shared in (optimizer.state[one][key], other.detach(), one.detach()):
        optimizer.state[other][key] = shared
        with pytest.raises(ValueError, match=f"the state '{key}' of parameter 1 .*share memory"):
            optimizer.step()
    optimizer.state[other][key] = own
    step_and_check(optimizer, pairs, [0, 1], "after")


def test_a_parameter_that_gets_no_step_may_overlap(backend: Target, kind: Kind) -> None:
    """A weight and a view of it that is not trained, as some models keep for inference."""
    p = Parameter(torch.ones(6, 7, device=backend.device))
    view = Parameter(p.data[2:5], requires_grad=False)
    optimizer = kind.make([p, view], backend)
    for _ in range(2):
        p.grad = torch.ones_like(p)
        optimizer.step()
    assert not p.eq(1).any()


def test_ten_thousand_interleaved_columns() -> None:
    """All spans overlap and no two elements: each element is looked at once, not each pair."""
    memory = torch.empty(50, 10_000)
    columns: list[Any] = [(memory[:, i], f"column {i}", None) for i in range(10_000)]
    check_apart(columns)
    columns.append((memory[7:9, 5_000:5_002], "the intruder", "key"))
    with pytest.raises(ValueError, match="column 5000 and the state 'key' of the intruder share"):
        check_apart(columns)


def test_lazy_clones_keep_their_values(backend: Target, kind: Kind) -> None:
    """What copies on write is never written through, neither by weights nor by state."""
    optimizer, pairs = model(kind, backend, "odd", "bias")
    for number in range(4):
        clones = []
        for pair in pairs:
            written = [pair.p.detach(), *optimizer.state.get(pair.p, {}).values()]
            clones += [(torch._lazy_clone(x), x.tolist()) for x in written]
            if number == 3:  # and a weight that is the clone itself
                pair.p.data = torch._lazy_clone(pair.p.detach())
        step_and_check(optimizer, pairs, [number % 3] * len(pairs), f"step {number}")
        assert all(clone.tolist() == values for clone, values in clones)
