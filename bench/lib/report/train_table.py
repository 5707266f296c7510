"""The table of one training: in the terminal, and in docs/performance.md."""

from __future__ import annotations

import statistics
from typing import Any

from bench.lib.report import console, markdown


def tail(task: dict[str, Any]) -> int:
    """Number of last steps whose mean is the training loss."""
    return max(1, int(task["steps"]) // 20)


def table(task: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns, and a row for each optimizer."""
    columns = [f"{task['title']}, {task['steps']:,} steps", "training loss", task["metric"]]
    columns += ["ms an iteration", "of that in `step()`"]
    rows = [
        [
            run["label"],
            f"{statistics.fmean(run['losses'][-tail(task) :]):.4f}",
            f"{run['metric'][-1]:.1%}" if task["percent"] else f"{run['metric'][-1]:.4f}",
            f"{run['iteration_s'] * 1e3:.1f}",
            f"{run['optimizer_s'] * 1e3:.2f} ({run['optimizer_share']:.1%})",
        ]
        for run in task["runs"]
    ]
    return columns, rows


def show(task: dict[str, Any]) -> None:
    """Print the table."""
    rate = f"lr {task['lr']} after {task['warm_up']} steps"
    notes = [f"{task['data']}; {rate}, weight decay {task['weight_decay']}, one seed"]
    notes += [f"training loss: mean of the last {tail(task)} steps; times: medians"]
    if task["steps"] < task["planned_steps"]:
        notes.append(f"stopped by the time limit, {task['planned_steps']:,} steps were planned")
    bold = {index for index, run in enumerate(task["runs"]) if run["ours"]}
    console.table(f"{task['parameters']:,} parameters", *table(task), notes, bold)


def train_block(report: dict[str, Any] | None) -> str:
    """The tables in docs/performance.md; this package's rows in bold."""
    if report is None:
        return markdown.NOT_MEASURED
    tables = []
    for task in report["tasks"]:
        columns, rows = table(task)
        for row, run in zip(rows, task["runs"], strict=True):
            row[0] = f"**{row[0]}**" if run["ours"] else row[0]
        tables.append(markdown.table(columns, rows))
    notes = (
        f"{markdown.machine(report['machine'])} Same seed, same data order, one seed; training "
        "loss: mean of the last 5 % of steps; times: medians."
    )
    return "\n\n".join([*tables, notes])
