"""``python -m bench step``: what one optimizer step costs on real parameter lists."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bench import console, machine, plots, results
from bench.contenders import FAMILIES, Contender, Skipped
from bench.harness import MemoryRate
from bench.measure import Row, WorkloadResult, measure
from bench.turns import Settings
from bench.workloads import Workload


@dataclasses.dataclass
class StepReport:
    """What ``*-step.json`` holds."""

    machine: dict[str, str | int | float | None]
    settings: dict[str, str | int | float]
    workloads: list[WorkloadResult] = dataclasses.field(default_factory=list)
    skipped: list[Skipped] = dataclasses.field(default_factory=list)


UNEVEN = 0.15
"""Spread of an anchor from which on a table warns."""


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _cells(row: Row, gpu: bool) -> list[str]:
    cells = [
        row.label,
        _number(row.ms, 3 if row.ms < 10 else 1),
        "-" if row.spread is None else f"±{row.spread:.1%}",
        _number(row.ratio),
    ]
    if gpu:
        launches = _number(row.launches, 0)
        cells += [_number(row.kernel_ms, 3), _number(row.kernel_ratio), _number(row.host_ms, 3)]
        cells += [launches, _number(row.synchronisations, 0)]
    return [*cells, f"{row.bytes / 1e6:,.1f}", f"{row.rate_share:.0%}", str(row.rounds)]


def _columns(gpu: bool) -> list[str]:
    columns = ["contender", "ms", "spread", "ratio"]
    if gpu:
        columns += ["kernel ms", "ratio", "host ms", "launches", "waits"]
    return [*columns, "MB", "of rate", "rounds"]


def describe_rate(rate: MemoryRate) -> str:
    """Both memory rates, the one that steps are held against first."""
    copy, add = f"copy {rate.copy / 1e9:,.1f} GB/s", f"in-place add {rate.add / 1e9:,.1f} GB/s"
    used, other = (copy, add) if rate.limit == rate.copy else (add, copy)
    return f"memory rate: {used} ({other})"


def show(measured: WorkloadResult, settings: Settings) -> None:
    """Print one workload's table."""
    gpu = settings.device.type == "cuda"
    title = f"{measured.title}: {measured.tensors:,} tensors, {measured.numel:,} parameters"
    notes = [describe_rate(measured.rate)]
    if measured.batches > len({row.family for row in measured.rows}):
        notes.append(f"memory was short: {measured.batches} batches, each with its own anchor")
    uneven = [r.label for r in measured.rows if r.ratio == 1 and (r.spread or 0) > UNEVEN]
    notes += [f"uneven machine: {label} itself varies, ratios say little" for label in uneven]
    console.table(
        title,
        _columns(gpu),
        [_cells(row, gpu) for row in measured.rows],
        notes,
        bold={index for index, row in enumerate(measured.rows) if row.ours},
    )


def _explain(settings: Settings) -> None:
    anchors = " and ".join(f"{family.anchor} for {family.title}" for family in FAMILIES)
    console.say(
        f"\nStep time on {settings.device} in {settings.dtype}, outcome {settings.outcome!r}. "
        f"Medians over alternating rounds, fewer where a step is slow.\n"
        f"ratio: to {anchors}. MB: the least a step can do, p, g and states read, p and "
        f"states written. of rate: those bytes per second over the memory rate.\n",
        style="dim",
    )


def run(
    workloads: list[Workload],
    contenders: list[Contender],
    skipped: list[Skipped],
    settings: Settings,
    out: Path,
) -> None:
    """Measure all workloads, print a table for each and keep the report up to date on disk."""
    prefix = results.device_prefix(settings.device)
    report = StepReport(
        machine=machine.describe(settings.device),
        settings={
            "device": settings.device.type,
            "dtype": str(settings.dtype).removeprefix("torch."),
            "outcome": settings.outcome,
            "rounds": settings.rounds,
        },
        skipped=list(skipped),
    )
    _explain(settings)
    for workload in workloads:
        measured = measure(workload, contenders, settings)
        if isinstance(measured, Skipped):
            report.skipped.append(measured)
        else:
            report.workloads.append(measured)
            show(measured, settings)
        results.write(out / f"{prefix}-step.json", report)
    for item in report.skipped:
        console.say(f"  left out: {item.name}: {item.reason}", style="dim")
    plots.step_ratios(dataclasses.asdict(report), out / f"{prefix}-step.png")
    console.say(f"  results: {out / f'{prefix}-step.json'}", style="dim")
