"""From the raw numbers of ``study.json`` to those of the page and the pictures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from bench.study import grid
from bench.study.training import ADAMP, ADAMW, HEAD_WISE, Arm

Report = dict[str, Any]

PAIRS = (
    (Arm(ADAMP, True), Arm(ADAMW, True)),
    (Arm(ADAMP, False), Arm(ADAMW, False)),
    (Arm(HEAD_WISE, True), Arm(ADAMW, True)),
)
"""What is compared: an arm, and the one that is subtracted."""

CONTROL = f" at {ADAMP}'s values"
"""Marks AdamW's trainings at AdamP's best point."""

T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Two-sided 95 % quantile of Student's t by degrees of freedom."""


class Gap(NamedTuple):
    """Differences of two arms, seed by seed. ``half``: half the width of the 95 % t interval."""

    differences: list[float]
    mean: float
    sd: float
    half: float

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half


def gap(differences: Sequence[float]) -> Gap:
    """Mean, SD and the t interval of differences that each seed has one of."""
    mean, sd = mean_sd(differences)
    half = T_95[len(differences) - 1] * sd / math.sqrt(len(differences))
    return Gap(list(differences), mean, sd, half)


def mean_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and the sample's standard deviation."""
    return statistics.fmean(values), statistics.stdev(values)


def arms(report: Report, name: str = "trainings") -> list[Arm]:
    """The arms in the order in which they were run."""
    return list(dict.fromkeys(Arm(**entry["setting"]["arm"]) for entry in report.get(name, [])))


def of(report: Report, arm: Arm, name: str = "trainings") -> list[dict[str, Any]]:
    """All trainings of an arm, in the order of seeds or of grid points."""
    return [entry for entry in report.get(name, []) if Arm(**entry["setting"]["arm"]) == arm]


def final(report: Report, arm: Arm, name: str = "trainings") -> dict[int, float | None]:
    """The final validation loss by seed."""
    return {e["setting"]["seed"]: e["validation_loss"] for e in of(report, arm, name)}


def differences(report: Report, arm: Arm, other: Arm, name: str = "trainings") -> dict[int, float]:
    """By seed the final validation loss of ``arm`` less that of ``other``, if both finished.

    Args:
        report: the study.
        arm: an arm with full trainings.
        other: likewise, or one of the list ``name``.
        name: ``"trainings"``, or ``"controls"``.
    """
    ours, theirs = final(report, arm), final(report, other, name)
    both = [(seed, ours[seed], theirs.get(seed)) for seed in ours]
    return {seed: a - b for seed, a, b in both if a is not None and b is not None}


def comparisons(report: Report) -> dict[str, Gap]:
    """Each difference of two arms under its name in the table."""
    found = {}
    for arm, other in PAIRS:
        title = f"{label(arm)}, less {other.optimizer}"
        found[title] = differences(report, arm, other)
        if arm.optimizer == ADAMP:
            found[title + CONTROL] = differences(report, arm, other, "controls")
    # At the same values, where there are such trainings.
    (arm, other), without = PAIRS[0], differences(report, *PAIRS[1])
    controls = differences(report, arm, other, "controls")
    remark = CONTROL if controls else ""
    on = controls or differences(report, arm, other)
    title = f"AdamP less AdamW{remark}: with QK-norm less without"
    found[title] = {seed: on[seed] - without[seed] for seed in on if seed in without}
    # Of a study that was not finished there may be too few for an interval.
    return {name: gap(list(each.values())) for name, each in found.items() if len(each) > 1}


def grid_losses(report: Report, arm: Arm) -> dict[grid.Point, float | None]:
    """The losses of an arm's grid by learning rate and weight decay."""
    return {
        (e["setting"]["lr"], e["setting"]["weight_decay"]): e["validation_loss"]
        for e in of(report, arm, "grid")
    }


def complete(report: Report) -> bool:
    """Whether every arm of the report has the seeds of the plan."""
    seeds = report["settings"]["plan"]["seeds"]
    return all(list(final(report, arm)) == seeds for arm in arms(report))


def outcome_counts(report: Report, arm: Arm) -> dict[str, list[int]]:
    """Counts of none, channel, layer by layer type, over all weights, steps and seeds."""
    total: dict[str, list[int]] = {}
    for entry in of(report, arm):
        for kind, segments in entry["outcomes"].items():
            counts = total.setdefault(kind, [0, 0, 0])
            for segment in segments:
                for index, count in enumerate(segment):
                    counts[index] += count
    return total


def growth(report: Report, arm: Arm, name: str = "trainings") -> dict[str, list[float]]:
    """By layer type each seed's final norm over its initial one."""
    ratios: dict[str, list[float]] = {}
    for entry in of(report, arm, name):
        for kind, norms in entry["norms"].items():
            ratios.setdefault(kind, []).append(norms[-1] / norms[0])
    return ratios


def final_norms(report: Report, arm: Arm, name: str = "trainings") -> dict[str, list[float]]:
    """By layer type each seed's final norm."""
    norms: dict[str, list[float]] = {}
    for entry in of(report, arm, name):
        for kind, values in entry["norms"].items():
            norms.setdefault(kind, []).append(values[-1])
    return norms


def label(arm: Arm) -> str:
    """An arm in a table."""
    return f"{arm.optimizer}, QK-norm {'on' if arm.qk_norm else 'off'}"
