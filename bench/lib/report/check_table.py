"""The table of ``make gpu-check``: in the terminal, and in docs/performance.md."""

from __future__ import annotations

from typing import Any

from bench.lib.report import markdown

COLUMNS = ["check", "verdict", "figure"]


def rows(report: dict[str, Any]) -> list[list[str]]:
    """One row for each stage that was planned."""
    done = {check["name"]: [check["verdict"], check["figure"]] for check in report["checks"]}
    return [[name, *done.get(name, ["not run", ""])] for name in report["planned"]]


def check_block(report: dict[str, Any] | None) -> str:
    """The table in docs/performance.md."""
    if report is None:
        return markdown.NOT_MEASURED
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows(report)]
    return f"{markdown.table(COLUMNS, cells)}\n\n{markdown.machine(report['machine'])}"
