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
    return list(dict.fromkeys(Arm(**entry["setting"]["arm"]) for entry in report[name]))


def of(report: Report, arm: Arm, name: str = "trainings") -> list[dict[str, Any]]:
    """All trainings of an arm, in the order of seeds or of grid points."""
    return [entry for entry in report[name] if Arm(**entry["setting"]["arm"]) == arm]


def final(report: Report, arm: Arm) -> dict[int, float | None]:
    """The final validation loss by seed."""
    return {e["setting"]["seed"]: e["validation_loss"] for e in of(report, arm)}


def differences(report: Report, arm: Arm, other: Arm) -> list[float]:
    """Final validation loss of ``arm`` less that of ``other``, of each seed that both finished."""
    return [difference for _, difference in _by_seed(report, arm, other)]


def change(report: Report) -> list[float]:
    """AdamP's difference to AdamW with QK-norm less the one without, of each seed."""
    (on, off) = (dict(_by_seed(report, *pair)) for pair in PAIRS[:2])
    return [on[seed] - off[seed] for seed in on if seed in off]


def _by_seed(report: Report, arm: Arm, other: Arm) -> list[tuple[int, float]]:
    ours, theirs = final(report, arm), final(report, other)
    both = [(seed, ours[seed], theirs.get(seed)) for seed in ours]
    return [(seed, a - b) for seed, a, b in both if a is not None and b is not None]


def grid_losses(report: Report, arm: Arm) -> dict[grid.Point, float | None]:
    """The losses of an arm's grid by learning rate and weight decay."""
    return {
        (e["setting"]["lr"], e["setting"]["weight_decay"]): e["validation_loss"]
        for e in of(report, arm, "grid")
    }


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


def growth(report: Report, arm: Arm) -> dict[str, list[float]]:
    """By layer type each seed's final norm over its initial one."""
    ratios: dict[str, list[float]] = {}
    for entry in of(report, arm):
        for kind, norms in entry["norms"].items():
            ratios.setdefault(kind, []).append(norms[-1] / norms[0])
    return ratios


def final_norms(report: Report, arm: Arm) -> dict[str, list[float]]:
    """By layer type each seed's final norm."""
    norms: dict[str, list[float]] = {}
    for entry in of(report, arm):
        for kind, values in entry["norms"].items():
            norms.setdefault(kind, []).append(values[-1])
    return norms


def label(arm: Arm) -> str:
    """An arm in a table."""
    return f"{arm.optimizer}, QK-norm {'on' if arm.qk_norm else 'off'}"
