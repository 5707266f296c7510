"""``stats()`` of every backend against the oracle's, and steps that it must not change."""

import copy
import math
from typing import Any

import pytest
import torch

from conftest import KINDS, Kind
from parity.cases import OPTIONS, SHAPES, THIN, Shape, shapes
from parity.gradients import generator, noise
from parity.pairs import ORACLES, Pair, pairs_of, weights
from parity.stats_oracle import OUTCOMES, norm, stats_of
from parity.targets import Target

KEYS = {
    *("outcome", "outcomes", "max_cosine", "bound", "weight_norm", "grad_norm", "update_norm"),
    *("removed", "effective_lr", "angle", "growth"),
}
# Of each number's own size. Cosines and shares below 1e-3 are those of sums that cancel.
RELATIVE = {
    torch.float64: 1e-9,
    torch.float32: 2e-4,
    torch.bfloat16: 2e-2,
    torch.float16: 5e-3,
}
EXACTLY = ("outcome", "outcomes")
# Roots of a difference of sums: where it is nearly 0, what is left is the root of the sums'
# rounding, beside the size of the whole update.
ROOTS = ("update_norm", "effective_lr", "angle", "removed")
CANCELLED = {torch.float64: 1e-7, torch.float32: 1e-3, torch.bfloat16: 1e-3, torch.float16: 1e-3}

CASES = {
    "AdamP": ("weight_decay", "nesterov", "eps_large", "maximize", "off", "channel", "layer"),
    "SGDP": ("weight_decay", "nesterov", "dampening", "off", "channel", "layer", "paper"),
}
VARIANTS = [
    pytest.param(kind, OPTIONS[kind.name][name], id=f"{kind.name}-{name}")
    for kind in KINDS
    for name in CASES[kind.name]
]


class Recorded:
    """What the oracle says of a pair, step by step."""

    def __init__(self, pair: Pair) -> None:
        """Before the first step."""
        self.pair = pair
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.first_norm: float | None = None

    def expected(self) -> dict[str, Any]:
        """After the pair has advanced."""
        pair = self.pair
        before, state = pair.before
        grad = pair.p.grad.cpu()
        want = stats_of(ORACLES[pair.kind], before, grad, state, pair.options, pair.tolerance.store)
        self.outcomes[want["outcome"]] += 1
        if self.first_norm is None:
            self.first_norm = norm(before)
        growth = norm(before) / self.first_norm
        return {**want, "outcomes": dict(self.outcomes), "growth": growth}


def assert_stats(got: dict[str, Any], want: dict[str, Any], dtype: torch.dtype, what: str) -> None:
    """Compare every number."""
    assert set(got) == KEYS
    raw = want["raw_norm"]
    sizes = {"update_norm": raw, "removed": 1.0}
    sizes["effective_lr"] = sizes["angle"] = want["raw_lr"]
    for key in KEYS:
        value = want[key]
        if key in EXACTLY:
            assert got[key] == value, f"{what}: {key}"
        else:
            bound = RELATIVE[dtype] * abs(value)
            if key in ROOTS:
                bound += CANCELLED[dtype] * sizes[key]
            if key == "max_cosine":  # a sum that cancels, of cosines up to 1
                bound += RELATIVE[dtype] * 1e-2
            assert abs(got[key] - value) <= bound, f"{what}: {key} is {got[key]}, want {value}"


def run(kind: Kind, backend: Target, pairs: list[Pair], **options: Any) -> None:
    """Steps through all outcomes, compared after each."""
    named = [(f"w{i}", pair.p) for i, pair in enumerate(pairs)]
    optimizer = kind.make(named, backend, stats=True, **options)
    recorded = {f"w{i}": Recorded(pair) for i, pair in enumerate(pairs) if pair.p.numel() > 0}
    for number in range(min(len(backend.script), 7)):
        for i, pair in enumerate(pairs):
            outcome = backend.script[(number + i) % len(backend.script)]
            pair.advance(outcome, optimizer.state.get(pair.p, {}))
        wanted = {name: one.expected() for name, one in recorded.items()}
        optimizer.step()
        got = optimizer.stats()
        assert list(got) == list(recorded)
        for name, want in wanted.items():
            pair = recorded[name].pair
            pair.check(optimizer.state[pair.p], f"step {number + 1}")
            what = f"step {number + 1}, {pair.shape.name}"
            assert_stats(got[name], want, pair.p.dtype, what)


@pytest.mark.parametrize("dtype", RELATIVE, ids=lambda dtype: str(dtype)[6:])
def test_shapes(backend: Target, kind: Kind, dtype: torch.dtype) -> None:
    """All shapes in one optimizer."""
    options = {"weight_decay": 0.1} | ({"lr": 0.1} if dtype.itemsize == 2 else {})
    wanted = backend.few if backend.slow else SHAPES
    run(kind, backend, pairs_of(kind, wanted, dtype, backend, **options), **options)


