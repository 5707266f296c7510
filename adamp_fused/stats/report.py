"""What explain() has found: a table for people, parameter groups for an optimizer."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Weight:
    """One weight of two or more dimensions.

    Attributes:
        name: in ``model.named_parameters()``.
        shape: of the weight; rows are its dimension 0.
        followed_by: the operations that its output goes into, or that it goes into itself.
        invariance: "channel", where the output does not depend on the scale of any row; "layer",
            where it does not depend on the scale of the whole weight; "none"; or "unknown".
        rows_invariant: how many rows have gradients orthogonal to them.
        rows_seen: how many rows have a gradient at all.
        decisions: how often the test of AdamP came to each outcome.
        channel_margin: largest |cos| of a row over its bound, of all losses; below 1 it passes.
        layer_margin: |cos| of the whole weight over its bound, likewise.
        false_positives: estimated share of steps in which the test projects a weight that is not
            scale-invariant, 0 to 1.
        projection: what to set as ``projection``.
        reason: why.
    """

    name: str
    shape: tuple[int, ...]
    followed_by: tuple[str, ...]
    invariance: str
    rows_invariant: int
    rows_seen: int
    decisions: dict[str, int]
    channel_margin: float
    layer_margin: float
    false_positives: float
    projection: str
    reason: str


@dataclass(frozen=True)
class Report:
    """Which weights of a model are scale-invariant, and what AdamP does with each.

    Attributes:
        weights: in the order of ``model.named_parameters()``.
        delta: of the test.
        tolerance: largest ``|cos| * sqrt(length)`` that counts as orthogonal; 1 is what random
            gradients have.
        losses: how many losses were tried.
    """

    weights: tuple[Weight, ...]
    delta: float
    tolerance: float
    losses: int

    def __getitem__(self, name: str) -> Weight:
        """The weight of this name."""
        for weight in self.weights:
            if weight.name == name:
                return weight
        raise KeyError(
            f"{name!r} must be a weight of two or more dimensions; "
            f"there are {[w.name for w in self.weights]}"
        )

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        """Groups with ``projection`` set, for FusedAdamP or FusedSGDP.

        All parameters are in them, with their names; those of fewer than two dimensions, which are
        never projected, and weights of which nothing is known are in a group with "auto".

        Args:
            model: the model that was explained, or one with the same parameters.

        Raises:
            ValueError: a weight of the report is not in ``model``, or has another shape there.
        """
        projection = {}
        params = dict(model.named_parameters())
        for weight in self.weights:
            found = params.get(weight.name)
            if found is None or tuple(found.shape) != weight.shape:
                there = "no such parameter" if found is None else f"shape {tuple(found.shape)}"
                raise ValueError(
                    f"the model has {there} for {weight.name!r} and must have one of shape "
                    f"{weight.shape}; pass the model that was explained"
                )
            projection[weight.name] = weight.projection
        groups: dict[str, list[Any]] = {}
        for name, param in params.items():
            groups.setdefault(projection.get(name, "auto"), []).append((name, param))
        return [{"params": named, "projection": choice} for choice, named in groups.items()]

    def as_dict(self) -> dict[str, Any]:
        """The report for a program; numbers may be infinite."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        rows = [_HEADER, *(_row(weight) for weight in self.weights)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        notes = [f"{weight.name}: {weight.reason}" for weight in self.weights if _is_odd(weight)]
        return "\n".join([*lines, "", *textwrap.wrap(self._summary(), 110), *notes])

    def _summary(self) -> str:
        sizes = [math.prod(weight.shape) for weight in self.weights]
        invariant = sum(
            size
            for size, weight in zip(sizes, self.weights, strict=True)
            if weight.invariance in ("channel", "layer")
        )
        share = invariant / sum(sizes) if sum(sizes) else 0.0
        return (
            f"{share:.1%} of the elements above are in scale-invariant weights. {self.losses} "
            f"losses, delta {self.delta:g}; orthogonal: |cos| * sqrt(length) < {self.tolerance:g} "
            "(random gradients: 1). Margins: largest |cos| / bound; the test passes below 1. "
            "By chance: steps in which the test projects a weight that is not scale-invariant."
        )


_HEADER = (
    "weight",
    "shape",
    "followed by",
    "invariant",
    "rows",
    "test decides",
    "margin channel",
    "margin layer",
    "by chance",
    "projection",
)


def _row(weight: Weight) -> tuple[str, ...]:
    decided = ", ".join(f"{name} {count}" for name, count in weight.decisions.items() if count)
    has_gradient = bool(decided)
    return (
        weight.name,
        "x".join(map(str, weight.shape)),
        ", ".join(weight.followed_by) or "-",
        weight.invariance,
        f"{weight.rows_invariant}/{weight.rows_seen}" if has_gradient else "-",
        decided or "no gradient",
        f"{weight.channel_margin:.2g}" if has_gradient else "-",
        f"{weight.layer_margin:.2g}" if has_gradient else "-",
        f"{weight.false_positives:.1%}" if weight.false_positives else "-",
        weight.projection,
    )


def _is_odd(weight: Weight) -> bool:
    """Whether the reason says more than the table."""
    return weight.invariance == "unknown" or ":" in weight.reason
