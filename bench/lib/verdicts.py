"""The verdicts on performance targets, from what was measured."""

from __future__ import annotations

import dataclasses
import math

from bench.lib.bounds import bound_of
from bench.lib.targets import CONTROL, TARGETS, Cell, Target

NOISE_AT_MOST = 0.03
"""Largest allowance for the noise of a run."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A target with its worst figure.

    Attributes:
        target: what was to be reached.
        worst: the worst figure, or None; of those within reach where one of them is missed.
        where: the workload and detail of the worst figure.
        noise: measured by the A/A control of the group.
        verdict: "met", "missed", "out of reach" (every missed figure has a bound above the limit)
            or "not measured".
        bound: the least that the bytes of a step allow, of the worst figure; None: not by memory.
        by_threads: the worst figure for each number of threads.
    """

    target: Target
    worst: float | None
    where: str
    noise: float | None
    verdict: str
    by_threads: dict[str, float] = dataclasses.field(default_factory=dict)
    bound: float | None = None


def noise_of(cells: list[Cell], group: str) -> float | None:
    """The largest deviation of the group's A/A controls from 1; None where there are none."""
    found = [abs(c.figure - 1) for c in cells if c.group == group and c.name == CONTROL]
    return max(found, default=None)


def judge(target: Target, cells: list[Cell]) -> Verdict:
    """The verdict on one target."""
    own = [c for c in cells if (c.group, c.name) == (target.group, target.name)]
    if not own:
        return Verdict(target, None, "", None, "not measured")
    noise = noise_of(cells, target.group) if target.noise else None
    allowed = min(noise or 0.0, NOISE_AT_MOST)
    worst_of = min if target.least else max
    least = target.limit - allowed if target.least else -math.inf
    most = math.inf if target.least else target.limit + allowed
    missed = [cell for cell in own if not least <= cell.figure <= most]
    in_reach = [cell for cell in missed if (bound_of(target, cell) or 0.0) <= most]
    worst = worst_of(in_reach or own, key=lambda cell: cell.figure)
    by_threads = {
        count: worst_of(cell.figure for cell in own if cell.threads == count)
        for count in sorted({cell.threads for cell in own} - {""})
    }
    # Without what the target's own name says.
    parts = [worst.workload, *worst.detail.split(", ")]
    where = ", ".join(part for part in parts if part not in ("", target.name))
    verdict = "missed" if in_reach else "out of reach" if missed else "met"
    bound = bound_of(target, worst)
    return Verdict(target, worst.figure, where, noise, verdict, by_threads, bound)


def verdicts(cells: list[Cell], gpu: bool) -> list[Verdict]:
    """The verdicts on the targets of a device, by group as far as the group was measured."""
    groups = {cell.group for cell in cells}
    chosen = (t for t in TARGETS if t.applies_to(gpu) and (t.gpu is None or t.group in groups))
    return [judge(target, cells) for target in chosen]
