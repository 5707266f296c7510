"""Rows of a few elements, which the CPU kernel tests and projects many at a time.

Shapes of several tiles each, and of one: an outcome is predicted only for the former.
"""

from typing import Any

import pytest
import torch
from torch.nn import Parameter

from conftest import KINDS, Kind
from kernels.emulation.backend import EmulatedTarget
from parity.cases import DECAY, OPTIONS, THIN, Shape
from parity.gradients import SCRIPT, across, generator, noise, scripted
from parity.oracle import CHANNEL, LAYER, NONE
from parity.pairs import ORACLES, Pair, pairs_of, run, step_and_check, weights
from parity.targets import Target

FEW_THIN = tuple(s for s in THIN if s.name in ("thin_1", "thin_3", "thin_7", "thin_9"))
SHORT_SCRIPT = SCRIPT[:9]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
VARIANTS = [
    pytest.param(kind, options, id=f"{kind.name}-{name}")
    for kind in KINDS
    for name, options in OPTIONS[kind.name].items()
]


@pytest.fixture(autouse=True)
def fast_backend(backend: Target) -> None:
    """Many rows are no work for an interpreter."""
    if backend.slow or isinstance(backend, EmulatedTarget):
        pytest.skip(f"{backend.label}: slow, its thin rows are in test_values")


def advance_to(pair: Pair) -> None:
    """Step the twin with the gradient that the parameter has."""
    pair.before = pair.twin, pair.twin_state
    step = pair.oracle_step(pair.p.grad.cpu(), pair.tolerance.store)
    pair.demand_margin(step)
    pair.latest, pair.twin, pair.twin_state = step, step.p, step.state


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
def test_shapes(backend: Target, kind: Kind, dtype: torch.dtype) -> None:
    """Every length of row in every type, through every change of outcome."""
    # In 16 bits a second moment may be stored as 0: an eps that keeps such an update small.
    options = DECAY | ({"lr": 0.1, "eps": 1e-3} if dtype.itemsize == 2 else {})
    pairs = pairs_of(kind, THIN, dtype, backend, **options)
    run(kind.make([pair.p for pair in pairs], backend, **options), pairs, SHORT_SCRIPT)


@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_options(backend: Target, kind: Kind, options: dict[str, Any]) -> None:
    """Every option."""
    pairs = pairs_of(kind, FEW_THIN, torch.float32, backend, **options)
    run(kind.make([pair.p for pair in pairs], backend, **options), pairs, SHORT_SCRIPT[:4])


@pytest.mark.parametrize("shape", THIN, ids=lambda shape: shape.name)
@pytest.mark.parametrize("row", [0, 1, 15, 16, 300, -2, -1])
def test_one_row_decides(backend: Target, kind: Kind, shape: Shape, row: int) -> None:
    """A row along its weights is found wherever it lies in a vector, a chunk or a tile."""
    row = row if row < shape.shape[0] else 2
    # No row so small that the layer view passes nevertheless.
    p = Parameter(noise(torch.Size(shape.shape), generator(4)).to(backend.device, torch.float32))
    twin = p.detach().double().cpu()
    # Zero gradients pass, also where rows have one element.
    grad = across(twin, noise(twin.shape, generator(5))) if shape.shape[1] > 1 else 0 * twin
    for want in (CHANNEL, NONE):
        if want == NONE:
            grad[row] = 1e6 * twin[row]
        q = Parameter(p.detach().clone())
        q.grad = grad.to(q)
        step = ORACLES[kind.name](twin, q.grad.cpu(), {}, **kind.options)
        assert step.view == want and step.margin > 1.5
        optimizer = kind.make([q], backend)
        optimizer.step()
        assert optimizer.state[q]["view"].item() == want


@pytest.mark.parametrize("what", ["zero_p", "zero_g", "tiny_p", "tiny_g"])
def test_degenerate_rows(backend: Target, kind: Kind, what: str) -> None:
    """Zero and tiny rows among others, and nothing else: each norm is clamped at eps by itself."""
    size, part = what.split("_")
    # The others' row arithmetic is float32, where the square of 1e-30 is 0.
    eps = 1e-30 if backend.name == "cpu" else 1e-15
    for options in (DECAY, DECAY | {"eps": eps}, DECAY | {"projection": "channel"}):
        for rows in (slice(None), slice(None, None, 3), slice(1, None, 3)):
            pairs = pairs_of(kind, THIN, torch.float32, backend, **options)
            optimizer = kind.make([pair.p for pair in pairs], backend, **options)
            # After a step layer-wise nothing is predicted: from weights that were updated by 1e-2
            # none of 1e-10 could be recovered.
            step_and_check(optimizer, pairs, [LAYER] * len(pairs), "first step")
            for pair in pairs:
                grad = scripted(pair.twin, CHANNEL, pair.rng)
                spoilt = pair.twin if part == "p" else grad
                spoilt[rows] *= 0 if size == "zero" else 1e-10
                pair.p.data.copy_(pair.twin)
                pair.p.grad = grad.to(pair.p)
                advance_to(pair)
            optimizer.step()
            for pair in pairs:
                pair.check(optimizer.state[pair.p], f"{what}, {options}, {rows}")


