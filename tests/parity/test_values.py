"""Weights, state and outcome of every backend against the float64 oracle, step by step."""

from typing import Any

import pytest
import torch

from conftest import KINDS, Kind
from parity.cases import OPTIONS, SHAPES, shapes
from parity.gradients import across, generator, noise
from parity.oracle import CHANNEL, LAYER, NONE
from parity.pairs import ORACLES, Pair, pairs_of, run, weights
from parity.targets import Target

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
VARIANTS = [
    pytest.param(kind, options, id=f"{kind.name}-{name}")
    for kind in KINDS
    for name, options in OPTIONS[kind.name].items()
]
GROUPS: dict[str, list[dict[str, Any]]] = {
    "AdamP": [
        {"lr": 0.02, "weight_decay": 0.1},
        {"betas": (0.5, 0.9), "nesterov": True, "delta": 0.3},
        {"projection": "channel", "eps": 1e-3},
        {"projection": "off", "maximize": True, "wd_ratio": 0.5},
    ],
    "SGDP": [
        {"lr": 0.02, "weight_decay": 0.1},
        {"momentum": 0.5, "nesterov": True, "delta": 0.3},
        {"projection": "layer", "project_buffer": False, "dampening": 0.2},
        {"projection": "off", "maximize": True, "weight_decay": 0.3, "wd_ratio": 0.5},
    ],
}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])
def test_shapes(backend: Target, kind: Kind, dtype: torch.dtype) -> None:
    """All shapes in one optimizer; a large lr in 16 bits, so that a step is seen in the weights."""
    options = {"weight_decay": 0.1} | ({"lr": 0.1} if dtype.itemsize == 2 else {})
    wanted = backend.few if backend.slow and dtype != torch.float32 else backend.pick(SHAPES)
    pairs = pairs_of(kind, wanted, dtype, backend, **options)
    run(kind.make([pair.p for pair in pairs], backend, **options), pairs, backend.script)


@pytest.mark.parametrize(("kind", "options"), VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=lambda dtype: str(dtype)[6:])
def test_options(backend: Target, kind: Kind, options: dict, dtype: torch.dtype) -> None:
    """Every option, alone or with the one that it acts on."""
    if backend.slow and dtype == torch.float64:
        pytest.skip(f"{backend.label}: slow, float64 is in test_shapes")
    wanted = shapes("bias", "odd") if backend.slow else backend.few
    pairs = pairs_of(kind, wanted, dtype, backend, **options)
    run(kind.make([pair.p for pair in pairs], backend, **options), pairs, backend.script)


def test_decay_that_leaves_nothing(backend: Target, kind: Kind) -> None:
    """Lr * weight_decay = 1: what was updated too soon cannot be recovered from the new weights."""
    options = {"lr": 0.5, "weight_decay": 2.0, "wd_ratio": 1.0}
    options |= {"momentum": 0} if kind.name == "SGDP" else {}
    wanted = shapes("odd") if backend.slow else shapes("odd", "several_blocks", "above_tile")
    pairs = pairs_of(kind, wanted, torch.float32, backend, **options)
    run(kind.make([pair.p for pair in pairs], backend, **options), pairs, backend.script)


def test_options_per_group(backend: Target, kind: Kind) -> None:
    """Every option is the group's own, and groups do not mix."""
    groups, pairs = [], []
    for options in GROUPS[kind.name]:
        mine = pairs_of(kind, shapes("bias", "odd"), torch.float32, backend, **options)
        pairs += mine
        groups.append({"params": [pair.p for pair in mine], **options})
    run(kind.make(groups, backend), pairs, backend.script)


def test_types_together(backend: Target, kind: Kind) -> None:
    """Parameters of all types in one optimizer, each to its own tolerance."""
    pairs = [
        pair
        for dtype in DTYPES
        for pair in pairs_of(kind, shapes("bias", "odd"), dtype, backend, lr=0.1)
    ]
    run(kind.make([pair.p for pair in pairs], backend, lr=0.1), pairs, backend.script)


def test_many_tensors(backend: Target, kind: Kind) -> None:
    """Hundreds of small tensors, some large ones between them, each with its own outcome."""
    wanted = shapes(
        *(["vector", "two_by_two", "bias", "odd", "scalar"] * (4 if backend.slow else 60))
    )
    large = () if backend.slow else shapes("several_blocks", "conv", "longer_than_blocks")
    pairs = pairs_of(kind, (*wanted, *large, *wanted[:7]), torch.float32, backend)
    run(kind.make([pair.p for pair in pairs], backend), pairs, backend.script[:4])


@pytest.mark.parametrize("name", ["odd", "short_rows", "several_blocks"])
@pytest.mark.parametrize("row", [0, 1, -2, -1])
def test_one_row_decides(backend: Target, kind: Kind, name: str, row: int) -> None:
    """One row along its weights, wherever it is, is enough to leave the channel view."""
    (shape,) = shapes("odd" if backend.slow else name)
    p = weights(shape, device=backend.device)
    twin, grad = p.detach().double().cpu(), torch.zeros(shape.shape, dtype=torch.float64)
    grad[row] = noise(grad[row].shape, generator(5)).abs() * twin[row].sign()
    elsewhere = across(twin, noise(twin.shape, generator(6)))
    elsewhere[row] = 0
    # A large gradient at right angles in the other rows decides whether the layer view passes.
    for scale, want in ((0.0, NONE), (1e6, LAYER)):
        q = torch.nn.Parameter(p.detach().clone())
        q.grad = (grad + scale * elsewhere).to(q)
        step = ORACLES[kind.name](twin, q.grad.cpu(), {}, **kind.options)
        assert step.view == want and step.margin > 1.5
        optimizer = kind.make([q], backend)
        optimizer.step()
        assert optimizer.state[q]["view"].item() == want


@pytest.mark.parametrize(
    "what", ["zero_p", "zero_g", "zero_row_p", "zero_row_g", "tiny_p", "tiny_g"]
)
def test_degenerate(backend: Target, kind: Kind, what: str) -> None:
    """Zero and tiny rows: each norm is clamped at eps by itself, and a cosine of 0 passes."""
    (shape,) = shapes("odd")
    size, part, row = what.split("_")[0], what[-1], 3 if "row" in what else slice(None)
    p, options = weights(shape, device=backend.device), kind.options | {"weight_decay": 0.1}
    twin, state, rng = p.detach().double().cpu(), {}, generator(6)
    if part == "p":
        twin[row] *= 0 if size == "zero" else 1e-10
    p.data.copy_(twin)
    twin = p.detach().double().cpu()
    optimizer = kind.make([p], backend, weight_decay=0.1)
    pair = Pair(shape, p, kind.name, options, backend)
    for number in range(3):
        grad = noise(p.shape, rng)
        if part == "g":
            grad[row] *= 0 if size == "zero" else 1e-15
        p.grad = grad.to(p)
        step = ORACLES[kind.name](twin, p.grad.cpu(), state, **options)
        assert number or "row" in what or step.view == CHANNEL
        twin, state, pair.latest = step.p, step.state, step
        optimizer.step()
        pair.check(optimizer.state[p], f"{what}, step {number}")
