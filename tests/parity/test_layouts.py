"""The layout of weights, gradients and state in memory changes no value."""

import gc
from itertools import cycle
from typing import Any

import pytest
import torch

from adamp_fused._layout import in_layout
from adamp_fused.backends.registry import BACKENDS
from conftest import Kind
from parity.cases import DECAY, STATE_KEYS, Shape
from parity.layouts import LAYOUTS, channels_last, contiguous, negated, sliced, transposed
from parity.pairs import Pair, run, weights
from parity.targets import Target

SHAPES = (
    Shape("matrix", (6, 10), "two dimensions: channels_last means nothing"),
    Shape("filters", (8, 6, 3, 3), "the shape that channels_last is for"),
    Shape("depthwise_filters", (5, 1, 3, 3), "size 1: strides differ and the memory does not"),
    Shape("pointwise_filters", (9, 7, 1, 1), "the other way round"),
    Shape("volume", (3, 4, 2, 3, 5), "channels_last_3d"),
)


class LaidOut(Pair):
    """A pair whose gradient comes in a layout, and which sees that a step moves nothing."""

    def __init__(self, shape: Shape, layout: Any, kind: Kind, backend: Target) -> None:
        """Lay the weights out; gradients are contiguous until told otherwise."""
        p = weights(shape, device=backend.device)
        p.data = layout(p.data)
        super().__init__(shape, p, kind.name, kind.options | DECAY, backend)
        self.grad_layout = contiguous

    def advance(self, outcome: int, state: dict[str, Any]) -> None:
        """Lay out the gradient that both get."""
        super().advance(outcome, state)
        self.p.grad = self.grad_layout(self.p.grad)
        self.grad_before, self.places = self.p.grad.clone(), self.where()

    def check(self, state: dict[str, Any], what: str) -> None:
        """Compare values; neither weights nor gradient were moved, nor the gradient changed."""
        super().check(state, f"{what}, gradient {self.grad_layout.__name__}")
        assert torch.equal(self.p.grad, self.grad_before)
        assert self.where() == self.places

    def where(self) -> list[Any]:
        """Addresses and strides of weights and gradient."""
        return [(x.data_ptr(), x.stride()) for x in (self.p, self.p.grad)]


def laid_out(kind: Kind, backend: Target, *layouts: Any) -> tuple[Any, list[LaidOut]]:
    """One optimizer over each shape in each layout, and its pairs."""
    wanted = SHAPES[:2] if backend.slow else SHAPES
    pairs = [LaidOut(shape, layout, kind, backend) for shape in wanted for layout in layouts]
    return kind.make([pair.p for pair in pairs], backend, **DECAY), pairs


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_weights_and_gradients(backend: Target, kind: Kind, layout: Any) -> None:
    """Each layout of the weights with each of the gradients, all in one optimizer."""
    optimizer, pairs = laid_out(kind, backend, *[layout] * len(LAYOUTS))
    for pair, grad_layout in zip(pairs, cycle(LAYOUTS.values()), strict=False):
        pair.grad_layout = grad_layout
    run(optimizer, pairs, backend.script[:4] if backend.slow else backend.script)


def test_gradient_layout_changes_between_steps(backend: Target, kind: Kind) -> None:
    """A gradient may arrive in another layout at every step."""
    optimizer, pairs = laid_out(kind, backend, contiguous, channels_last)
    for outcome, grad_layout in zip(backend.script, cycle(LAYOUTS.values()), strict=False):
        for pair in pairs:
            pair.grad_layout = grad_layout
        run(optimizer, pairs, (outcome,))


