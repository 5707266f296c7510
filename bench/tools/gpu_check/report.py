"""Content of ``gpu-check.json``."""

from __future__ import annotations

import dataclasses

from bench.tools.gpu_check.verdicts import FAIL


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
