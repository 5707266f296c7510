"""Gradients that come late, stay away, move in memory or stay where they are."""

import weakref

import pytest
import torch

from conftest import Kind
from parity.cases import DECAY, shapes
from parity.gradients import SCRIPT, generator
from parity.layouts import contiguous, misaligned
from parity.pairs import model, run, weights
from parity.targets import Target


def test_parameters_without_gradient(backend: Target, kind: Kind) -> None:
    """Gradients that come late, stay away or come now and then; who has none is not touched."""
    optimizer, pairs = model(kind, backend, "odd", "bias", "two_by_two", "column")
    # Which of the four have a gradient in each step; in two steps none has.
    patterns = ("0", "01", "0123", "12", "", "03", "13", "0123", "", "2")
    for outcome, pattern in zip(SCRIPT, patterns, strict=False):
        active = [pairs[int(index)] for index in pattern]
        passive = [pair for pair in pairs if pair not in active]
        before = [(pair.p.detach().clone(), pair.p._version) for pair in passive]
        run(optimizer, active, (outcome,))
        for pair, (values, version) in zip(passive, before, strict=True):
            assert torch.equal(pair.p, values) and pair.p._version == version
        for pair in active:
            pair.p.grad = None


@pytest.mark.parametrize("to_none", [True, False])
def test_zero_grad(backend: Target, kind: Kind, to_none: bool) -> None:
    """Gradients that move in memory, and gradients that stay where they are and are zero."""
    optimizer, pairs = model(kind, backend)
    kept = []
    for outcome in SCRIPT[:4]:
        run(optimizer, pairs, (outcome,))
        optimizer.zero_grad(set_to_none=to_none)
        kept.append([torch.empty_like(pair.p) for pair in pairs])  # so that the next ones move
    before = [pair.p.detach().clone() for pair in pairs]
    optimizer.step()
    for pair, old in zip(pairs, before, strict=True):
        assert torch.equal(pair.p, old) == to_none, "a zero gradient still has momentum"


def test_zero_grad_frees(backend: Target, kind: Kind) -> None:
    """No gradient is held from one step to the next, where it would add to the next backward."""
    optimizer, pairs = model(kind, backend)
    for outcome in SCRIPT[:3]:
        run(optimizer, pairs, (outcome,))
        gradients = [weakref.ref(pair.p.grad) for pair in pairs]
        optimizer.zero_grad()
        assert all(gradient() is None for gradient in gradients)


def test_gradients_written_in_place(backend: Target, kind: Kind) -> None:
    """Gradients at one address for all steps, as flat buffers of gradients have them."""
    optimizer, pairs = model(kind, backend)
    buffers = [torch.empty_like(pair.p) for pair in pairs]
    for outcome in SCRIPT[:6]:
        for pair, buffer in zip(pairs, buffers, strict=True):
            pair.advance(outcome, optimizer.state.get(pair.p, {}))
            pair.p.grad = buffer.copy_(pair.p.grad)
        optimizer.step()
        for pair in pairs:
            pair.check(optimizer.state[pair.p], "in place")


def test_gradients_of_one_tensor(backend: Target, kind: Kind) -> None:
    """Gradients that are views of one flat tensor start wherever the one before them ends."""
    optimizer, pairs = model(kind, backend, "one", "odd", "prime_vector", "two_by_two")
    for outcome in SCRIPT[:4]:
        for pair in pairs:
            pair.advance(outcome, optimizer.state.get(pair.p, {}))
        flat = torch.cat([pair.p.grad.flatten() for pair in pairs])
        for pair, part in zip(pairs, flat.split([pair.p.numel() for pair in pairs]), strict=True):
            pair.p.grad = part.view_as(pair.p)
        optimizer.step()
        for pair in pairs:
            pair.check(optimizer.state[pair.p], "views")


def test_same_gradient_twice(backend: Target, kind: Kind) -> None:
    """Two parameters may share one gradient tensor."""
    optimizer, pairs = model(kind, backend, "odd", "odd")
    for outcome in SCRIPT[:3]:
        for pair in pairs:
            pair.advance(outcome, optimizer.state.get(pair.p, {}))
        assert torch.equal(pairs[0].p.grad, pairs[1].p.grad)
        pairs[1].p.grad = pairs[0].p.grad
        optimizer.step()
        for pair in pairs:
            pair.check(optimizer.state[pair.p], "shared")


def test_alignment_changes_no_bit(backend: Target, kind: Kind) -> None:
    """Wherever a gradient lies in memory, a run comes to the same bits."""
    shape = shapes("odd" if backend.slow else "several_blocks")[0]
    runs = []
    for layout in (contiguous, misaligned):
        p = weights(shape, device=backend.device)
        optimizer = kind.make([p], backend, **DECAY)
        rng = generator(0)
        for _ in range(3):
            p.grad = layout(torch.randn(shape.shape, generator=rng).to(p.device))
            optimizer.step()
        runs.append([p, *optimizer.state[p].values()])
    assert all(map(torch.equal, *runs))
