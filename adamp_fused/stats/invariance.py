"""explain(): which weights of a model are scale-invariant, and what AdamP does with each.

A weight is scale-invariant where the output does not depend on its norm, as before a BatchNorm; its
gradient is then orthogonal to it. Both are looked at, in float64, on a copy of the model: gradients
of several random losses, and outputs of the scaled weight.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from adamp_fused._stats import OUTCOMES
from adamp_fused.stats.cosines import Cosines, chance_to_pass, cosines_of
from adamp_fused.stats.probing import Probe
from adamp_fused.stats.report import Report, Weight
from adamp_fused.stats.uses import followers


def explain(
    model: nn.Module,
    inputs: Any,
    *,
    loss: Callable[[Any], Tensor] | None = None,
    delta: float = 0.1,
    losses: int = 8,
    tolerance: float = 0.02,
    dtype: torch.dtype = torch.float64,
) -> Report:
    """Tell for each weight of two or more dimensions whether it is scale-invariant.

    The model is copied, and left as it is: weights, buffers, gradients, modes and random numbers.
    The copy needs about three times the memory of the model in ``dtype``, and runs forward two to
    four times for each weight: a small batch will do.

    A weight counts as invariant where both hold at points near its present value:

    - gradients are orthogonal to it: ``|cos(w, g)| * sqrt(length) < tolerance`` for every loss;
    - outputs do not change when it is doubled (rows: scaled by factors of 0.5 to 2), by more than
      ``tolerance`` of what a random change of the same size does.

    It is not exact because of the ``eps`` of normalisations: where activations are small beside it,
    raise ``tolerance``.

    Args:
        model: in the state in which training begins or goes on.
        inputs: a batch: a tensor, a tuple of arguments, or a dictionary of keyword arguments.
        loss: of what the model returns; it serves for the decisions of the test. None: a random
            linear functional of all outputs.
        delta: of the test, as in FusedAdamP.
        losses: how many to try, at least 1.
        tolerance: above 0; see there.
        dtype: in which to compute. float32 for models that are written for it alone.

    Raises:
        TypeError: ``model`` is no module, or returns no tensor and ``loss`` is None.
        ValueError: an argument is out of its range, a parameter has no shape or no values, or a
            gradient is not finite.
        RuntimeError: the model cannot be copied, or not be run in ``dtype`` on these inputs.

    Example:
        >>> report = explain(model, images)
        >>> print(report)
        >>> optimizer = FusedAdamP(report.param_groups(model), lr=1e-3)
    """
    if losses < 1:
        raise ValueError(f"losses={losses!r} must be at least 1; pass losses=8")
    if not tolerance > 0:
        raise ValueError(f"tolerance={tolerance!r} must be above 0; pass tolerance=0.02")
    if not delta >= 0:
        raise ValueError(f"delta={delta!r} must be at least 0; pass delta=0.1")
    probe = Probe(model, inputs, loss, dtype)
    with torch.random.fork_rng(probe.cuda_devices), _python_random_kept():
        names = [name for name, p in probe.params.items() if p.ndim >= 2 and p.numel()]
        uses = followers(probe.model, probe.outputs, {n: probe.params[n] for n in names})
        at_start = cosines_of(probe, names, losses, with_loss=True)
        nearby = cosines_of(probe, names, losses, with_loss=False)
        probe.go_to_random_point(0)
        base = _outputs(probe)
        weights = []
        for name in names:
            found = _Finding(probe, name, nearby.get(name), base, tolerance)
            weights.append(_weight(found, uses[name], at_start.get(name), delta))
    return Report(tuple(weights), delta, tolerance, losses)


@contextmanager
def _python_random_kept() -> Generator[None]:
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


class _Finding:
    """Whether one weight is invariant, and why that is so."""

    def __init__(
        self,
        probe: Probe,
        name: str,
        cosines: Cosines | None,
        base: list[Tensor],
        tolerance: float,
    ) -> None:
        param = probe.params[name]
        self.name, self.shape = name, tuple(param.shape)
        self.rows_invariant = self.rows_seen = 0
        self.invariance, self.reason = "unknown", ""
        if cosines is None:
            why = "takes no part in the output" if param.requires_grad else "is frozen"
            self.reason = f"no gradient: it {why}"
            return
        rows = torch.stack(cosines.rows)
        worst, counts = rows.nan_to_num(nan=0.0).amax(0), (~rows.isnan()).sum(0)
        # One loss may be orthogonal by chance: where some rows have several, these are looked at.
        seen = counts >= min(3, int(counts.max()))
        self.rows_seen = int(seen.sum())
        self.rows_invariant = int((seen & (worst < tolerance)).sum())
        rows_pass = self.rows_invariant == self.rows_seen
        rows_same = rows_pass and _change(probe, name, base, by_rows=True) < tolerance
        # Factors of rows have scaled the whole weight as well.
        layer_same = rows_same or _change(probe, name, base, by_rows=False) < tolerance
        self._conclude(rows_pass, max(cosines.layer) < tolerance, rows_same, layer_same)

    def _conclude(self, rows: bool, layer: bool, rows_same: bool, layer_same: bool) -> None:
        if rows and rows_same:
            self.invariance = "channel"
            self.reason = "every row is scale-invariant; without a test a step is one pass, always"
        elif layer and layer_same:
            self.invariance, self.reason = "layer", "only the whole weight is scale-invariant"
        elif rows or layer:
            self.reason = (
                "undecided: gradients are orthogonal, but the output changes with the scale; a "
                "larger tolerance decides it where eps of a normalisation is the cause"
            )
        else:
            self.invariance, self.reason = "none", "not scale-invariant"
            if layer_same:
                self.reason = (
                    "not scale-invariant: the output does not change with the scale, but gradients "
                    "have a part along the weight; is its norm detached?"
                )
            elif self.rows_invariant:
                self.reason += (
                    f": {self.rows_invariant} of {self.rows_seen} rows are; a weight of their own "
                    "would let them be projected"
                )


def _weight(
    found: _Finding, followed_by: tuple[str, ...], cosines: Cosines | None, delta: float
) -> Weight:
    """Put together what was found with what the test of AdamP will do."""
    decisions = dict.fromkeys(OUTCOMES, 0)
    channel_margin = layer_margin = math.nan
    chance, projection, reason = 0.0, found.invariance, found.reason
    if found.invariance in ("unknown", "none"):
        projection = {"unknown": "auto", "none": "off"}[found.invariance]
    if cosines is not None:
        rows = [float(of_loss.nan_to_num(nan=0.0).max()) for of_loss in cosines.rows]
        for row_cosine, layer_cosine in zip(rows, cosines.layer, strict=True):
            passed = 1 if row_cosine < delta else 2 if layer_cosine < delta else 0
            decisions[OUTCOMES[passed]] += 1
        if delta > 0:
            channel_margin, layer_margin = max(rows) / delta, max(cosines.layer) / delta
        # More than two losses: one passes by chance, now and then.
        if found.invariance == "none" and decisions["none"] == 0 and len(rows) > 2:
            projection = "auto"
            reason += (
                ": it is nearly so with the present biases, and the test passes; what it comes to "
                "depends on how large they grow"
            )
        elif found.invariance == "none":
            chance = chance_to_pass(cosines, delta)
    return Weight(
        name=found.name,
        shape=found.shape,
        followed_by=followed_by,
        invariance=found.invariance,
        rows_invariant=found.rows_invariant,
        rows_seen=found.rows_seen,
        decisions=decisions,
        channel_margin=channel_margin,
        layer_margin=layer_margin,
        false_positives=chance,
        projection=projection,
        reason=reason,
    )


def _change(probe: Probe, name: str, base: list[Tensor], by_rows: bool) -> float:
    """Change of the output when a weight, or each row, is scaled, relative to a random change."""
    param = probe.params[name].detach()
    rng = torch.Generator().manual_seed(1)
    factors: Tensor | float = 2.0
    if by_rows:
        powers = 2 * torch.rand(param.shape[0], generator=rng, dtype=torch.float64) - 1
        factors = (2**powers).to(param).reshape(-1, *[1] * (param.ndim - 1))
    direction = torch.randn(param.shape, generator=rng, dtype=torch.float64).to(param)
    direction *= param.norm() / direction.norm()

    def distance() -> float:
        # Outputs that are masked with an infinity are the same.
        pairs = zip(_outputs(probe), base, strict=True)
        return math.hypot(*(float(torch.where(a == b, 0, a - b).norm()) for a, b in pairs))

    with probe.scaled(name, factors):
        scaled = distance()
    with probe.moved(name, direction):
        moved = distance()
    return scaled / moved if moved else math.inf


@torch.no_grad()
def _outputs(probe: Probe) -> list[Tensor]:
    return [out.clone() for out in probe.outputs()]
