"""``python -m bench tables``: rewrites the tables of docs/performance.md from the JSON files.

A table stands between ``<!-- begin:NAME -->`` and ``<!-- end:NAME -->``; nothing else is touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.lib.bytes import MODEL, one_pass
from bench.lib.implementations import FAMILIES
from bench.lib.report import console, files, markdown
from bench.lib.report.check_table import check_block
from bench.lib.report.sharding_table import scale_block, sharding_block
from bench.lib.report.target_table import targets_block
from bench.lib.report.train_table import train_block

Report = dict[str, Any]
Cell = Callable[[dict[str, Any]], str]

PAGE = Path(__file__).parents[3] / "docs" / "performance.md"
BLOCK = re.compile(r"(<!-- begin:(?P<name>[\w-]+) -->\n).*?(<!-- end:(?P=name) -->)", re.DOTALL)


def _milliseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _wall(row: Report) -> str:
    return f"{_milliseconds(row['ms'])} ({row['ratio']:.2f}x)"


def _kernel(row: Report) -> str:
    if row["kernel_ms"] is None:
        return "-"
    return f"{_milliseconds(row['kernel_ms'])} ({row['kernel_ratio']:.2f}x)"


def _host(row: Report) -> str:
    launches = "-" if row["launches"] is None else f"{row['launches']:,.0f}"
    return f"{row['host_ms']:.3f} / {launches}"


def _share(row: Report) -> str:
    return f"{row['bandwidth_share']:.0%}"


def _is_baseline(row: Report) -> bool:
    return any(row["implementation"] == family.baseline for family in FAMILIES)


def _is_baseline_or_ours(row: Report) -> bool:
    return _is_baseline(row) or row["ours"]


def _grid(
    report: Report, corner: str, cell: Cell, only: Callable[[Report], bool] = lambda _: True
) -> str:
    """Implementations down, workloads across; this package's in bold."""
    found: dict[str, Report] = {}
    for workload in report["workloads"]:
        found |= {row["implementation"]: row for row in workload["rows"]}
    # One family after the other, whichever workload named an implementation first.
    ordered = sorted(filter(only, found.values()), key=lambda row: row["family"])
    lines = []
    for row in ordered:
        line = [f"**{row['label']}**" if row["ours"] else row["label"]]
        for workload in report["workloads"]:
            same = [r for r in workload["rows"] if r["implementation"] == row["implementation"]]
            line.append(cell(same[0]) if same else "-")
        lines.append(line)
    titles = [markdown.short(workload["title"]) for workload in report["workloads"]]
    return markdown.table([corner, *titles], lines)


def step_block(report: Report | None) -> str:
    """Step times and shares of the memory bandwidth; on a GPU also kernels, host and launches."""
    if report is None:
        return markdown.NOT_MEASURED
    grids = [_grid(report, "ms a step (ratio)", _wall)]
    if report["settings"]["device"] == "cuda":
        grids.append(_grid(report, "kernel ms (ratio)", _kernel))
        grids.append(_grid(report, "host ms / launches", _host))
    grids.append(_grid(report, "% of the memory bandwidth", _share, _is_baseline_or_ours))
    settings = report["settings"]
    spreads = [r["spread"] or 0 for w in report["workloads"] for r in w["rows"] if _is_baseline(r)]
    notes = (
        f"{markdown.machine(report['machine'])} {settings['dtype']}, outcome "
        f"{settings['outcome']}; medians over up to {settings['rounds']} alternating rounds. "
        "Ratios to torch's fused AdamW, for SGDP to its fused SGD with momentum; half the "
        f"interquartile range of these two: at most ±{max(spreads):.0%}."
    )
    return "\n\n".join([*grids, notes])


def bytes_block() -> str:
    """The byte model in float32."""
    header = ["bytes per parameter, float32", "read", "written", "moved", "over one pass"]
    rows = []
    for family in FAMILIES:
        for outcome, traffic in MODEL.items():
            moved = traffic(family.states)
            ratio = moved.total / one_pass(family.states).total
            figures = [str(4 * n) for n in (moved.read, moved.written, moved.total)]
            rows.append([f"{family.title}, {outcome}", *figures, f"{ratio:.2f}"])
    return markdown.table(header, rows)


COMPUTED = {"bytes": bytes_block, "sharding-scale": scale_block}
"""Blocks that need no measurement."""

BLOCKS: dict[str, tuple[str, Callable[[Report | None], str]]] = {
    "cpu-step": ("cpu-step.json", step_block),
    "cpu-sharding": ("cpu-sharding.json", sharding_block),
    "cpu-targets": ("cpu-targets.json", targets_block),
    "cpu-train": ("cpu-train.json", train_block),
    "gpu-step": ("gpu-step.json", step_block),
    "gpu-check": ("gpu-check.json", check_block),
    "gpu-targets": ("gpu-targets.json", targets_block),
}
"""Block name: the file it is made from, and how."""


def rewrite(text: str, folder: Path) -> str:
    """``text`` with every known block made anew from the reports in ``folder``.

    Raises:
        ValueError: a block whose name is none of :data:`BLOCKS`.
    """

    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if name in COMPUTED:
            return f"{match[1]}\n{COMPUTED[name]()}\n\n{match[3]}"
        if name not in BLOCKS:
            known = ", ".join([*COMPUTED, *BLOCKS])
            raise ValueError(f"no table is called {name!r}; there are {known}")
        file, block = BLOCKS[name]
        return f"{match[1]}\n{block(files.read(folder / file))}\n\n{match[3]}"

    return BLOCK.sub(fill, text)


def run(folder: Path) -> int:
    """Rewrite the page; an exit status."""
    old = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(rewrite(old, folder), encoding="utf-8")
    console.say(f"{PAGE}: tables {', '.join(match['name'] for match in BLOCK.finditer(old))}")
    return 0
