"""The mathematics of AdamP and SGDP in Python, once for every backend written in Python.

Source: Heo et al., "AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant
Weights", ICLR 2021, with the constants of the official ``adamp`` package. ``csrc/formulas.h``
states the same lines for C++ and CUDA.

Only operators are used, no function of any library, so that the same lines serve torch tensors and,
compiled by ``triton.jit``, Triton blocks. Symbols: ``p`` weight, ``g`` gradient, ``u`` the raw
update before projection; per row ``pp = sum p^2``, ``gg = sum g^2``, ``pg = sum p*g``, ``pu = sum
p*u``.
"""

from typing import Any


def moving_average(average: Any, value: Any, decay: Any, gain: Any) -> Any:
    """``decay * average + gain * value``: both Adam moments and the SGD momentum buffer."""
    return decay * average + gain * value


def adam_perturb(
    numerator: Any, root_second_moment: Any, inv_root_bias_correction2: Any, eps: Any
) -> Any:
    """``u = m / (sqrt(v) / sqrt(1 - beta2^t) + eps)``."""
    return numerator / (root_second_moment * inv_root_bias_correction2 + eps)


def sgd_decay(weight_decay: Any, momentum: Any) -> Any:
    """``wd / (1 - mu)``: SGDP's weight decay; where there is none, any momentum will do."""
    return weight_decay / (1 - momentum) if weight_decay else weight_decay


def cosine_below(pg: Any, norm_p: Any, norm_g: Any, bound: Any) -> Any:
    """``|cos(p, g)| < bound`` without a division; a NaN never passes.

    ``norm_p`` and ``norm_g`` are each clamped at ``eps`` by the caller, as in the official package.
    """
    limit = bound * norm_p * norm_g
    return (pg < limit) & (-pg < limit)


def radial_coefficient(pu: Any, norm_p: Any, eps: Any) -> Any:
    """``k = pu / (|p| + eps)^2``: ``k * p`` is the radial part of ``u``."""
    return pu / ((norm_p + eps) * (norm_p + eps))


def shrinkage(decay: Any, step_size: Any, radial: Any) -> Any:
    """``c`` of ``p - (c*p + step_size*u)``: weight decay less what the projection gives back."""
    return decay - step_size * radial


def apply_update(p: Any, u: Any, shrink: Any, step_size: Any) -> Any:
    """``p - (c*p + step_size*u)``: the one line every outcome ends in."""
    return p - (shrink * p + step_size * u)


def recover_weight(p_new: Any, u: Any, shrink: Any, step_size: Any) -> Any:
    """The weight before :func:`apply_update`, to 1-2 ulp where ``|c| <= 1/2``."""
    return (p_new + step_size * u) / (1 - shrink)