@pytest.mark.parametrize("thin", THIN, ids=lambda shape: shape.name)
def test_thin_rows(kind: Kind, backend: Target, thin: Shape) -> None:
    """Rows that are worked on many at a time."""
    if backend.slow:
        pytest.skip(f"{backend.label}: slow, and has no code of its own for thin rows")
    run(kind, backend, pairs_of(kind, (thin,), torch.float32, backend))


@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_options(backend: Target, kind: Kind, options: dict[str, Any]) -> None:
    """Each option that changes what a step does."""
    wanted = shapes("bias", "odd") if backend.slow else backend.few
    run(kind, backend, pairs_of(kind, wanted, torch.float32, backend, **options), **options)


@pytest.mark.parametrize("projection", ["auto", "channel", "layer", "off"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_steps_are_the_same_bits(
    backend: Target, kind: Kind, projection: str, dtype: torch.dtype
) -> None:
    """Weights and state do not depend on whether statistics are collected."""
    wanted = backend.few if backend.slow else (*backend.few, *shapes("longer_than_blocks"))
    made = []
    for stats in (False, True):
        options = {"weight_decay": 0.1, "projection": projection}
        pairs = pairs_of(kind, wanted, dtype, backend, **options)
        optimizer = kind.make([pair.p for pair in pairs], backend, stats=stats, **options)
        for number in range(6):
            for i, pair in enumerate(pairs):
                outcome = backend.script[(number + i) % len(backend.script)]
                pair.advance(outcome, optimizer.state.get(pair.p, {}))
            optimizer.step()
            # The next gradient is drawn from these weights, the same in both runs.
            for pair in pairs:
                pair.twin = pair.p.detach().double().cpu()
        made.append((pairs, optimizer))
    (pairs, plain), (measured_pairs, measured) = made
    for one, other in zip(pairs, measured_pairs, strict=True):
        assert torch.equal(one.p, other.p), one.shape.name
        states = plain.state[one.p], measured.state[other.p]
        for key, value in states[0].items():
            assert torch.equal(value, states[1][key]), (one.shape.name, key)


def test_no_learning_rate(backend: Target, kind: Kind) -> None:
    """A step of lr 0 moves nothing, and its update is seen all the same."""
    p = weights(shapes("odd")[0], device=backend.device)
    optimizer = kind.make([p], backend, lr=0.0, stats=True)
    p.grad = noise(p.shape, generator(1)).to(p)
    optimizer.step()
    (found,) = optimizer.stats().values()
    assert found["effective_lr"] == 0 and found["angle"] == 0 and found["growth"] == 1
    assert found["update_norm"] > 0


def test_zero_weight(backend: Target, kind: Kind) -> None:
    """Ratios to a weight of zeros are infinite or NaN; all else is finite."""
    p = torch.nn.Parameter(torch.zeros(5, 6, device=backend.device))
    optimizer = kind.make([p], backend, stats=True)
    p.grad = torch.ones_like(p)
    optimizer.step()
    (found,) = optimizer.stats().values()
    assert found["effective_lr"] == math.inf
    assert math.isnan(found["angle"]) and math.isnan(found["growth"])
    assert found["outcome"] == "channel" and found["max_cosine"] == 0
    assert found["weight_norm"] == 0 and found["grad_norm"] == pytest.approx(math.sqrt(30))


def test_infinite_weight(backend: Target, kind: Kind) -> None:
    """Reading does not fail."""
    p = torch.nn.Parameter(torch.ones(5, 6, device=backend.device))
    p.data[0, 0] = math.inf
    optimizer = kind.make([p], backend, stats=True)
    p.grad = torch.ones_like(p)
    optimizer.step()
    (found,) = optimizer.stats().values()
    assert found["weight_norm"] == math.inf and found["update_norm"] > 0


def test_step_without_gradient(backend: Target, kind: Kind) -> None:
    """Who has no gradient keeps what the last step left."""
    p, q = (weights(shapes(name)[0], device=backend.device) for name in ("odd", "bias"))
    optimizer = kind.make([p, q], backend, stats=True)
    p.grad = noise(p.shape, generator(1)).to(p)
    optimizer.step()
    assert list(optimizer.stats()) == ["group 0, parameter 0"]
    before = copy.deepcopy(optimizer.stats()["group 0, parameter 0"])
    p.grad, q.grad = None, noise(q.shape, generator(2)).to(q)
    optimizer.step()
    found = optimizer.stats()
    assert found["group 0, parameter 0"] == before
    assert sum(found["group 0, parameter 1"]["outcomes"].values()) == 1
