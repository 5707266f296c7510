"""The mathematics of AdamP and SGDP in Python, once for every backend written in Python.

Source: Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant
Weights", ICLR 2021, with the constants of the official ``adamp`` package. ``csrc/core/methods.h``
and ``csrc/core/projection.h`` state the same lines for C++ and CUDA.

Only operators, ``where`` and ``abs`` are used, so that the same lines serve torch tensors and,
compiled by ``triton.jit`` with Triton's language in the place of ``torch``, Triton blocks. Symbols:
``p`` weight, ``g`` gradient, ``u`` the raw update before projection; per row ``pp = sum p^2``,
``gg = sum g^2``, ``pg = sum p*g``, ``pu = sum p*u``.
"""

from typing import Any

import torch


def moving_average(average: Any, value: Any, decay: Any, gain: Any) -> Any:
    """``decay * average + gain * value``: both Adam moments and the SGD momentum buffer."""
    return decay * average + gain * value


def adam_perturb(
    numerator: Any, root_second_moment: Any, inv_root_bias_correction2: Any, eps: Any
) -> Any:
    """``u = m / (sqrt(v) / sqrt(1 - beta2^t) + eps)``."""
    return numerator / (root_second_moment * inv_root_bias_correction2 + eps)


def sgd_decay(weight_decay: Any, momentum: Any) -> Any:
    """``wd / (1 - mu)``: SGDP's weight decay; where there is none, any momentum will do.

    The value of a tensor is not looked at.
    """
    is_none = not isinstance(weight_decay, torch.Tensor) and weight_decay == 0
    return weight_decay if is_none else weight_decay / (1 - momentum)


def cosine_below(pg: Any, norm_p: Any, norm_g: Any, bound: Any) -> Any:
    """``|cos(p, g)| < bound`` without a division; a NaN never passes.

    ``norm_p`` and ``norm_g`` are each clamped at ``eps`` by the caller, as in the official package.
    """
    limit = bound * norm_p * norm_g
    return (pg < limit) & (-pg < limit)


def abs_cosine(pg: Any, norm_p: Any, norm_g: Any) -> Any:
    """``|cos(p, g)|``, of norms that the caller has clamped at ``eps``.

    One division after the other: the product of both may be 0 in float32, or infinite.
    """
    return torch.abs(pg) / norm_p / norm_g


def removed_by(radial: Any, pp: Any, pu: Any) -> Any:
    """What a projection takes from ``u``, ``r = k * p``: ``r*p``, ``r*u`` and ``r*r`` of the row.

    None where ``k`` is 0: ``pp`` may be infinite.
    """
    return (
        torch.where(radial == 0.0, 0.0, radial * pp),
        torch.where(radial == 0.0, 0.0, radial * pu),
        torch.where(radial == 0.0, 0.0, radial * radial * pp),
    )


def decide(every_row_passes: Any, whole_passes: Any) -> Any:
    """The outcome of a tensor: 1 channel-wise, else 2 layer-wise, else 0 none.

    ``whole_passes``: the test of the tensor as one row.
    """
    return torch.where(every_row_passes, 1, torch.where(whole_passes, 2, 0))


def radial_under(outcome: Any, row_radial: Any, whole_radial: Any) -> Any:
    """``k`` of a row under an outcome, of its own sums or of the tensor's."""
    return torch.where(outcome == 1, row_radial, torch.where(outcome == 2, whole_radial, 0.0))


def decay_under(outcome: Any, decay: Any, decay_projected: Any) -> Any:
    """The weight decay under an outcome."""
    return torch.where(outcome == 0, decay, decay_projected)


def radial_coefficient(pu: Any, norm_p: Any, eps: Any) -> Any:
    """``k = pu / (|p| + eps)^2``: ``k * p`` is the radial part of ``u``.

    0 along an infinite norm: the finite weights of the row would become NaN.
    """
    return torch.where(norm_p == float("inf"), 0.0, pu / ((norm_p + eps) * (norm_p + eps)))


def radial_part(p: Any, radial: Any) -> Any:
    """``k * p``; 0 of a weight that is not finite, for which ``k`` is 0 and ``0 * inf`` NaN."""
    return torch.where(p - p == 0.0, radial * p, 0.0)


def shrinkage(decay: Any, step_size: Any, radial: Any) -> Any:
    """``c`` of ``p - (c*p + step_size*u)``: weight decay less what the projection gives back."""
    return decay - step_size * radial


def apply_update(p: Any, u: Any, shrink: Any, step_size: Any, radial: Any, decay: Any) -> Any:
    """``p - (c*p + step_size*u)``: the one line every outcome ends in.

    Where that is not finite it is computed in the order of torch.optim and of the official package:
    an infinite weight (a masked bias, or one that overflowed) stays infinite, which the first form
    would make NaN, as ``inf - inf`` or ``0*inf``. In that order alone ``1 - decay`` would round a
    small decay away, and the projection with it.
    """
    p_new = p - (shrink * p + step_size * u)
    in_order = (1 - decay) * p - step_size * (u - radial_part(p, radial))
    return torch.where(p_new - p_new == 0.0, p_new, in_order)


def clip_coefficient(norm: Any, max_norm: Any) -> Any:
    """What brings gradients of this norm to ``max_norm``, as in ``clip_grad_norm_``.

    0 of an infinite norm, and NaN of a NaN.
    """
    coefficient = max_norm / (norm + 1e-6)
    return torch.where(coefficient > 1.0, 1.0, coefficient)


def recover_weight(p_new: Any, u: Any, shrink: Any, step_size: Any) -> Any:
    """The weight before :func:`apply_update`, to 1-2 ulp where ``|c| <= 1/2``.

    One that overflowed stays infinite, where ``step_size*u`` is infinite too.
    """
    p = (p_new + step_size * u) / (1 - shrink)
    return torch.where(p == p, p, p_new)
