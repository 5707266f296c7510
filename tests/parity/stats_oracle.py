"""What ``stats()`` has to say of one step, in float64, from the definitions and the vectors.

No sums of products as the package has them: the step is made by the oracle with and without its
projection, and norms and angles are those of the differences. Nothing of the package is imported.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from parity.oracle import CHANNEL, NONE, Step, rows

OUTCOMES = ("none", "channel", "layer")
FAR = 2.0**60


def norm(x: Tensor) -> float:
    """The Euclidean norm of all elements."""
    return torch.linalg.vector_norm(x).item()


def turned(before: Tensor, after: Tensor) -> float:
    """The angle between two vectors, precise for small ones too (Kahan's formula)."""
    a, b = before / before.norm(), after / after.norm()
    return 2 * math.atan2(norm(a - b), norm(a + b))


def cosine_and_bound(p: Tensor, g: Tensor, options: dict[str, Any]) -> tuple[float, float]:
    """The largest |cos(p, g)| of a row, and what it must be below."""
    by_rows = p.dim() > 1 and options.get("projection", "auto") in ("auto", "channel")
    eps = options.get("eps", 1e-8)
    p_rows, g_rows = (rows(x, CHANNEL if by_rows else NONE) for x in (p, g))
    norms = p_rows.norm(dim=1).clamp_min(eps) * g_rows.norm(dim=1).clamp_min(eps)
    cosines = (p_rows * g_rows).sum(1).abs() / norms
    return cosines.max().item(), options.get("delta", 0.1) / math.sqrt(p_rows.shape[1])


def stats_of(
    oracle: Callable[..., Step],
    p: Tensor,
    grad: Tensor,
    state: dict[str, Any],
    options: dict[str, Any],
    store: Callable[[Tensor], Tensor],
) -> dict[str, Any]:
    """Of one step from ``p`` and ``state``, but for ``outcomes`` and ``growth``.

    Beside the numbers of ``stats()``: ``raw_norm`` and ``raw_lr``, the norm of the update before
    the projection, and that norm times lr relative to the weight.
    """
    step = oracle(p, grad, state, store=store, **options)
    forced = {"projection": OUTCOMES[step.view] if step.view != NONE else "off"}
    # Moved so far that the weight does not round the difference.
    plain = {**options, **forced, "weight_decay": 0.0, "lr": FAR}
    moved = p - oracle(p, grad, state, store=store, **plain).p
    unprojected = p - oracle(p, grad, state, store=store, **{**plain, "projection": "off"}).p
    max_cosine, bound = cosine_and_bound(p, grad.double(), options)
    whole, moved_by, lr = norm(unprojected) / FAR, norm(moved) / FAR, options["lr"]
    return {
        "outcome": OUTCOMES[step.view],
        "max_cosine": max_cosine,
        "bound": bound,
        "weight_norm": norm(p),
        "grad_norm": norm(grad.double()),
        "update_norm": moved_by,
        "removed": norm(unprojected - moved) / FAR / whole if whole > 0 else 0.0,
        "effective_lr": lr * moved_by / norm(p),
        "angle": turned(p, step.p),
        "raw_norm": whole,
        "raw_lr": lr * whole / norm(p),
    }
