"""``python -m bench train``: training on real data, quality and the optimizer's share of time."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import torch

from bench.lib import machine
from bench.lib.implementations import Skipped
from bench.lib.report import console, files, plots
from bench.lib.training import Task, TaskResult, train, trainers


@dataclasses.dataclass
class TrainReport:
    """Content of ``*-train.json``."""

    machine: dict[str, str | int | float | None]
    tasks: list[TaskResult] = dataclasses.field(default_factory=list)
    skipped: list[Skipped] = dataclasses.field(default_factory=list)


def show(result: TaskResult) -> None:
    """Print one task's table."""
    tail = max(1, result.steps // 20)
    rows = [
        [
            run.label,
            f"{statistics.mean(run.losses[-tail:]):.4f}",
            f"{run.metric[-1]:.2%}" if result.percent else f"{run.metric[-1]:.4f}",
            f"{run.iteration_s * 1e3:.2f}",
            f"{run.optimizer_s * 1e3:.3f}",
            f"{run.optimizer_share:.1%}",
        ]
        for run in result.runs
    ]
    columns = ["optimizer", "training loss", result.metric]
    columns += ["ms an iteration", "ms in step()", "share"]
    title = f"{result.title}: {result.parameters:,} parameters, {result.steps:,} steps"
    rate = f"lr {result.lr} after {result.warm_up} steps"
    notes = [f"{result.data}; {rate}, weight decay {result.weight_decay}, one seed"]
    notes += [f"training loss: mean of the last {tail} steps; times: medians"]
    if result.steps < result.planned_steps:
        notes.append(f"stopped by the time limit, {result.planned_steps:,} steps were planned")
    bold = {index for index, run in enumerate(result.runs) if run.ours}
    console.table(title, columns, rows, notes, bold)


def run(
    tasks: list[Task], skipped: list[Skipped], device: torch.device, limit: float, out: Path
) -> None:
    """Train all tasks, print a table for each, draw them and write the report."""
    found, missing = trainers(device)
    report = TrainReport(machine.describe(device), skipped=[*skipped, *missing])
    prefix = files.device_prefix(device)
    for task in tasks:
        result = train(task, found, device, limit)
        report.tasks.append(result)
        show(result)
        files.write(out / f"{prefix}-train.json", report)
        plots.training(
            dataclasses.asdict(result), report.machine, out / f"{prefix}-{task.name}.png"
        )
    for item in report.skipped:
        console.say(f"  not measured: {item.name}: {item.reason}", style="dim")
    console.say(f"  results: {out / f'{prefix}-train.json'}", style="dim")
