"""The oracle itself: it agrees with the official package, and its gradients do as they are told."""

import inspect
from itertools import pairwise, product

import pytest
import torch

from conftest import KINDS, Kind
from parity import gradients, oracle
from parity.cases import OPTIONS, STATE_KEYS, Shape, shapes
from parity.gradients import SCRIPT, generator, noise, reachable, scripted
from parity.oracle import CHANNEL, LAYER, NONE
from parity.pairs import ORACLES, weights

OURS_ALONE = {"maximize", "projection", "project_buffer"}
SHARED = [
    pytest.param(kind, options, id=f"{kind.name}-{name}")
    for kind in KINDS
    for name, options in OPTIONS[kind.name].items()
    if not OURS_ALONE & options.keys()
]
SOME = ("scalar", "bias", "two_by_two", "single_row", "column", "odd", "conv", "five_dims")


@pytest.mark.parametrize(("kind", "options"), SHARED)
@pytest.mark.parametrize("shape", shapes(*SOME), ids=lambda shape: shape.name)
def test_agrees_with_official(kind: Kind, options: dict, shape: Shape) -> None:
    """Weights, moments and buffers agree in float64 over 20 steps through all outcomes."""
    p = weights(shape, torch.float64)
    twin, state, rng = p.detach().clone(), {}, generator(0)
    optimizer = kind.official([p], **options)
    for outcome in SCRIPT:
        p.grad = scripted(twin, outcome, rng)
        optimizer.step()
        step = ORACLES[kind.name](twin, p.grad, state, **(kind.options | options))
        twin, state = step.p, step.state
        torch.testing.assert_close(p.detach(), twin, rtol=1e-12, atol=1e-12)
        for key in STATE_KEYS[kind.name]:
            torch.testing.assert_close(optimizer.state[p][key], state[key], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", shapes(*SOME, "longer_than_blocks"), ids=lambda s: s.name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_gradients_lead_where_told(shape: Shape, dtype: torch.dtype) -> None:
    """After rounding to storage too, each reachable outcome comes, with a margin."""
    p, rng = weights(shape, dtype).detach(), generator(1)
    for outcome in (NONE, CHANNEL, LAYER):
        grad = scripted(p.double(), outcome, rng).to(dtype)
        view, margin = oracle.choose(p.double(), grad.double(), "auto", 0.1, 1e-8)
        assert view == (outcome if outcome in reachable(shape.shape) else NONE)
        assert margin > 3


def test_script_has_every_change() -> None:
    """The script has every ordered pair of outcomes, so every kind of wrong guess."""
    assert set(pairwise(SCRIPT)) == set(product((NONE, CHANNEL, LAYER), repeat=2))


@pytest.mark.parametrize("view", [CHANNEL, LAYER])
def test_projection_leaves_nothing_along_p(view: int) -> None:
    """A projected update has no part along p in any row of its view, with or without a unit."""
    p, u = (noise(torch.Size((6, 10)), generator(seed)) for seed in (2, 3))
    left = oracle.project(u, p, view, eps=0.0)
    assert oracle.rows(left * p, view).sum(1).abs().max() < 1e-13
    assert (left - u).abs().max() > 1e-2


def test_imports_nothing_of_the_package() -> None:
    """The oracle stands on its own, and so do the gradients that it is fed."""
    for module in (oracle, gradients):
        assert "adamp_fused" not in inspect.getsource(module)
