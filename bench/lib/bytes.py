"""The byte model: what a step reads and writes of memory, for each method and outcome.

Tables, bounds and plots take all bytes from here. The unit is one element per parameter. A step
holds the weight p, the gradient g and, depending on the method, one or two moments as state.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Traffic(NamedTuple):
    """Elements read and written per parameter."""

    read: int
    written: int

    @property
    def total(self) -> int:
        """Elements moved per parameter."""
        return self.read + self.written


def one_pass(states: int) -> Traffic:
    """No projection, channel-wise, and the fused optimizers of torch.

    p, g and the states are read; p and the states are written.
    """
    return Traffic(2 + states, 1 + states)


def _fix_up(states: int) -> Traffic:
    """The fix-up pass reads p and the states, and writes p. SGDP's buffer is projected as well."""
    return Traffic(1 + states, 1 if states == 2 else 2)


def layer_wise(states: int) -> Traffic:
    """The sums of the whole tensor are needed before p is updated, in the fix-up pass."""
    first, second = one_pass(states), _fix_up(states)
    return Traffic(first.read + second.read, first.written - 1 + second.written)


def mispredicted(states: int) -> Traffic:
    """The first pass has updated p under another outcome. The fix-up pass updates it anew."""
    first, second = one_pass(states), _fix_up(states)
    return Traffic(first.read + second.read, first.written + second.written)


MODEL = {
    "no projection, channel-wise": one_pass,
    "layer-wise": layer_wise,
    "mispredicted": mispredicted,
}
"""What a step moves where every matrix has the outcome."""


def step_bytes(numel: int, states: int, dtype: torch.dtype) -> int:
    """The least bytes that a step moves: one pass over ``numel`` parameters."""
    return numel * dtype.itemsize * one_pass(states).total
