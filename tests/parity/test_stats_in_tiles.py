"""What a step leaves for ``stats()`` of tensors of several tiles, and of tensors in parts.

Against what the reference backend leaves, which ``test_stats`` compares with an oracle.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from adamp_fused._stats import Stat
from conftest import Kind
from parity.cases import DECAY, Shape, shapes
from parity.gradients import generator, scripted
from parity.oracle import CHANNEL, LAYER, NONE
from parity.pairs import weights
from parity.shards import Cut, Processes
from parity.targets import TARGETS, Target

REFERENCE = TARGETS[0]
#: Each outcome after each other that a prediction distinguishes.
SCRIPT = (CHANNEL, CHANNEL, NONE, LAYER)
PROJECTIONS = ("auto", "channel", "layer", "off")
TILES = (
    Shape("uneven_tiles", (300, 13), "several tiles, in which rows start anywhere"),
    Shape("even_tiles", (160, 64), "the same in whole vectors"),
    Shape("spans", (2, 17_003), "rows of two spans"),
    Shape("long_rows", (3, 6_001), "rows of one span"),
    Shape("thin_tiles", (3_001, 3), "rows of a few elements"),
    Shape("long_vector", (16_399,), "one row of two spans, of which the last ends in a vector"),
)
CUTS = (
    Cut("rows", rows=(0.4, 0.4)),  # uneven, the second has none
    Cut("cols", cols=(0.0, 0.3)),
    Cut("both", rows=(0.3,), cols=(0.5,)),
)
#: Of sums in float32.
RELATIVE = 2e-5
BACKENDS = [
    pytest.param(target, id=target.label, marks=[pytest.mark.proof] if target.slow else [])
    for target in TARGETS[1:]
]
in_proofs = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


def assert_stats(got: Tensor, want: Tensor, what: str) -> None:
    """Compare the states ``stats``, each number by the size of what it was added up from."""
    pp, uu = want[Stat.PP].item(), want[Stat.UU].item()
    sizes = want.abs()
    sizes[[Stat.PU, Stat.RP]] = (pp * uu) ** 0.5
    sizes[[Stat.RU, Stat.RR]] = uu
    sizes[Stat.MAX_COSINE] = 1.0
    bound = RELATIVE * sizes
    bound[: Stat.MAX_COSINE] = 0
    bound[[Stat.LR, Stat.INV_BIAS_CORRECTION1]] *= 1e-9
    bound[Stat.BOUND] = 1e-6 * sizes[Stat.BOUND]  # computed in float32
    for stat in Stat:
        difference = abs(got[stat] - want[stat])
        assert difference <= bound[stat], f"{what}: {stat.name} {got[stat]}, want {want[stat]}"


def train(kind: Kind, backend: Target, shape: Shape, **options: Any) -> Any:
    """Yield weights and state after each step, the gradients drawn from them."""
    p, rng = weights(shape, torch.float32, backend.device), generator(shape.seed)
    optimizer = kind.make([p], backend, **options)
    for outcome in SCRIPT:
        grad = scripted(p.detach().double().cpu(), outcome, rng)
        p.grad = grad.to(p)
        optimizer.step()
        yield p.detach(), optimizer.state[p]


@in_proofs
@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("shape", TILES, ids=lambda shape: shape.name)
def test_tiles(backend: Target, kind: Kind, shape: Shape, projection: str) -> None:
    """Statistics are the reference's; weights and state those of a step without."""
    options = {**DECAY, "projection": projection}
    runs = zip(
        train(kind, backend, shape, stats=True, **options),
        train(kind, backend, shape, **options),
        train(kind, REFERENCE, shape, stats=True, **options),
        strict=True,
    )
    for number, ((p, state), (p_without, without), (_, reference)) in enumerate(runs):
        what = f"step {number + 1}, {shape.name}"
        assert torch.equal(p, p_without), what
        assert all(torch.equal(state[key], without[key]) for key in without), what
        assert_stats(state["stats"].cpu(), reference["stats"], what)


@in_proofs
@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.name)
@pytest.mark.parametrize("tiles", [False, True], ids=["small", "tiles"])
def test_parts(backend: Target, kind: Kind, cut: Cut, projection: str, tiles: bool) -> None:
    """Every process leaves the statistics of the whole, and the weights of a step without."""
    wanted = TILES[0::2] if tiles else shapes("odd", "bias", "two_by_two", "column")
    options = {**DECAY, "projection": projection}
    measured, reference = (
        Processes(kind, target, wanted, cut, measured=True, **options)
        for target in (backend, REFERENCE)
    )
    without = Processes(kind, backend, wanted, cut, **options)
    for number, outcome in enumerate(SCRIPT):
        what = f"step {number + 1}"
        for processes in (measured, without, reference):
            processes.step(outcome, what)
        same_bits(measured, without, what)
        same_stats(measured, reference, what)


@in_proofs
@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.name)
def test_counts_on_the_device(backend: Target, kind: Kind, cut: Cut) -> None:
    """The correction of the bias follows from a count that the host never sees."""
    wanted = shapes("odd", "bias")
    measured, reference = (
        Processes(kind, target, wanted, cut, on_device=True, measured=True, **DECAY)
        for target in (backend, REFERENCE)
    )
    for number, outcome in enumerate((CHANNEL, NONE)):
        for processes in (measured, reference):
            processes.step(outcome, f"step {number + 1}")
        same_stats(measured, reference, f"step {number + 1}")


def same_bits(measured: Processes, without: Processes, what: str) -> None:
    """Weights and state, but for the statistics."""
    for one, other in zip(measured.all, without.all, strict=True):
        for p, q in zip(one.params, other.params, strict=True):
            for key, value in other.state[q].items():
                assert torch.equal(one.state[p][key], value), f"{what}: {key}"
        for part, other_part in zip(one.parts, other.parts, strict=True):
            assert torch.equal(part, other_part), what


def same_stats(measured: Processes, reference: Processes, what: str) -> None:
    """Of all tensors in all processes."""
    for one, other in zip(measured.all, reference.all, strict=True):
        for p, q, pair in zip(one.params, other.params, measured.pairs, strict=True):
            got, want = one.state[p]["stats"].cpu(), other.state[q]["stats"].cpu()
            assert_stats(got, want, f"{what}, {pair.shape.name}")
