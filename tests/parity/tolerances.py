"""How far a backend may be from the oracle, by type, declared once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from parity.oracle import exact


@dataclass(frozen=True)
class Tolerance:
    """How far a value may be from the oracle's.

    Weights: p_rel * |want| + p_lr * lr. Moments: state_rel * |want| + state_abs * size, where size
    is that of what was added up or projected (see parity.check_state). `store` is what storage does
    to the oracle's moments.
    """

    p_rel: float
    p_lr: float
    state_rel: float
    state_abs: float
    store: Callable[[Tensor], Tensor] = exact


# 16-bit types: the oracle restarts from the backend's values before each step, so one rounding of
# the result (half a unit) is all that the weights may differ by, beside the last bit of a moment
# (whole units of the update). float32: the bound the project promises. Twenty steps otherwise.
TOLERANCES = {
    torch.float64: Tolerance(1e-12, 1e-10, 1e-12, 1e-12),
    torch.float32: Tolerance(2e-5, 2e-4, 5e-6, 5e-6),
    torch.bfloat16: Tolerance(2**-8 * 1.01, 2**-6, 2**-7, 1e-6, lambda x: x.bfloat16().double()),
    torch.float16: Tolerance(2**-11 * 1.01, 2**-9, 2**-10, 1e-6, lambda x: x.half().double()),
}
