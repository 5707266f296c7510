"""Cosines between weights and gradients, and what the test of AdamP makes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adamp_fused.stats.probing import Probe


@dataclass
class Cosines:
    """``|cos(w, g)| * sqrt(length)`` of a weight for each loss: 1 is what random gradients have.

    Attributes:
        rows: one tensor for each loss, of shape (rows,); NaN where a row has no gradient.
        layer: one number for each loss.
    """

    rows: list[Tensor]
    layer: list[float]


def cosines_of(probe: Probe, names: list[str], losses: int, with_loss: bool) -> dict[str, Cosines]:
    """Cosines of weights that have a gradient: where training is, or at random points near it."""
    found: dict[str, Cosines] = {}
    probe.go_to_start()
    for seed in range(losses):
        # A given loss has one gradient at a point; others come from the points around it.
        if not with_loss or (probe.has_loss and seed > 0):
            probe.go_to_random_point(seed)
        grads = probe.gradients(seed, with_loss)
        for name, grad in grads.items():
            if not grad.isfinite().all():
                raise ValueError(
                    f"the gradient of {name!r} has NaN or infinite elements and must have none; "
                    "pass weights and inputs of which the model makes finite outputs"
                )
        sizes = {n: float(g.norm() * probe.params[n].detach().norm()) for n, g in grads.items()}
        # What is left of a gradient that is 0 but for rounding has no direction.
        floor = max(sizes.values(), default=0.0) * torch.finfo(probe.dtype).eps * 100
        for name in names:
            if sizes.get(name, 0.0) > floor:
                _add(found.setdefault(name, Cosines([], [])), probe.params[name], grads[name])
    return found


@torch.no_grad()
def _add(to: Cosines, weight: Tensor, grad: Tensor) -> None:
    w, g = weight.flatten(1), grad.flatten(1)
    dots, sizes = (w * g).sum(1), w.norm(dim=1) * g.norm(dim=1)
    silent = sizes <= sizes.max() * torch.finfo(w.dtype).eps * 100
    rows = dots.abs() / sizes * math.sqrt(w.shape[1])
    to.rows.append(rows.masked_fill(silent, math.nan).cpu())
    whole = dots.sum().abs() / (w.norm() * g.norm())
    to.layer.append(float(whole) * math.sqrt(w.numel()))


def chance_to_pass(cosines: Cosines, delta: float) -> float:
    """How likely the test passes, if cosines are normal around 0 with the spread that was seen.

    Of a random gradient ``cos * sqrt(length)`` has spread 1, so that the layer-wise test passes in
    8.0 % of steps with delta 0.1; the channel-wise one needs every row at once.
    """

    def passes(values: Sequence[float]) -> float:
        spread = math.sqrt(sum(v * v for v in values) / len(values))
        return math.erf(delta / (spread * math.sqrt(2))) if spread else float(delta > 0)

    if cosines.rows[0].numel() == 1:
        return passes(cosines.layer)  # both tests are one
    by_row = torch.stack(cosines.rows).nan_to_num(nan=0.0).T.tolist()
    rows = math.prod(passes(values) for values in by_row)
    return 1 - (1 - rows) * (1 - passes(cosines.layer))
