"""Infinite weights stay infinite, and their neighbours what they would be without them."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from conftest import Kind
from parity.cases import DECAY, shapes
from parity.gradients import generator, scripted
from parity.pairs import model, run, weights
from parity.targets import Target

INF = float("inf")
#: What changes the line that updates a weight.
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "decay": DECAY,
    "lr 0": {"lr": 0.0, **DECAY},
    "off": {"projection": "off", **DECAY},
    "nesterov": {"nesterov": True, **DECAY},
    "maximize": {"maximize": True},
    "all decays at once": {"lr": 1.0, "weight_decay": 1.0},
    "decay turns the sign": {"lr": 2.0, "weight_decay": 1.0},
}
NAMES = ("bias", "odd", "column", "several_blocks", "above_tile")


def with_infinities(values: Tensor) -> Tensor:
    """Infinities of both signs at the beginning, in the middle and at the end."""
    flat = values.flatten().clone()
    for at, value in ((0, -INF), (len(flat) // 2, INF), (-1, -INF)):
        flat[at] = value
    return flat.view(values.shape)


def chosen(backend: Target) -> tuple[Any, ...]:
    """Shapes of one tile and of several."""
    return backend.pick(shapes(*NAMES))


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_as_the_official_package(backend: Target, kind: Kind, options: dict[str, Any]) -> None:
    """Every weight, finite or not, over several steps in float64; a 1-D one, too."""
    if kind.name == "SGDP" and "weight_decay" in options and options.get("lr", 0) >= 1:
        options = options | {"momentum": 0.0}
    made = [weights(shape, torch.float64, backend.device) for shape in chosen(backend)]
    for p in made:
        p.data = with_infinities(p.data)
    twins = [Parameter(p.detach().cpu().clone()) for p in made]
    theirs = {key: value for key, value in options.items() if key not in ("projection", "maximize")}
    ours, official = kind.make(made, backend, **options), kind.official(twins, **theirs)
    rng = generator(1)
    for _ in range(4):
        for p, twin in zip(made, twins, strict=True):
            grad = torch.randn(p.shape, generator=rng, dtype=torch.float64)
            p.grad = grad.to(backend.device)
            twin.grad = -grad if options.get("maximize") else grad
        ours.step()
        official.step()
        for p, twin in zip(made, twins, strict=True):
            assert torch.equal(p.isinf().cpu(), twin.isinf()), "which are infinite"
            torch.testing.assert_close(p.cpu(), twin, rtol=1e-9, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_dtype(backend: Target, kind: Kind, dtype: torch.dtype) -> None:
    """The infinite ones stay, and nothing else becomes infinite or NaN."""
    made = [weights(shape, dtype, backend.device) for shape in chosen(backend)]
    for p in made:
        p.data = with_infinities(p.data)
    before = [p.detach().clone() for p in made]
    optimizer = kind.make(made, backend, **DECAY)
    for _ in range(3):
        for p in made:
            p.grad = torch.randn(p.shape, generator=generator(2)).to(p)
        optimizer.step()
    for p, old in zip(made, before, strict=True):
        assert torch.equal(p[old.isinf()], old[old.isinf()])
        assert p[~old.isinf()].isfinite().all()


@pytest.mark.parametrize("projection", ["channel", "layer"])
@pytest.mark.parametrize("project_buffer", [True, False])
def test_forced_projection(
    backend: Target, kind: Kind, projection: str, project_buffer: bool
) -> None:
    """Along an infinite norm nothing is projected: the row's finite weights stay finite."""
    options: dict[str, Any] = {"projection": projection, **DECAY}
    if kind.name == "SGDP":
        options["project_buffer"] = project_buffer
    made = [weights(s, device=backend.device) for s in chosen(backend) if len(s.shape) > 1]
    for p in made:
        p.data = with_infinities(p.data)
    before = [p.detach().clone() for p in made]
    optimizer = kind.make(made, backend, **options)
    for _ in range(2):
        for p in made:
            p.grad = torch.randn(p.shape, generator=generator(4)).to(p)
        optimizer.step()
    for p, old in zip(made, before, strict=True):
        assert torch.equal(p[old.isinf()], old[old.isinf()])
        assert p[~old.isinf()].isfinite().all()
        for key in ("exp_avg", "momentum"):
            assert optimizer.state[p].get(key, p.new_zeros(())).isfinite().all()


@pytest.mark.parametrize("last", [0, 1, 2], ids=["none", "channel", "layer"])
def test_mispredictions(backend: Target, kind: Kind, last: int) -> None:
    """A weight becomes infinite after an outcome that then holds no more: neighbours are right."""
    optimizer, pairs = model(kind, backend, *(shape.name for shape in chosen(backend)))
    run(optimizer, pairs, (last,))
    place = -2 if kind.name == "AdamP" else 1
    for pair in pairs:
        if pair.p.numel() < 3:
            continue
        pair.p.data.view(-1)[place] = INF
        pair.twin = pair.twin.clone()
        pair.twin.view(-1)[place] = INF
        grad = torch.randn(pair.p.shape, generator=generator(6))
        pair.p.grad = grad.to(backend.device)
        pair.before = pair.twin, pair.twin_state
        pair.latest = pair.oracle_step(grad, pair.tolerance.store)
    optimizer.step()
    for pair in pairs:
        want = pair.latest.p
        finite = want.isfinite()
        assert int((~finite).sum()) == 1
        got = pair.p.detach().double().cpu()
        assert torch.equal(got[~finite], want[~finite])
        torch.testing.assert_close(got[finite], want[finite], rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("lr", [1e30, 5e37], ids=str)
@pytest.mark.parametrize("outcomes", [(0, 0, 1), (1, 1, 0), (0, 1, 2), (2, 0, 1)], ids=str)
def test_overflow(backend: Target, kind: Kind, lr: float, outcomes: tuple[int, ...]) -> None:
    """At a huge learning rate float32 overflows to the infinity that float64 tells the sign of."""
    options: dict[str, Any] = {"lr": 1e-3} | ({"momentum": 0.9} if kind.name == "SGDP" else {})
    optimizer, pairs = model(kind, backend, *(shape.name for shape in chosen(backend)), **options)
    run(optimizer, pairs, outcomes[:2])
    optimizer.param_groups[0]["lr"] = lr
    for pair in pairs:
        pair.options = pair.options | {"lr": lr}
        grad = scripted(pair.twin, outcomes[2], pair.rng).float()
        pair.p.grad = grad.to(backend.device)
        pair.before = pair.twin, pair.twin_state
        pair.latest = pair.oracle_step(grad, pair.tolerance.store)
    optimizer.step()
    most = torch.finfo(torch.float32).max
    for pair in pairs:
        want, got = pair.latest.p, pair.p.detach().double().cpu()
        assert not got.isnan().any()
        over, under = want.abs() > 2 * most, want.abs() < most / 2
        assert torch.equal(got[over], want[over].sign() * INF)
        assert got[under].isfinite().all()
