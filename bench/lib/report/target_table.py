"""The table of performance targets: in the terminal, and in docs/performance.md."""

from __future__ import annotations

from typing import Any

from bench.lib.report import console, markdown
from bench.lib.targets import OUTCOME_CASES, Cell, Target
from bench.lib.verdicts import NOISE_AT_MOST, Verdict, verdicts

NOISE = (
    "Noise: the largest deviation from 1 of the A/A control, a second copy of the baseline that "
    f"alternates with it. It is allowed on top of a limit of 1, up to {NOISE_AT_MOST:.0%}."
)
BOUND = (
    "Bound: the bytes of a step at the memory bandwidth that was measured beside it with as many "
    "threads, over the time of the baseline. A figure whose bound is above the limit is out of any "
    "program's reach; it is not counted as missed."
)
TOO_NOISY = " Here it was more, so that a verdict says little where a figure is near its limit."


def figure(value: float | None) -> str:
    """Two decimals, and small ones to two digits."""
    if value is None:
        return "-"
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"±{value:.1%}"


def _noise(rows: list[Verdict]) -> str:
    return NOISE + TOO_NOISY * any((row.noise or 0) > NOISE_AT_MOST for row in rows)


def _limit(target: Target) -> str:
    return f"{'≥' if target.least else '≤'} {figure(target.limit)}"


def table(rows: list[Verdict]) -> tuple[list[str], list[list[str]]]:
    """Columns and cells: a figure for each number of threads, or the one there is."""
    counts = sorted({count for row in rows for count in row.by_threads})
    columns = ["case", "baseline", "limit", "bound", *(counts or ["here"])]
    columns += ["noise", "verdict", "worst case"]
    cells = []
    for row in rows:
        found = [row.by_threads.get(count) for count in counts] if row.by_threads else []
        figures = [figure(x) for x in found or [row.worst] * max(1, len(counts))]
        result = [_percent(row.noise), row.verdict, markdown.short(row.where)]
        target, bound = row.target, "" if row.bound is None else figure(row.bound)
        cells.append([target.case, target.baseline, _limit(target), bound, *figures, *result])
    return columns, cells


def show(rows: list[Verdict]) -> None:
    """Print the table."""
    missed = {index for index, row in enumerate(rows) if row.verdict == "missed"}
    title = "Cost of a step as a multiple of the baseline, worst of all cases"
    console.table(title, *table(rows), [_noise(rows)], bold=missed)


def show_cells(group: str, cells: list[Cell]) -> None:
    """Print all figures of one group: workloads across, everything else down."""
    workloads = list(dict.fromkeys(cell.workload for cell in cells))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for cell in cells:
        shown = f"{figure(cell.figure)} {_percent(cell.spread)}".strip()
        lines.setdefault((cell.name, cell.detail), {})[cell.workload] = shown
    called = dict.fromkeys((*OUTCOME_CASES, "step"), "ours")
    rows = [
        [", ".join(part for part in (called.get(name, name), detail) if part)]
        + [line.get(workload, "") for workload in workloads]
        for (name, detail), line in lines.items()
    ]
    note = "±: half the interquartile range of the ratios of single rounds"
    console.table(group, ["case", *map(markdown.short, workloads)], rows, [note], bold=set())


def targets_block(report: dict[str, Any] | None) -> str:
    """The table in docs/performance.md."""
    if report is None:
        return markdown.NOT_MEASURED
    cells = [Cell(**cell) for cell in report["cells"]]
    gpu = report["settings"]["device"] == "cuda"
    rows = verdicts(cells, gpu)
    where = "" if gpu else ", by threads; the verdict is on all"
    notes = [
        markdown.machine(report["machine"]),
        f"The worst of all workloads{where}; medians of at least "
        f"{report['settings']['rounds']} rounds.",
        _noise(rows),
        BOUND,
    ]
    return markdown.table(*table(rows)) + "\n\n" + " ".join(notes)
