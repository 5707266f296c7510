"""What ``gpu-check.json`` holds, and its rows as the terminal and the docs show them."""

from __future__ import annotations

import dataclasses
from typing import Any

from bench.gpu_check.verdicts import FAIL


@dataclasses.dataclass(frozen=True)
class Check:
    """One stage's result."""

    name: str
    verdict: str
    figure: str
    seconds: float


@dataclasses.dataclass
class CheckReport:
    """All results so far; ``planned`` names the stages, run or not."""

    machine: dict[str, str | int | float | None]
    planned: list[str]
    checks: list[Check] = dataclasses.field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Everything was run, and nothing failed."""
        return len(self.checks) == len(self.planned) and all(
            check.verdict != FAIL for check in self.checks
        )


COLUMNS = ["check", "verdict", "figure"]


def rows(report: dict[str, Any]) -> list[list[str]]:
    """One row for each stage that was planned."""
    done = {check["name"]: [check["verdict"], check["figure"]] for check in report["checks"]}
    return [[name, *done.get(name, ["not run", ""])] for name in report["planned"]]
