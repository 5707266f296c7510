"""``python -m bench train``: training on real data, quality and the optimizer's share of time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from bench.lib import machine
from bench.lib.implementations import ADAM, Skipped, baseline_of, official, ours
from bench.lib.report import console, files, plots, train_table
from bench.lib.training import Task, TaskResult, train


@dataclasses.dataclass
class TrainReport:
    """Content of ``*-train.json``."""

    machine: dict[str, str | int | float | None]
    tasks: list[TaskResult] = dataclasses.field(default_factory=list)
    skipped: list[Skipped] = dataclasses.field(default_factory=list)


def run(
    tasks: list[Task], skipped: list[Skipped], device: torch.device, limit: float, out: Path
) -> None:
    """Train all tasks, print a table for each, draw them and write the report."""
    theirs, missing = official()
    members = [i for i in theirs if i.family is ADAM]
    found = [baseline_of(ADAM), *members, ours(device, ADAM)]
    report = TrainReport(machine.describe(device), skipped=[*skipped, *missing])
    prefix = files.device_prefix(device)
    path = out / f"{prefix}-train.json"
    for task in tasks:
        result = train(task, found, device, limit)
        report.tasks.append(result)
        files.write(path, report)
        shown = dataclasses.asdict(result)
        train_table.show(shown)
        plots.training(shown, report.machine, out / f"{prefix}-{task.name}.png")
    console.finish(report.skipped, path)
