"""A step inside of ``torch.compile``: the arguments of ``torch.ops.adamp_fused.step_``.

The operator (csrc/binding/operator.cpp) is one call for all groups, which the compiler sees as what
it is: it writes weights, moments, counts, outcomes and statistics. Outside of a compiled function
nobody uses it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from adamp_fused._methods import Method


class Tensors(NamedTuple):
    """What a step reads and writes, of the parameters of a group that have a gradient.

    Attributes:
        params: the weights.
        grads: of each.
        moments1: the first moment of each.
        moments2: the second; empty where the method has one.
        steps: the counts; empty where the method has none.
        views: the last outcomes, of those parameters alone whose outcome is tested.
        stats: the statistics; empty where nobody asks for them.
    """

    params: list[Tensor]
    grads: list[Tensor]
    moments1: list[Tensor]
    moments2: list[Tensor]
    steps: list[Tensor]
    views: list[Tensor]
    stats: list[Tensor]


def add_group(
    method: type[Method],
    group: dict[str, Any],
    state: dict[Tensor, Any],
    measured: bool,
    *lists: list[Tensor],
) -> None:
    """Add the tensors of a group whose state is complete.

    Args:
        method: of the optimizer.
        group: whose tensors.
        state: of the optimizer.
        measured: whether statistics are asked for.
        lists: as in :class:`Tensors`.
    """
    params, grads, moments1, moments2, steps, views, stats = lists
    for param in group["params"]:
        if param.grad is None:
            continue
        own = state[param]
        params.append(param)
        grads.append(param.grad)
        moments1.append(own[method.moments[0]])
        if len(method.moments) > 1:
            moments2.append(own[method.moments[1]])
        if method.counts_steps:
            steps.append(own["step"])
        if group["projection"] == "auto" and param.dim() > 1:
            views.append(own["view"])
        if measured:
            stats.append(own["stats"])


def numbers_of(method: type[Method], group: dict[str, Any]) -> list[float]:
    """The numbers of a group in the operator's order; 0 for those that are tensors."""
    lr, decay = group["lr"], group["weight_decay"]
    plain = [0.0 if isinstance(value, Tensor) else float(value) for value in (lr, decay)]
    others = [float(group[name]) for name in ("eps", "delta", "wd_ratio")]
    return [*plain, *others, *method.own_numbers(group)]


def flags_of(group: dict[str, Any]) -> list[int]:
    """The flags of a group in the operator's order."""
    names = ("nesterov", "maximize", "project_buffer")
    return [int(bool(group.get(name, False))) for name in names]


def tensor_or_none(value: Any) -> Tensor | None:
    """An option where it is a tensor."""
    return value if isinstance(value, Tensor) else None


def step(
    method: type[Method],
    groups: list[Tensors],
    options: list[dict[str, Any]],
    scaling: tuple[Tensor | None, Tensor | None, Tensor | None],
    max_norm: float,
    grad_norm: Tensor | None,
) -> None:
    """Call the operator.

    Args:
        method: of the optimizer.
        groups: the tensors of each.
        options: of each group.
        scaling: ``grad_scale``, ``found_inf`` and what counts skipped steps.
        max_norm: see ``grad_norm``.
        grad_norm: where the norm is left, if gradients are clipped.
    """
    numbers, flags, group_of = [], [], []
    all_tensors: tuple[list[Tensor], ...] = ([], [], [], [], [], [], [])
    for index, (tensors, group) in enumerate(zip(groups, options, strict=True)):
        numbers += numbers_of(method, group)
        flags += flags_of(group)
        group_of += [index] * len(tensors.params)
        for all_of_kind, own in zip(all_tensors, tensors, strict=True):
            all_of_kind.extend(own)
    torch.ops.adamp_fused.step_(
        method.name,
        *all_tensors,
        group_of,
        [group["projection"] for group in options],
        [tensor_or_none(group["lr"]) for group in options],
        [tensor_or_none(group["weight_decay"]) for group in options],
        numbers,
        flags,
        *scaling,
        max_norm,
        grad_norm,
    )
