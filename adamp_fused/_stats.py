"""What ``stats=True`` collects in each step, and the numbers that :meth:`stats` makes of it.

A step leaves sums (:class:`Stat`) in the state ``stats`` of each parameter, on its device, in the
launch that makes the step. Norms and angles are made of them here, when somebody reads them.

Symbols: ``p`` the weight before the step, ``g`` its gradient (unscaled and clipped), ``u`` the raw
update of the method, ``r = k * p`` what the projection takes from ``u`` (0 where there is none;
row by row where it is channel-wise), ``b = 1 / bias_correction1``. With the weight decay ``d`` of
the step the new weight is ``(1 - d) * p - lr * b * (u - r)``.
"""

from __future__ import annotations

import enum
import math
from typing import Any

import torch
from torch import Tensor

OUTCOMES = ("none", "channel", "layer")


class Stat(enum.IntEnum):
    """The elements of the state ``stats``, as ``adamp::TensorStats`` in csrc/core/params.h."""

    NONE = 0  # how many steps came to this outcome
    CHANNEL = 1
    LAYER = 2
    OUTCOME = 3  # of the last step
    MAX_COSINE = 4
    BOUND = 5
    PP = 6
    GG = 7
    PU = 8
    UU = 9
    RP = 10
    RU = 11
    RR = 12
    LR = 13
    INV_BIAS_CORRECTION1 = 14
    DECAY = 15
    FIRST_PP = 16


def zeros(device: torch.device) -> Tensor:
    """The statistics of a parameter that has made no step."""
    return torch.zeros(len(Stat), dtype=torch.float64, device=device)


def measures_rows(projection: str, dim: int) -> bool:
    """Whether each row is measured by itself: where a channel-wise projection is possible.

    Else the parameter is measured as one row.
    """
    return dim > 1 and projection in ("auto", "channel")


def named_parameters(groups: list[dict[str, Any]]) -> dict[str, tuple[Tensor, dict[str, Any]]]:
    """Each parameter and its group by name, or by position where it was given without one."""
    found = {}
    for index, group in enumerate(groups):
        names = group.get("param_names")
        for i, param in enumerate(group["params"]):
            name = names[i] if names else f"group {index}, parameter {i}"
            found[name] = (param, group)
    return found


def read(recorded: list[tuple[str, Tensor]]) -> dict[str, dict[str, Any]]:
    """The numbers of all parameters that have made a step; one transfer for each device.

    Args:
        recorded: the name and the state ``stats`` of each parameter.
    """
    by_device: dict[torch.device, list[int]] = {}
    for i, (_, stats) in enumerate(recorded):
        by_device.setdefault(stats.device, []).append(i)
    rows: list[list[float]] = [[] for _ in recorded]
    for indices in by_device.values():
        table = torch.stack([recorded[i][1] for i in indices]).tolist()
        for i, row in zip(indices, table, strict=True):
            rows[i] = row
    pairs = zip(recorded, rows, strict=True)
    return {name: numbers(row) for (name, _), row in pairs if sum(row[: Stat.OUTCOME]) > 0}


def numbers(s: list[float]) -> dict[str, Any]:
    """What :meth:`stats` says of one parameter, of its sums (:class:`Stat`)."""
    b, lr = s[Stat.INV_BIAS_CORRECTION1], s[Stat.LR]
    norm = math.sqrt(s[Stat.PP])
    update_norm = b * _root(s[Stat.UU] - 2 * s[Stat.RU] + s[Stat.RR])
    return {
        "outcome": OUTCOMES[int(s[Stat.OUTCOME])],
        "outcomes": {name: int(s[i]) for i, name in enumerate(OUTCOMES)},
        "max_cosine": s[Stat.MAX_COSINE],
        "bound": s[Stat.BOUND],
        "weight_norm": norm,
        "grad_norm": math.sqrt(s[Stat.GG]),
        "update_norm": update_norm,
        "removed": ratio(_root(s[Stat.RR]), _root(s[Stat.UU]), of_nothing=0.0),
        "effective_lr": ratio(lr * update_norm, norm),
        "angle": _angle(s),
        "growth": ratio(norm, _root(s[Stat.FIRST_PP])),
    }


def _angle(s: list[float]) -> float:
    """Between the weight before and after the step, by the parts of the step along and across it.

    Their tangent is precise for a small angle, whose cosine rounds to 1.
    """
    pp, pq = s[Stat.PP], s[Stat.PU] - s[Stat.RP]
    if not pp > 0:
        return math.nan
    step_size = s[Stat.LR] * s[Stat.INV_BIAS_CORRECTION1]
    qq = s[Stat.UU] - 2 * s[Stat.RU] + s[Stat.RR]
    across = step_size * _root(qq - pq * pq / pp)
    along = (1 - s[Stat.DECAY]) * math.sqrt(pp) - step_size * pq / math.sqrt(pp)
    return math.atan2(across, along)


def _root(square: float) -> float:
    """Of a difference of sums, which rounding may have made negative; NaN stays NaN."""
    return math.sqrt(square) if not square < 0 else 0.0


def ratio(a: float, b: float, of_nothing: float = math.nan) -> float:
    """``a / b``; infinite where only ``b`` is 0, and ``of_nothing`` where both are."""
    if b != 0:
        return a / b
    return math.inf if a > 0 else of_nothing
