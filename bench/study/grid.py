"""The grid of learning rates and weight decays, and how it grows where its best is on an edge."""

from __future__ import annotations

from collections.abc import Mapping

LRS = (2e-3, 4e-3, 8e-3, 1.6e-2)
WEIGHT_DECAYS = (0.01, 0.1, 1.0)
LR_FACTOR = 2.0
WEIGHT_DECAY_FACTOR = 10.0
EXTENSIONS = 3
"""Rows and columns that one arm's grid may grow by."""

Point = tuple[float, float]
"""Learning rate and weight decay."""

Losses = Mapping[Point, float | None]
"""Validation losses; None where the training diverged."""


def best(losses: Losses) -> Point:
    """The point of the lowest loss.

    Raises:
        ValueError: every training diverged.
    """
    finite = {point: loss for point, loss in losses.items() if loss is not None}
    if not finite:
        raise ValueError("every training of the grid diverged: lower its learning rates")
    return min(finite, key=lambda point: finite[point])


def edges(losses: Losses) -> list[str]:
    """The edges of the grid that its best point is on, such as ``"highest lr"``.

    No weight decay at all is no edge: nothing lies beyond it.
    """
    lr, weight_decay = best(losses)
    found = []
    for name, value, values in (
        ("lr", lr, [each for each, _ in losses]),
        ("weight decay", weight_decay, [each for _, each in losses]),
    ):
        if value == min(values) and value > 0:
            found.append(f"lowest {name}")
        if value == max(values):
            found.append(f"highest {name}")
    return found


def extension(losses: Losses) -> list[Point]:
    """The row or column beyond the first edge that the best point is on; empty where on none."""
    on = edges(losses)
    if not on:
        return []
    lrs = sorted({lr for lr, _ in losses})
    decays = sorted({decay for _, decay in losses})
    beyond = {
        "lowest lr": _column(lrs[0] / LR_FACTOR, decays),
        "highest lr": _column(lrs[-1] * LR_FACTOR, decays),
        "lowest weight decay": _row(lrs, 0.0),
        "highest weight decay": _row(lrs, decays[-1] * WEIGHT_DECAY_FACTOR),
    }
    return beyond[on[0]]


def _column(lr: float, decays: list[float]) -> list[Point]:
    return [(_tidy(lr), decay) for decay in decays]


def _row(lrs: list[float], decay: float) -> list[Point]:
    return [(lr, _tidy(decay)) for lr in lrs]


def _tidy(value: float) -> float:
    """Without the last digits' error of a product."""
    return float(f"{value:.6g}")
