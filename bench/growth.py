"""``python -m bench growth``: cost per parameter by number of parameters, and of tensors."""

from __future__ import annotations

import dataclasses
import gc
import math
from collections.abc import Iterator
from pathlib import Path

import torch

from bench import console, growth_plot, machine, results
from bench.contenders import FAMILIES, Contender, Family, Skipped, contenders, ours
from bench.gradients import Gradients, make_weights
from bench.harness import MemoryRate, memory_rate
from bench.turns import Lane, Settings, take_turns
from bench.workloads import Workload, uniform

ROUNDS = 10
FEWEST = 10**4
TENSORS = 16
"""Number of tensors while the number of parameters grows."""

TOTAL = 10**7
"""Number of parameters while the number of tensors grows."""

SECONDS = 1.5
"""For the rounds of one contender at one size."""

TOO_SLOW = 0.4
"""Seconds of a step that end a curve, except ours and the anchors'."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One contender at one size; ``in_turn``: it took turns with its family's anchor."""

    sweep: str
    contender: str
    label: str
    family: str
    ours: bool
    tensors: int
    numel: int
    ms: float
    ns_per_parameter: float
    rounds: int
    in_turn: bool


@dataclasses.dataclass
class GrowthReport:
    """What ``*-growth.json`` holds."""

    machine: dict[str, str | int | float | None]
    settings: dict[str, str | int]
    rate: MemoryRate
    skipped: list[Skipped] = dataclasses.field(default_factory=list)
    points: list[Point] = dataclasses.field(default_factory=list)


def half_decades(first: int, last: int) -> list[int]:
    """1, 3, 10, 30, ... times ``first``, up to ``last``."""
    sizes = [factor * first * 10**decade for decade in range(12) for factor in (1, 3)]
    return [size for size in sizes if size <= last]


def square_tensors(count: int, total: int) -> Workload:
    """``count`` square matrices that hold ``total`` parameters, as nearly as squares can."""
    side = max(1, round(math.sqrt(total / count)))
    return uniform(count, side, side)


def sweeps(most: int, most_tensors: int) -> dict[str, list[Workload]]:
    """The sizes of both sweeps, in growing order."""
    return {
        "parameters": [square_tensors(TENSORS, size) for size in half_decades(FEWEST, most)],
        "tensors": [
            square_tensors(count, min(TOTAL, most)) for count in half_decades(1, most_tensors)
        ],
    }


def batches(
    members: list[Contender], family: Family, numel: int, capacity: float
) -> list[list[Contender]]:
    """Everyone in one batch where memory allows, else each alone, else nobody."""
    copy = 4 * numel
    # Beside each one's parameters and states: weights, gradients, and what a step of the
    # authors' package makes in between.
    if copy * (2 + (1 + family.states) * len(members) + 2) <= capacity:
        return [members]
    # Alone: on the weights themselves.
    if copy * (2 + family.states) <= capacity:
        return [[member] for member in members]
    return []


def _point(sweep: str, lane: Lane, workload: Workload, in_turn: bool) -> Point:
    ms = lane.median("wall")
    assert ms is not None  # wall time is always taken
    contender, numel = lane.contender, workload.numel
    return Point(
        sweep,
        contender.key,
        contender.label,
        contender.family.name,
        contender.ours,
        len(workload.weights),
        numel,
        ms,
        ms / numel * 1e6,
        len(lane.samples),
        in_turn,
    )


def measure(
    sweep: str, workload: Workload, members: list[Contender], settings: Settings
) -> Iterator[Point | Skipped]:
    """One size: the family's contenders in turn, or one after the other where memory is short."""
    family = members[0].family
    # Something must be left to the system.
    capacity = 0.93 * machine.available_bytes(settings.device)
    fitting = batches(members, family, workload.numel, capacity)
    if not fitting:
        size = f"{workload.numel:,} parameters"
        yield Skipped(f"{size}, {family.title}", f"more than {capacity / 2**30:.1f} GiB")
        return
    weights = make_weights(workload, settings.device, settings.dtype)
    gradients = Gradients(workload, weights, "natural")
    for batch in fitting:
        in_turn = len(fitting) == 1
        lanes = [Lane(contender, weights, copy=in_turn) for contender in batch]
        take_turns(lanes, gradients, settings, f"{workload.title}, {family.title}")
        for lane in lanes:
            yield _point(sweep, lane, workload, in_turn)
            lane.release()
        gc.collect()  # optimizers refer to themselves


def _members(device: torch.device) -> dict[str, list[Contender]]:
    """For each family its anchor, the authors' optimizer where there is one, and ours."""
    found, _ = contenders(device)
    theirs = [c for c in found if c.is_anchor or c.key in ("adamp", "sgdp")]
    return {f.name: [c for c in theirs if c.family is f] + [ours(device, f)] for f in FAMILIES}


def run(device: torch.device, rounds: int, most: int, most_tensors: int, out: Path) -> None:
    """Measure both sweeps, keep the report up to date on disk, and draw it."""
    settings = Settings(device, rounds=rounds, budget=SECONDS, profiles=0)
    chosen: dict[str, str | int] = {"device": device.type, "rounds": rounds}
    report = GrowthReport(machine.describe(device), chosen, memory_rate(device))
    path = out / f"{results.device_prefix(device)}-growth.json"
    for sweep, workloads in sweeps(most, most_tensors).items():
        members = _members(device)
        for workload in workloads:
            for name, turning in members.items():
                for item in list(measure(sweep, workload, turning, settings)):
                    if isinstance(item, Skipped):
                        report.skipped.append(item)
                        continue
                    report.points.append(item)
                    if item.ms > TOO_SLOW * 1e3 and not _needed(item):
                        members[name] = [c for c in members[name] if c.key != item.contender]
            console.say(f"  {sweep}: {workload.title}, {workload.numel:,} parameters", style="dim")
            results.write(path, report)
    for left_out in report.skipped:
        console.say(f"  left out: {left_out.name}: {left_out.reason}", style="dim")
    growth_plot.draw(dataclasses.asdict(report), path.with_suffix(".png"))
    console.say(f"  results: {path}", style="dim")


def _needed(point: Point) -> bool:
    """Ours and the anchors are followed to the end, whatever a step takes."""
    return point.ours or any(point.contender == family.anchor for family in FAMILIES)
