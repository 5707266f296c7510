"""One step of AdamP and of SGDP for one parameter, in float64, written from the equations.

Equations: Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant
Weights", ICLR 2021, algorithms 1 and 2, with the constants of the `adamp` package (eps in the
norms, one weight-decay ratio, SGDP's decay over 1 - momentum). The projection is written with unit
vectors, as in the paper, and not with the row sums of the package under test; nothing of that
package is imported. Arguments are never changed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

NONE, CHANNEL, LAYER = 0, 1, 2
FORCED = {"off": NONE, "channel": CHANNEL, "layer": LAYER}


@dataclass(frozen=True)
class Step:
    """What one step leaves behind.

    Attributes:
        p: the new parameter, float64, not rounded to storage.
        state: the new state under the official package's keys, plus `step` as an int for AdamP.
        view: outcome of the projection test, one of NONE, CHANNEL, LAYER.
        margin: factor (at least 1) that lay between each consulted cosine and its bound; infinite
            where no test was made.
        raw: the first moment before SGDP projects it, when the projection may cancel nearly all of
            it; equal to the moment otherwise.
    """

    p: Tensor
    state: dict[str, Any]
    view: int
    margin: float
    raw: Tensor


def rows(x: Tensor, view: int) -> Tensor:
    """Give x as the rows of a view: (C, D) for channels, (1, C * D) for the layer."""
    return x.reshape(x.shape[0] if view == CHANNEL else 1, -1)


def cosine_over_bound(p: Tensor, g: Tensor, view: int, delta: float, eps: float) -> float:
    """Largest |cos(p, g)| over the rows of a view, divided by delta / sqrt(row length)."""
    p, g = rows(p, view), rows(g, view)
    cosine = (p * g).sum(1).abs() / (p.norm(dim=1).clamp_min(eps) * g.norm(dim=1).clamp_min(eps))
    worst = cosine.max().item()
    bound = delta / math.sqrt(p.shape[1])
    return worst / bound if bound > 0 else math.inf


def decide(p: Tensor, g: Tensor, delta: float, eps: float) -> tuple[int, float]:
    """Try the channel view, then the layer view; give the first that passes, and the margin."""
    margin = math.inf
    for view in (CHANNEL, LAYER):
        ratio = cosine_over_bound(p, g, view, delta, eps)
        if not math.isnan(ratio):
            margin = min(margin, max(ratio, 1 / ratio if ratio > 0 else math.inf))
        if ratio < 1:
            return view, margin
    return NONE, margin


def choose(p: Tensor, g: Tensor, projection: str, delta: float, eps: float) -> tuple[int, float]:
    """Outcome for one parameter: never projected below two dimensions or without elements."""
    if p.dim() <= 1 or p.numel() == 0:
        return NONE, math.inf
    if projection != "auto":
        return FORCED[projection], math.inf
    return decide(p, g, delta, eps)


def project(u: Tensor, p: Tensor, view: int, eps: float) -> Tensor:
    """Remove from u, row by row, its part along p: u - n (n . u) with n = p / (|p| + eps)."""
    if view == NONE:
        return u
    unit = rows(p, view) / (rows(p, view).norm(dim=1, keepdim=True) + eps)
    u_rows = rows(u, view)
    return (u_rows - unit * (unit * u_rows).sum(1, keepdim=True)).reshape(p.shape)


def exact(x: Tensor) -> Tensor:
    """Storage that rounds nothing."""
    return x


def adamp_step(
    p: Tensor,
    grad: Tensor,
    state: dict[str, Any],
    *,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    delta: float = 0.1,
    wd_ratio: float = 0.1,
    nesterov: bool = False,
    projection: str = "auto",
    maximize: bool = False,
    store: Callable[[Tensor], Tensor] = exact,
) -> Step:
    """One AdamP step; an empty state starts at zero, `store` does as the moments' storage."""
    p, g = p.double(), -grad.double() if maximize else grad.double()
    beta1, beta2 = betas
    t = int(state.get("step", 0)) + 1
    m = store(beta1 * state.get("exp_avg", 0 * p).double() + (1 - beta1) * g)
    v = store(beta2 * state.get("exp_avg_sq", 0 * p).double() + (1 - beta2) * g * g)
    numerator = beta1 * m + (1 - beta1) * g if nesterov else m
    u = numerator / (v.sqrt() / math.sqrt(1 - beta2**t) + eps)
    view, margin = choose(p, g, projection, delta, eps)
    decay = lr * weight_decay * (1 if view == NONE else wd_ratio)
    p_new = (1 - decay) * p - lr / (1 - beta1**t) * project(u, p, view, eps)
    return Step(p_new, {"step": t, "exp_avg": m, "exp_avg_sq": v}, view, margin, m)


def sgdp_step(
    p: Tensor,
    grad: Tensor,
    state: dict[str, Any],
    *,
    lr: float = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    eps: float = 1e-8,
    delta: float = 0.1,
    wd_ratio: float = 0.1,
    project_buffer: bool = True,
    projection: str = "auto",
    maximize: bool = False,
    store: Callable[[Tensor], Tensor] = exact,
) -> Step:
    """One SGDP step; an empty state starts at zero, `store` does as the buffer's storage."""
    p, g = p.double(), -grad.double() if maximize else grad.double()
    b = momentum * state.get("momentum", 0 * p).double() + (1 - dampening) * g
    b = raw = store(b)
    view, margin = choose(p, g, projection, delta, eps)
    u = project(g + momentum * b if nesterov else b, p, view, eps)
    if project_buffer and not nesterov:
        b = store(u)
    decay = lr * weight_decay / (1 - momentum) * (1 if view == NONE else wd_ratio)
    return Step((1 - decay) * p - lr * u, {"momentum": b}, view, margin, raw)
