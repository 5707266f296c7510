"""What is watched of scale-invariant weights while they are trained: norm and effective step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

EVERY = 5
"""Effective steps are measured in one step of so many."""


@torch.no_grad()
def norm(weights: Iterable[Tensor]) -> float:
    """The norm of all of them together."""
    return math.sqrt(sum(weight.double().square().sum().item() for weight in weights))


class EffectiveSteps:
    """How far directions move in a step: ``|w'/|w'| - w/|w||``, the mean over rows and steps."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self._weights = weights
        self._before: list[Tensor] | None = None
        self._sum, self._count = 0.0, 0

    @torch.no_grad()
    def _directions(self) -> list[Tensor]:
        return [F.normalize(weight.flatten(1), dim=1) for weight in self._weights]

    def before(self, step: int) -> None:
        """Call before the optimizer's step."""
        self._before = self._directions() if step % EVERY == 0 else None

    def after(self) -> None:
        """Call after it."""
        if self._before is None:
            return
        for old, new in zip(self._before, self._directions(), strict=True):
            self._sum += (new - old).norm(dim=1).sum().item()
            self._count += len(new)

    @property
    def mean(self) -> float:
        """Mean over rows and measured steps."""
        return self._sum / self._count