def test_zero_gradients_pass(backend: Target, kind: Kind) -> None:
    """Rows of one element reach the channel view, and leave it again, by zero gradients alone."""
    pairs = pairs_of(kind, (THIN[0], THIN[9]), torch.float32, backend, **DECAY)
    for pair in pairs:  # none so near to 0 that its projected buffer is a matter of rounding
        pair.twin = noise(pair.p.shape, pair.rng)
        pair.p.data.copy_(pair.twin)
        pair.twin = pair.p.detach().double().cpu()
    optimizer = kind.make([pair.p for pair in pairs], backend, **DECAY)
    for number, scale in enumerate((1.0, 0.0, 0.0, 1.0, 0.0)):
        for pair in pairs:
            pair.p.grad = (scale * scripted(pair.twin, NONE, pair.rng)).to(pair.p)
            advance_to(pair)
            assert pair.latest.view == (NONE if scale else CHANNEL)
        optimizer.step()
        for pair in pairs:
            pair.check(optimizer.state[pair.p], f"step {number + 1}")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("row", [0, 100, -1])
def test_numbers_that_are_none(backend: Target, kind: Kind, value: float, row: int) -> None:
    """A NaN or an infinity never projects; under a forced channel view it keeps to its row."""
    for shape in THIN[1:9]:
        for projection in ("auto", "channel"):
            p = weights(shape, device=backend.device)
            twin = p.detach().double().cpu()
            p.grad = across(twin, noise(twin.shape, generator(1))).to(p)
            p.grad[row, -1] = value
            optimizer = kind.make([p], backend, **DECAY, projection=projection)
            optimizer.step()
            finite = p.detach().isfinite()
            assert not finite[row, -1]
            if projection == "auto":
                assert optimizer.state[p]["view"].item() == NONE
                assert finite.sum() == p.numel() - 1
            else:
                healthy = finite.all(dim=1)
                assert healthy.sum() == len(p) - 1 and not healthy[row]


def test_same_bits(backend: Target, kind: Kind, threads: Any) -> None:
    """The number of threads does not matter, nor whether there is a buffer to keep each u."""
    if backend.name != "cpu":
        pytest.skip(f"{backend.label}: torch's threads do not take part")
    large = Shape("fills_room", (512, 1024), "the 2 MiB that u may take (csrc/cpu/executor.cpp)")
    threads(1)
    alone = pairs_of(kind, THIN, torch.float32, backend, **DECAY)
    first = kind.make([pair.p for pair in alone], backend, **DECAY)
    others = []
    for count in (1, 2, 5):
        filling, *crowded = (weights(shape) for shape in (large, *THIN))
        groups = [{"params": [filling], "projection": "layer"}, {"params": crowded}]
        others.append((count, filling, crowded, kind.make(groups, backend, **DECAY)))
    for number in range(len(SHORT_SCRIPT)):
        threads(1)
        outcomes = [SCRIPT[number + index] for index in range(len(alone))]
        step_and_check(first, alone, outcomes, f"step {number + 1}")
        for count, filling, crowded, optimizer in others:
            filling.grad = torch.ones_like(filling)
            for pair, p in zip(alone, crowded, strict=True):
                p.grad = pair.p.grad.clone()
            threads(count)
            optimizer.step()
            for pair, p in zip(alone, crowded, strict=True):
                assert torch.equal(pair.p, p)
                for key, value in first.state[pair.p].items():
                    assert torch.equal(value, optimizer.state[p][key])


@pytest.mark.parametrize("projection", ["auto", "channel"])
def test_infinite_weights(backend: Target, kind: Kind, projection: str) -> None:
    """An infinite weight stays one; rows without have the bits that they have without it."""
    for shape in THIN[1:9]:
        for outcome in (CHANNEL, NONE):
            clean = weights(shape, device=backend.device)
            spoilt = Parameter(clean.detach().clone())
            grad = scripted(clean.detach().double().cpu(), outcome, generator(1)).to(clean)
            spoilt.data[5, 0], grad[5] = torch.inf, 0
            for p in (clean, spoilt):
                p.grad = grad.clone()
                kind.make([p], backend, **DECAY, projection=projection).step()
            assert spoilt[5, 0] == torch.inf and spoilt.isinf().sum() == 1
            if projection == "channel" or outcome == NONE:
                others = torch.arange(len(clean), device=clean.device) != 5
                assert torch.equal(spoilt[others], clean[others])
