"""Rows as contiguous runs: the memory layout that kernels work on, and copies where it is missing.

A kernel walks the elements of a channel (dimension 0) as one contiguous run, and finds the
gradient and the moments of an element at the parameter's own offset. Contiguous and channels_last
parameters are laid out so already. Where one is not (a transposed or sliced parameter, a gradient
in another layout), the step works on a copy and the result is copied back: slower, and equal in
value.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adamp_fused._backend import Groups, Slot, State


def row_strides(param: Tensor) -> tuple[int, ...]:
    """The strides of ``param`` if its rows are contiguous runs, else a contiguous tensor's."""
    if param.is_contiguous():
        return param.stride()
    dense = torch.empty_like(param, memory_format=torch.preserve_format, device="meta").stride()
    rows_are_runs = param.dim() > 0 and dense[0] * param.shape[0] == param.numel()
    if rows_are_runs and _same_strides(param, dense):
        return dense
    return torch.empty(param.shape, device="meta").stride()


def in_layout(tensor: Tensor, strides: tuple[int, ...]) -> bool:
    """Whether ``tensor`` lies in memory by ``strides``; dimensions of size 1 do not matter.

    A lazily negated tensor does not: its memory holds the opposite of its values.
    """
    return tensor.numel() == 0 or (not tensor.is_neg() and _same_strides(tensor, strides))


def _same_strides(tensor: Tensor, strides: tuple[int, ...]) -> bool:
    return all(
        size == 1 or have == want
        for size, have, want in zip(tensor.shape, tensor.stride(), strides, strict=True)
    )


class Staging:
    """Copies of tensors that are not laid out in rows; a plan that copies the results back."""

    def __init__(self) -> None:
        self._copies: list[tuple[Tensor, Tensor]] = []

    def __bool__(self) -> bool:
        return bool(self._copies)

    def stage(self, slot: Slot, moments: tuple[str, ...]) -> Slot:
        """``slot`` itself, or one in which copies stand in for what is laid out otherwise."""
        strides = row_strides(slot.param)
        grad = slot.grad
        if grad is not None and not in_layout(grad, strides):
            grad = torch.empty_strided(
                grad.shape, strides, dtype=grad.dtype, device=grad.device
            ).copy_(grad)
        param = self._copied(slot.param, strides)
        state = slot.state | {key: self._copied(slot.state[key], strides) for key in moments}
        if (
            grad is slot.grad
            and param is slot.param
            and all(state[k] is slot.state[k] for k in moments)
        ):
            return slot
        return Slot(param, grad, state, slot.group, slot.group_index)

    def _copied(self, tensor: Tensor, strides: tuple[int, ...]) -> Tensor:
        if in_layout(tensor, strides):
            return tensor
        copy = torch.empty_strided(
            tensor.shape, strides, dtype=tensor.dtype, device=tensor.device
        ).copy_(tensor)
        self._copies.append((tensor, copy))
        return copy

    def refresh(self, groups: Groups, state: State) -> bool:
        """False: copies hold for one step."""
        return False

    def run(self) -> None:
        """Copy every result back to where it belongs."""
        for tensor, copy in self._copies:
            tensor.copy_(copy)
