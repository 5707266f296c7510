"""``python -m bench step``: what one optimizer step costs on real parameter lists."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bench.lib import machine
from bench.lib.implementations import FAMILIES, Implementation, Skipped
from bench.lib.measure import Row, WorkloadResult, measure
from bench.lib.report import console, files, plots
from bench.lib.runners import Settings
from bench.lib.workloads import Workload


@dataclasses.dataclass
class StepReport:
    """Content of ``*-step.json``."""

    machine: dict[str, str | int | float | None]
    settings: dict[str, str | int | float]
    workloads: list[WorkloadResult] = dataclasses.field(default_factory=list)
    skipped: list[Skipped] = dataclasses.field(default_factory=list)


DISTURBED = 0.15
"""Spread of a baseline from which on a table warns."""


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
    return [*cells, f"{row.bytes / 1e6:,.1f}", f"{row.bandwidth_share:.0%}", str(row.rounds)]


def _columns(gpu: bool) -> list[str]:
    columns = ["implementation", "ms", "spread", "ratio"]
    if gpu:
        columns += ["kernel ms", "ratio", "host ms", "launches", "waits"]
    return [*columns, "MB", "of bandwidth", "rounds"]


def show(measured: WorkloadResult, settings: Settings) -> None:
    """Print one workload's table."""
    gpu = settings.device.type == "cuda"
    title = f"{measured.title}: {measured.tensors:,} tensors, {measured.numel:,} parameters"
    notes = [str(measured.bandwidth)]
    if measured.batches > len({row.family for row in measured.rows}):
        notes.append(
            f"not enough memory for all at once: {measured.batches} batches, each with a baseline"
        )
    disturbed = [r.label for r in measured.rows if r.ratio == 1 and (r.spread or 0) > DISTURBED]
    notes += [
        f"disturbed machine: {label} itself varies, so that ratios say little"
        for label in disturbed
    ]
    console.table(
        title,
        _columns(gpu),
        [_cells(row, gpu) for row in measured.rows],
        notes,
        bold={index for index, row in enumerate(measured.rows) if row.ours},
    )


def _explain(settings: Settings) -> None:
    baselines = " and ".join(f"{family.baseline} for {family.title}" for family in FAMILIES)
    console.say(
        f"\nStep time on {settings.device} in {settings.dtype}, outcome {settings.outcome!r}. "
        f"Medians of alternating rounds; slow implementations get fewer rounds.\n"
        f"ratio: to {baselines}. MB: bytes of one pass (p, g and states read, p and states "
        f"written).\nof bandwidth: these bytes per second over the memory bandwidth.\n",
        console.DIM,
    )


def run(
    workloads: list[Workload],
    implementations: list[Implementation],
    skipped: list[Skipped],
    settings: Settings,
    out: Path,
) -> None:
    """Measure all workloads, print a table for each and keep the report up to date on disk."""
    path = out / f"{files.device_prefix(settings.device)}-step.json"
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
        measured = measure(workload, implementations, settings)
        if isinstance(measured, Skipped):
            report.skipped.append(measured)
        else:
            report.workloads.append(measured)
            show(measured, settings)
        files.write(path, report)
    plots.step_ratios(dataclasses.asdict(report), path.with_suffix(".png"))
    console.finish(report.skipped, path)
