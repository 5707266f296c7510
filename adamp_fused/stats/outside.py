"""Statistics of an optimizer that keeps none, from its weights before and after a step.

For baselines such as ``torch.optim.AdamW`` and ``SGD``, so that a run of theirs can be compared.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from adamp_fused._stats import OUTCOMES, named_parameters, ratio
from adamp_fused.stats.records import Stats

#: Sums of each parameter, in the order in which they are read from the device.
_SUMS = ("weight_norm", "grad_norm", "moved", "angle", "max_cosine")


class OutsideStats:
    """Looks at one step at a time: :meth:`before` copies the weights, :meth:`after` compares.

    Args:
        delta: of the test of AdamP, whose ``max_cosine`` and ``bound`` are shown though nothing is
            projected.
    """

    def __init__(self, delta: float = 0.1) -> None:
        self._delta = delta
        self._first_norms: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._before: dict[str, Tensor] = {}

    def resume(self, last: Stats) -> None:
        """Go on from the last record of an earlier session."""
        for name, values in last.items():
            if values.get("growth"):
                self._first_norms[name] = values["weight_norm"] / values["growth"]
            self._counts[name] = sum(values.get("outcomes", {}).values())

    @torch.no_grad()
    def before(self, optimizer: Optimizer) -> None:
        """Copy all weights that may get a gradient, which a closure makes only now."""
        self._before = {
            name: param.detach().clone()
            for name, (param, _) in named_parameters(optimizer.param_groups).items()
            if param.requires_grad
        }

    @torch.no_grad()
    def after(self, optimizer: Optimizer) -> Stats:
        """The statistics of the step since :meth:`before`; each device is read once."""
        params = named_parameters(optimizer.param_groups)
        of_device: dict[torch.device, dict[str, Tensor]] = {}
        for name, before in self._before.items():
            param, group = params[name]
            if param.grad is None:
                continue
            sums = _sums(before, param.grad, param.detach(), _decay(group))
            of_device.setdefault(sums.device, {})[name] = sums
        self._before = {}
        read: dict[str, list[float]] = {}
        for by_name in of_device.values():
            read.update(zip(by_name, torch.stack(list(by_name.values())).tolist(), strict=True))
        return {name: self._stats(name, values, *params[name]) for name, values in read.items()}

    def _stats(
        self, name: str, values: list[float], param: Tensor, group: dict[str, Any]
    ) -> dict[str, Any]:
        read = dict(zip(_SUMS, values, strict=True))
        # As FusedAdamP(stats=True) has it where there is nothing to divide by.
        lr, norm = float(group["lr"]), read["weight_norm"]
        first = self._first_norms.setdefault(name, norm)
        self._counts[name] = self._counts.get(name, 0) + 1
        row = param.numel() // param.shape[0] if param.ndim > 1 else param.numel()
        return {
            "outcome": "none",
            "outcomes": dict.fromkeys(OUTCOMES, 0) | {"none": self._counts[name]},
            "max_cosine": read["max_cosine"],
            "bound": self._delta / math.sqrt(row) if row else math.inf,
            "weight_norm": norm,
            "grad_norm": read["grad_norm"],
            "update_norm": read["moved"] / lr if lr else 0.0,
            "removed": 0.0,
            "effective_lr": ratio(read["moved"], norm),
            "angle": read["angle"],
            "growth": ratio(norm, first),
        }


def _decay(group: dict[str, Any]) -> float:
    """What a step with decoupled decay, which is no part of the update, takes off a weight."""
    if not group.get("decoupled_weight_decay"):
        return 0.0
    return float(group["lr"]) * float(group["weight_decay"])


def _sums(before: Tensor, grad: Tensor, after: Tensor, decay: float) -> Tensor:
    """``_SUMS`` as one tensor, in float32 or wider; a tensor of one dimension is one row."""
    dtype = torch.float64 if before.dtype == torch.float64 else torch.float32
    p, g, q = (t.to(dtype) for t in (before, grad, after))
    rows = p.shape[0] if p.ndim > 1 else 1
    p, g, q = p.reshape(rows, -1), g.reshape(rows, -1), q.reshape(rows, -1)
    norm = p.norm()
    moved = q - p
    # The part across the weight: the difference of two cosines near 1 would be rounded away.
    along = (moved * p).sum() / norm.clamp_min(torch.finfo(dtype).tiny)
    across = (moved - p * (along / norm.clamp_min(torch.finfo(dtype).tiny))).norm()
    angle = torch.atan2(across, norm + along)
    cosine = torch.nn.functional.cosine_similarity(p, g, dim=1, eps=1e-8).abs()
    largest = cosine.max() if cosine.numel() else cosine.sum()
    return torch.stack([norm, g.norm(), (moved + decay * p).norm(), angle, largest])