@pytest.mark.parametrize("state_layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_state(backend: Target, kind: Kind, state_layout: Any) -> None:
    """State in another layout than the weights, as a checkpoint of another model may bring it."""
    optimizer, pairs = laid_out(kind, backend, contiguous, channels_last)
    run(optimizer, pairs, backend.script[:2])
    for pair in pairs:
        state = optimizer.state[pair.p]
        state |= {key: state_layout(state[key]) for key in STATE_KEYS[kind.name]}
    run(optimizer, pairs, backend.script[2:])


def test_state_is_brought_into_the_layout_once(
    backend: Target, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A contiguous checkpoint beside channels_last weights: copied once, not at every step."""
    optimizer, pairs = laid_out(kind, backend, channels_last)
    run(optimizer, pairs, backend.script[:1])
    saved = optimizer.state_dict()
    for state in saved["state"].values():
        state |= {key: state[key].contiguous() for key in STATE_KEYS[kind.name]}
    optimizer.load_state_dict(saved)
    plans = made_plans(backend, monkeypatch)
    for pair in pairs:
        pair.grad_layout = channels_last
    run(optimizer, pairs, backend.script[1:4])
    if not BACKENDS[backend.name].needs_row_layout:
        return  # the reference walks any layout as it is
    assert len(plans) == 1
    for pair in pairs:
        for key in STATE_KEYS[kind.name]:
            assert in_layout(optimizer.state[pair.p][key], pair.p.stride())


def made_plans(backend: Target, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that every plan which a backend makes from now on is added to."""
    used, plans = BACKENDS[backend.name], []
    plan = used.plan
    monkeypatch.setattr(used, "plan", lambda *args: plans.append(plan(*args)) or plans[-1])
    return plans


def test_state_replaced_after_another_gradient_layout(backend: Target, kind: Kind) -> None:
    """A step on a copy of the gradient leaves a plan; it notices state that is replaced then."""
    optimizer, pairs = laid_out(kind, backend, contiguous)
    for grad_layout, outcome in zip((sliced, contiguous), backend.script, strict=False):
        for pair in pairs:
            pair.grad_layout = grad_layout
        run(optimizer, pairs, (outcome,))
        for pair in pairs:
            state = optimizer.state[pair.p]
            state |= {key: state[key].clone() for key in STATE_KEYS[kind.name]}


def test_weights_without_gradient(backend: Target, kind: Kind) -> None:
    """Weights that are stepped on a copy are not written where they have no gradient."""
    optimizer, pairs = laid_out(kind, backend, contiguous, transposed)
    run(optimizer, pairs, backend.script[:1])
    active, passive = pairs[:1], pairs[1:]
    for pair in passive:
        pair.p.grad = None
    before = [(pair.p.detach().clone(), pair.p._version) for pair in passive]
    run(optimizer, active, backend.script[1:2])
    for pair, (values, version) in zip(passive, before, strict=True):
        assert torch.equal(pair.p, values) and pair.p._version == version


def test_weights_layout_changes_between_steps(backend: Target, kind: Kind) -> None:
    """Weights given another memory format in the middle of training go on as before."""
    optimizer, pairs = laid_out(kind, backend, contiguous)
    for outcome, layout in zip(backend.script, cycle(LAYOUTS.values()), strict=False):
        for pair in pairs:
            pair.p.data = layout(pair.p.data)
        run(optimizer, pairs, (outcome,))


def test_negated_gradient(backend: Target, kind: Kind) -> None:
    """A gradient with the lazy sign that complex arithmetic leaves: its memory holds -g."""
    optimizer, pairs = laid_out(kind, backend, contiguous, channels_last)
    for pair in pairs:
        pair.grad_layout = negated
    run(optimizer, pairs, backend.script)


def test_expanded_gradient(backend: Target, kind: Kind) -> None:
    """A gradient with stride 0, as that of a sum, is worth its copy."""
    shape, results = SHAPES[1], []
    for grad in (torch.ones(1, 1, 1, 1).expand(shape.shape), torch.ones(shape.shape)):
        p = weights(shape, device=backend.device)
        p.grad = grad.to(backend.device)
        kind.make([p], backend).step()
        results.append(p.detach())
    assert torch.equal(*results)


def test_copies_are_let_go_of(backend: Target, kind: Kind) -> None:
    """Copies of weights and moments, where a step needs them, are gone after it."""
    p = torch.nn.Parameter(transposed(torch.ones(11, 17, device=backend.device)))
    p.grad = torch.ones_like(p)

    def tensors() -> int:
        return sum(
            issubclass(type(x), torch.Tensor) and x.shape == p.shape for x in gc.get_objects()
        )

    optimizer, before = kind.make([p], backend), tensors()
    optimizer.step()
    assert tensors() == before + len(STATE_KEYS[kind.name])
