"""The table of targets as text: in the terminal, and in docs/performance.md."""

from __future__ import annotations

from typing import Any

from bench import console, markdown
from bench.contenders import Skipped
from bench.price_rows import AGAIN, NOISE_AT_MOST, OUTCOME_CASES, Cell, Verdict

NOISE = (
    "Noise: how far the anchor came out from a second copy of itself, taking turns with it, at "
    f"worst; so much is allowed on top of a limit of 1, at most {NOISE_AT_MOST:.0%}."
)
TOO_NOISY = " Here it was more, so a verdict says little where a figure is that close to its limit."


def figure(value: float | None) -> str:
    """Two decimals, and small ones to two digits."""
    if value is None:
        return "-"
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"±{value:.1%}"


def _noise(rows: list[Verdict]) -> str:
    return NOISE + TOO_NOISY * any((row.noise or 0) > NOISE_AT_MOST for row in rows)


def _limit(row: Verdict) -> str:
    return f"{'≥' if row.least else '≤'} {figure(row.limit)}"


def _short(title: str) -> str:
    return title.replace("one tensor of ", "")


def table(rows: list[Verdict]) -> tuple[list[str], list[list[str]]]:
    """Columns and cells: a figure for each number of threads, or the one there is."""
    counts = sorted({count for row in rows for count in row.by_threads})
    columns = ["case", "anchor", "limit", *(counts or ["here"]), "noise", "verdict", "worst case"]
    cells = []
    for row in rows:
        found = [row.by_threads.get(count) for count in counts] if row.by_threads else []
        figures = [figure(x) for x in found or [row.worst] * max(1, len(counts))]
        said = [_percent(row.noise), row.verdict, _short(row.where)]
        cells.append([row.case, row.anchor, _limit(row), *figures, *said])
    return columns, cells


def show(rows: list[Verdict], skipped: list[Skipped]) -> None:
    """Print the table."""
    notes = [_noise(rows)]
    notes += [f"not measured: {item.name}: {item.reason}" for item in skipped]
    missed = {index for index, row in enumerate(rows) if row.verdict == "missed"}
    title = "What a step costs, as a multiple of the anchor, in the worst of all cases"
    console.table(title, *table(rows), notes, bold=missed)


def show_cells(group: str, cells: list[Cell]) -> None:
    """Print all figures of one group: workloads across, everything else down."""
    workloads = list(dict.fromkeys(cell.workload for cell in cells))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for cell in cells:
        shown = f"{figure(cell.figure)} {_percent(cell.spread)}".strip()
        lines.setdefault((cell.name, cell.detail), {})[cell.workload] = shown
    called = {AGAIN: "anchor again", **dict.fromkeys((*OUTCOME_CASES, "step"), "ours")}
    rows = [
        [", ".join(part for part in (called.get(name, name), detail) if part)]
        + [line.get(workload, "") for workload in workloads]
        for (name, detail), line in lines.items()
    ]
    note = "±: half the interquartile range of the ratios of single rounds"
    console.table(group, ["case", *map(_short, workloads)], rows, [note], bold=set())


def price_block(report: dict[str, Any] | None) -> str:
    """The table in docs/performance.md."""
    if report is None:
        return markdown.NOT_MEASURED
    rows = [Verdict(**row) for row in report["rows"]]
    # Those of the other device have a table of their own.
    rows = [row for row in rows if not row.verdict.startswith(("with --device", "no GPU"))]
    settings = report["settings"]
    where = "" if settings["device"] == "cuda" else ", by threads; the verdict is on all"
    said = [
        markdown.machine(report["machine"]),
        f"The worst of all workloads{where}; medians of at least {settings['rounds']} rounds.",
        _noise(rows),
    ]
    return markdown.table(*table(rows)) + "\n\n" + " ".join(said)
