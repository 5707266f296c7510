"""The same values laid out in memory in other ways."""

from collections.abc import Callable

import torch
from torch import Tensor


def contiguous(x: Tensor) -> Tensor:
    """Row by row, at an aligned address."""
    return x.clone(memory_format=torch.contiguous_format)


def channels_last(x: Tensor) -> Tensor:
    """Dimension 1 innermost, as memory_format channels_last has it; rows stay in one run each."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if x.dim() > 2 else contiguous(x)


def transposed(x: Tensor) -> Tensor:
    """Dimensions in reverse order in memory: the rows of a channel view are scattered."""
    order = tuple(reversed(range(x.dim())))
    return x.permute(order).contiguous().permute(order)


def shifted(x: Tensor, by: int) -> Tensor:
    """Strides as they are, `by` elements behind an aligned address."""
    span = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    storage = x.new_full((by + max(0, span) + 1,), torch.nan)
    return storage.as_strided(x.shape, x.stride(), by).copy_(x)


def misaligned(x: Tensor) -> Tensor:
    """Row by row, one element behind an aligned address: no vector load fits."""
    return shifted(contiguous(x), 1)


def sliced(x: Tensor) -> Tensor:
    """Every second element of a larger tensor, as a view into a packed weight is."""
    storage = x.new_full((*x.shape[:-1], 2 * x.shape[-1]), torch.nan)
    return storage[..., ::2].copy_(x)


def negated(x: Tensor) -> Tensor:
    """A view whose sign bit is set lazily: memory holds -x (gradients through complex numbers)."""
    return torch._neg_view(-x)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    layout.__name__: layout
    for layout in (contiguous, channels_last, transposed, misaligned, sliced)
}
