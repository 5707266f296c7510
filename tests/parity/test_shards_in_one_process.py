"""A tensor of which several processes have parts is stepped as one that is whole.

The processes are imitated in one (``parity.shards``): every backend, and every kind of part.
"""

import math
from typing import Any

import pytest
import torch

from adamp_fused.backends.protocol import Control
from conftest import Kind
from parity import pairs
from parity.cases import DECAY, Shape, shapes
from parity.gradients import scripted
from parity.oracle import CHANNEL, LAYER, NONE
from parity.shards import Cut, Processes
from parity.targets import TARGETS, Target

CUTS = (
    Cut("rows", rows=(0.4, 0.4)),  # uneven, the second has none
    Cut("cols", cols=(0.0, 0.3)),
    Cut("both", rows=(0.3,), cols=(0.5,)),
)
#: Wrong and right predictions of each outcome, and steps for which nothing is predicted; the first
#: five have all but an outcome layer-wise after a channel-wise one.
SCRIPT = (CHANNEL, CHANNEL, NONE, NONE, LAYER, CHANNEL, LAYER)
MIXED, SMALL = ("odd", "bias", "two_by_two", "depthwise", "column"), ("odd", "bias", "two_by_two")
TILES = (
    Shape("part_tiles", (300, 13), "several tiles in each part, in which rows start anywhere"),
    Shape("even_part_tiles", (160, 64), "the same in whole vectors"),
    Shape("part_spans", (2, 25_003), "rows of several spans, or of one, in parts"),
    Shape("part_long_rows", (3, 6_001), "rows of one span"),
)
OPTIONS: dict[str, dict[str, Any]] = {
    "auto": {},
    "channel": {"projection": "channel"},
    "layer": {"projection": "layer"},
    "nesterov": {"nesterov": True},
    "nesterov_channel": {"nesterov": True, "projection": "channel"},
}


#: Where a step costs milliseconds, `make proofs` runs them.
pytestmark = pytest.mark.parametrize(
    "backend",
    [
        pytest.param(target, id=target.label, marks=[pytest.mark.proof] if target.slow else [])
        for target in TARGETS
    ],
    indirect=True,
)


@pytest.fixture(params=CUTS, ids=lambda cut: cut.name)
def cut(request: pytest.FixtureRequest) -> Cut:
    """How tensors are cut."""
    return request.param


def mixed(backend: Target) -> tuple[Shape, ...]:
    """Tensors of all kinds for one plan; in two_by_two some parts are empty."""
    return shapes(*(SMALL if backend.slow else MIXED))


def script(backend: Target, steps: int = len(SCRIPT)) -> tuple[int, ...]:
    """Outcomes of so many steps, or of fewer."""
    return SCRIPT[: min(steps, 5) if backend.slow else steps]


def train(processes: Processes, script: tuple[int, ...], **given: Any) -> None:
    """A step for each outcome."""
    for number, outcome in enumerate(script):
        processes.step(outcome, f"step {number + 1}", **given)


@pytest.mark.parametrize("name", OPTIONS)
def test_options(backend: Target, kind: Kind, cut: Cut, name: str) -> None:
    """All projections, and nesterov, which reads gradients again in the second half."""
    # Where the projection is given nothing is predicted.
    steps = script(backend, 3 if "projection" in OPTIONS[name] else 7)
    train(Processes(kind, backend, mixed(backend), cut, **DECAY, **OPTIONS[name]), steps)


def test_buffer_as_it_is(backend: Target, kind: Kind, cut: Cut) -> None:
    """SGDP without a projection of its buffer."""
    if kind.name == "SGDP":
        processes = Processes(kind, backend, mixed(backend), cut, **DECAY, project_buffer=False)
        train(processes, script(backend))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_types(backend: Target, kind: Kind, cut: Cut, dtype: torch.dtype) -> None:
    """Types that are speculated in, and those that are not."""
    processes = Processes(kind, backend, mixed(backend), cut, dtype, **DECAY | {"lr": 0.1})
    train(processes, script(backend, 7 if dtype == torch.float64 else 3))


@pytest.mark.parametrize("shape", TILES, ids=lambda shape: shape.name)
def test_tiles(backend: Target, kind: Kind, cut: Cut, shape: Shape) -> None:
    """Parts of several tiles."""
    train(Processes(kind, backend, (shape,), cut, **DECAY), script(backend))


@pytest.mark.parametrize(
    "narrow", [Cut("rows", rows=(0.1,)), Cut("cols", cols=(0.1,))], ids=lambda cut: cut.name
)
def test_bounds(backend: Target, kind: Kind, narrow: Cut, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cosine above the bound of the whole tensor, and below that of a part as it is."""
    shape = Shape("narrow_part", (12, 16), "a part has a twelfth of the rows")

    def near_bound(p: torch.Tensor, outcome: int, rng: torch.Generator) -> torch.Tensor:
        g = scripted(p, LAYER, rng)
        return g + p * (1.7 * 0.1 / math.sqrt(shape.numel) * g.norm() / p.norm())

    processes = Processes(kind, backend, (shape,), narrow, **DECAY)
    monkeypatch.setattr(pairs, "scripted", near_bound)
    processes.step(NONE, "step")
    assert processes.pairs[0].latest.view == NONE


def test_no_gradient(backend: Target, kind: Kind, cut: Cut) -> None:
    """A tensor that gets no gradient in one step, and one that gets none at first."""
    processes = Processes(kind, backend, mixed(backend), cut, **DECAY)
    for number, (outcome, without) in enumerate(((NONE, 0), (CHANNEL, 2), (LAYER, None))):
        processes.step(outcome, f"step {number + 1}", without=without)


def control_of(device: str) -> Control:
    """All that a device may decide by, none of which changes a step."""
    return Control(
        grad_scale=torch.tensor([1.0], device=device),
        found_inf=torch.tensor([0.0], device=device),
        steps_skipped=torch.tensor([0], dtype=torch.int64, device=device),
        clip=torch.tensor([1.0], dtype=torch.float64, device=device),
    )


@pytest.mark.parametrize(("on_device", "nesterov"), [(False, False), (True, True)])
def test_control(backend: Target, kind: Kind, cut: Cut, on_device: bool, nesterov: bool) -> None:
    """Both halves take the same factor and the same count; a step that is skipped changes nothing.

    Gradients count as they are divided and clipped.
    """
    processes = Processes(
        kind, backend, mixed(backend), cut, on_device=on_device, nesterov=nesterov, **DECAY
    )
    control = control_of(backend.device)
    assert control.grad_scale is not None and control.clip is not None
    control.grad_scale.fill_(4.0)
    control.clip.fill_(4.0)
    train(processes, (CHANNEL, LAYER), control=control)
    if not on_device:
        return  # where a step may be skipped the device counts

    before = [x.clone() for process in processes.all for x in everything(process)]
    assert control.found_inf is not None and control.steps_skipped is not None
    control.found_inf.fill_(1.0)
    control.steps_skipped.zero_()
    processes.run(control)
    after = [x for process in processes.all for x in everything(process)]
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    assert control.steps_skipped.item() == len(processes.all)  # each counts for itself

    control.found_inf.fill_(0.0)
    train(processes, (CHANNEL, NONE), control=control)


def everything(process: Any) -> list[torch.Tensor]:
    """Weights and state."""
    return [*process.parts, *(x for state in process.state.values() for x in state.values())]
