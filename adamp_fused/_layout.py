"""Rows as contiguous runs: the memory layout that kernels work on, and copies where it is missing.

A kernel walks the elements of a channel (dimension 0) as one contiguous run, and finds the
gradient and the moments of an element at the parameter's own offset. Contiguous and channels_last
parameters are laid out so already. Where one is not (a transposed or sliced parameter, a gradient
in another layout), the step works on a copy and the result is copied back: slower, and equal in
value.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from adamp_fused.backends.protocol import Slot


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


def _copy(tensor: Tensor, strides: tuple[int, ...]) -> Tensor:
    empty = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=tensor.device)
    return empty.copy_(tensor)


class Staging:
    """Copies of tensors that are not laid out in rows, for one step."""

    def __init__(self) -> None:
        self._has_copies = False
        self._results: list[tuple[Tensor, Tensor]] = []

    def __bool__(self) -> bool:
        return self._has_copies

    def stage(self, slot: Slot, moments: tuple[str, ...]) -> Slot:
        """``slot`` itself, or one in which copies stand in for what is laid out otherwise.

        State of a weight that needs no copy is brought into its layout for good, so that a
        checkpoint of a contiguous model costs a channels_last one a single copy.
        """
        strides = row_strides(slot.param)
        grad = slot.grad
        if grad is not None and not in_layout(grad, strides):
            grad = _copy(grad, strides)
        param, state = self._copied(slot.param, strides, slot), slot.state
        if param is slot.param and slot.owner is None:
            for key in moments:
                if not in_layout(state[key], strides):
                    state[key] = _copy(state[key], strides)
        else:
            state = state | {key: self._copied(state[key], strides, slot) for key in moments}
        return dataclasses.replace(slot, param=param, grad=grad, state=state)

    def _copied(self, tensor: Tensor, strides: tuple[int, ...], slot: Slot) -> Tensor:
        if in_layout(tensor, strides):
            return tensor
        copy = _copy(tensor, strides)
        self._has_copies = True
        # What gets no step is not written, so that autograd does not take it for changed.
        if slot.grad is not None:
            self._results.append((tensor, copy))
        return copy

    @torch.no_grad()
    def copy_back(self) -> None:
        """Copy every result back to where it belongs."""
        for tensor, copy in self._results:
            tensor.copy_(copy)
