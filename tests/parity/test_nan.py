"""A NaN gradient never projects, and stays in its own tensor."""

import pytest
import torch
from torch import Tensor

from conftest import Kind
from parity.cases import DECAY, shapes
from parity.gradients import generator, noise, scripted
from parity.oracle import CHANNEL, LAYER, NONE
from parity.pairs import ORACLES, assert_close, weights
from parity.targets import Target

NAN, INF = float("nan"), float("inf")
SHAPES = shapes("bias", "odd", "two_by_two", "above_vector")
AT = (-1, -1)  # of the second


def step(kind: Kind, backend: Target, value: float | None, **options: str) -> tuple:
    """One step of a small model, the last element of one gradient replaced."""
    params = [weights(shape, device=backend.device) for shape in SHAPES]
    rng = generator(0)
    grads = [noise(p.shape, rng) for p in params]
    # At right angles, so that without the NaN the tensor would be projected.
    p = params[1].detach().double().cpu()
    grads[1] -= p * (grads[1] * p).sum(1, keepdim=True) / (p * p).sum(1, keepdim=True)
    if value is not None:
        grads[1][AT] = value
    for q, grad in zip(params, grads, strict=True):
        q.grad = grad.to(q)
    optimizer = kind.make(params, backend, **DECAY, **options)
    optimizer.step()
    return params, optimizer.state, grads


def check_unprojected(kind: Kind, before: Tensor, grad: Tensor, state: dict, got: Tensor) -> None:
    """Finite elements are what the equations give without projection; the spoilt one is not."""
    options = kind.options | DECAY | {"projection": "off"}
    want = ORACLES[kind.name](before, grad, state, **options).p
    healthy, got = grad.isfinite(), got.detach().cpu()
    assert_close(got[healthy], want[healthy], 2e-5 * want[healthy].abs() + 2e-6, "weights")
    assert not got[~healthy].isfinite().any()


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_never_projects(backend: Target, kind: Kind, value: float) -> None:
    """The outcome is none, and the other elements are updated as if nothing had happened."""
    params, state, grads = step(kind, backend, value)
    assert state[params[1]]["view"].item() == NONE
    check_unprojected(kind, weights(SHAPES[1]).detach(), grads[1], {}, params[1])


def test_would_project_without_it(backend: Target, kind: Kind) -> None:
    """The same gradient without the NaN is projected: the tests above can fail."""
    params, state, _ = step(kind, backend, None)
    assert state[params[1]]["view"].item() == CHANNEL


@pytest.mark.parametrize("projection", ["auto", "channel", "layer", "off"])
def test_stays_in_its_tensor(backend: Target, kind: Kind, projection: str) -> None:
    """Whatever the projection, every other tensor and its state have the same bits without it."""
    params, state, _ = step(kind, backend, NAN, projection=projection)
    clean, clean_state, _ = step(kind, backend, None, projection=projection)
    for index in (0, 2, 3):
        assert torch.equal(params[index], clean[index])
        for key, want in clean_state[clean[index]].items():
            assert torch.equal(state[params[index]][key], want)


def test_forced_channel_keeps_to_its_row(backend: Target, kind: Kind) -> None:
    """A forced channel projection spoils the row of the NaN and no other."""
    params, _, _ = step(kind, backend, NAN, projection="channel")
    rows = params[1].detach().isfinite().all(dim=1)
    assert rows[:-1].all() and not rows[-1]


@pytest.mark.parametrize("before", [CHANNEL, LAYER])
def test_after_a_projection(backend: Target, kind: Kind, before: int) -> None:
    """A tensor that was projected one step ago keeps its finite elements: it is rolled back."""
    (shape,) = shapes("odd")
    p = weights(shape, device=backend.device)
    optimizer = kind.make([p], backend, **DECAY)
    p.grad = scripted(p.detach().double().cpu(), before, generator(1)).to(p)
    optimizer.step()
    assert optimizer.state[p]["view"].item() == before
    old = {key: value.cpu().clone() for key, value in optimizer.state[p].items()}
    grad = noise(p.shape, generator(2))
    grad[AT] = NAN
    weights_before = p.detach().cpu().clone()
    p.grad = grad.to(p)
    optimizer.step()
    assert optimizer.state[p]["view"].item() == NONE
    check_unprojected(kind, weights_before, grad, old, p)
