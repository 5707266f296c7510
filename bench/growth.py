"""``python -m bench growth``: cost per parameter by number of parameters, and of tensors."""

from __future__ import annotations

import dataclasses
import gc
import math
from collections.abc import Iterator
from pathlib import Path

import torch

from bench.lib import machine
from bench.lib.bandwidth import Bandwidth, measure_bandwidth
from bench.lib.gradients import Gradients, make_weights
from bench.lib.implementations import (
    FAMILIES,
    Family,
    Implementation,
    Skipped,
    implementations,
    ours,
)
from bench.lib.report import console, files, growth_plot
from bench.lib.runners import Runner, Settings, alternate
from bench.lib.workloads import Workload, uniform

ROUNDS = 10
FEWEST = 10**4
TENSORS = 16
"""Number of tensors while the number of parameters grows."""

TOTAL = 10**7
"""Number of parameters while the number of tensors grows."""

SECONDS = 1.5
"""For the rounds of one implementation at one size."""

TOO_SLOW = 0.4
"""Seconds of a step at which a curve ends, except ours and the baselines'."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One implementation at one size; ``in_turn``: it alternated with its family's baseline."""

    sweep: str
    implementation: str
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
    """Content of ``*-growth.json``."""

    machine: dict[str, str | int | float | None]
    settings: dict[str, str | int]
    bandwidth: Bandwidth
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
    members: list[Implementation], family: Family, numel: int, capacity: float
) -> list[list[Implementation]]:
    """All in one batch where memory allows, else each alone, else none."""
    copy = 4 * numel
    # Beside each one's parameters and states: weights, gradients, and the temporaries of the
    # authors' package.
    if copy * (2 + (1 + family.states) * len(members) + 2) <= capacity:
        return [members]
    # Alone: on the weights themselves.
    if copy * (2 + family.states) <= capacity:
        return [[member] for member in members]
    return []


def _point(sweep: str, runner: Runner, workload: Workload, in_turn: bool) -> Point:
    implementation, numel = runner.implementation, workload.numel
    return Point(
        sweep,
        implementation.key,
        implementation.label,
        implementation.family.name,
        implementation.ours,
        len(workload.weights),
        numel,
        runner.ms,
        runner.ms / numel * 1e6,
        len(runner.samples),
        in_turn,
    )


def measure(
    sweep: str, workload: Workload, members: list[Implementation], settings: Settings
) -> Iterator[Point | Skipped]:
    """One size: the family alternates, or one after the other where memory is short."""
    family = members[0].family
    # The rest is for the system.
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
        runners = [Runner(implementation, weights, copy=in_turn) for implementation in batch]
        alternate(runners, gradients, settings, f"{workload.title}, {family.title}")
        for runner in runners:
            yield _point(sweep, runner, workload, in_turn)
            runner.release()
        gc.collect()  # optimizers are in reference cycles


def _members(device: torch.device) -> dict[str, list[Implementation]]:
    """For each family its baseline, the authors' optimizer where there is one, and ours."""
    found, _ = implementations(device)
    theirs = [i for i in found if i.is_baseline or i.key in ("adamp", "sgdp")]
    return {f.name: [i for i in theirs if i.family is f] + [ours(device, f)] for f in FAMILIES}


def run(device: torch.device, rounds: int, most: int, most_tensors: int, out: Path) -> None:
    """Measure both sweeps, keep the report up to date on disk, and draw it."""
    settings = Settings(device, rounds=rounds, budget=SECONDS, profiles=0)
    chosen: dict[str, str | int] = {"device": device.type, "rounds": rounds}
    report = GrowthReport(machine.describe(device), chosen, measure_bandwidth(device))
    path = out / f"{files.device_prefix(device)}-growth.json"
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
                        members[name] = [i for i in members[name] if i.key != item.implementation]
            console.say(f"  {sweep}: {workload.title}, {workload.numel:,} parameters", console.DIM)
            files.write(path, report)
    growth_plot.draw(dataclasses.asdict(report), path.with_suffix(".png"))
    console.finish(report.skipped, path)


def _needed(point: Point) -> bool:
    """Ours and the baselines are measured at every size, however slow a step is."""
    return point.ours or any(point.implementation == family.baseline for family in FAMILIES)
