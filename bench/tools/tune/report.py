"""Timings of the variants, in ``gpu-tune.json`` and in the terminal."""

from __future__ import annotations

import dataclasses

from bench.lib.report import console
from bench.tools.tune.variants import Variant


@dataclasses.dataclass(frozen=True)
class Timing:
    """One variant on one case: the median step, and its bytes over the memcpy bandwidth."""

    variant: str
    case: str
    microseconds: float
    ratio: float
    memcpy_share: float
    batches: int


@dataclasses.dataclass
class TuneReport:
    """Content of ``gpu-tune.json``; a timing's ``ratio`` is to the default."""

    machine: dict[str, str | int | float | None]
    memcpy_gbs: float = 0.0
    registers: dict[str, int] = dataclasses.field(default_factory=dict)
    spilled_bytes: dict[str, int] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    timings: list[Timing] = dataclasses.field(default_factory=list)


def show(report: TuneReport, variants: tuple[Variant, ...]) -> None:
    """Print a table: variants down, cases across."""
    cases = list(dict.fromkeys(timing.case for timing in report.timings))
    cells = {(timing.variant, timing.case): timing for timing in report.timings}
    best = {case: min(t.microseconds for t in report.timings if t.case == case) for case in cases}
    rows: list[list[str]] = []
    bold: set[int] = set()
    for variant in variants:
        row = [variant.name, str(report.registers.get(variant.name, "-"))]
        row.append(str(report.spilled_bytes.get(variant.name, "-")))
        for case in cases:
            timing = cells.get((variant.name, case))
            if timing is None:
                row.append("-")
                continue
            row.append(f"{timing.microseconds:,.0f} {timing.ratio:.3f} {timing.memcpy_share:.0%}")
            if timing.microseconds == best[case]:
                bold.add(len(rows))
        rows.append(row)
    notes = [f"microseconds a step, ratio to the first row, share of {report.memcpy_gbs:,.0f} GB/s"]
    notes += [f"{what}: {why.splitlines()[-1]}" for what, why in report.failed.items()]
    console.table("Variants", ["variant", "registers", "spilled", *cases], rows, notes, bold)
