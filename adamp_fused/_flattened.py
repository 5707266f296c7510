"""Parameters that a wrapper has flattened: of one dimension, so that none would be projected.

Nothing of such a tensor says that it was a matrix. What is known is what the parameters were when
they were given, and what FSDP1 keeps about those that it has flattened.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy

REMEDY = (
    "the projection needs whole rows: give the optimizer whole parameters, as DDP, "
    "ZeroRedundancyOptimizer and ShardingStrategy.NO_SHARD keep them; to shard them use FSDP2 "
    "(torch.distributed.fsdp.fully_shard), which keeps rows, though its DTensors are not supported "
    "yet either"
)


def _is_vector(param: Tensor) -> bool:
    # One that is not initialized yet may become one.
    return is_lazy(param) or param.dim() < 2


class GivenShapes:
    """How many dimensions the parameters of each group had when they were given.

    Numbers only: a reference would keep a parameter alive, and torch.utils.swap_tensors refuses
    tensors that have weak ones.
    """

    def __init__(self) -> None:
        self._was_vector: dict[int, list[bool]] = {}  # of each group, by position
        self._ids: set[int] = set()  # of parameters that were vectors when they were given

    def add(self, group_index: int, params: list[Tensor]) -> None:
        """Note the parameters of a group."""
        self._was_vector[group_index] = [_is_vector(param) for param in params]
        self._ids.update(id(param) for param in params if _is_vector(param))

    def check(self, group_index: int, params: list[Tensor], name: Callable[[int], str]) -> None:
        """Raise ValueError if a parameter with a gradient is a flattened one by now.

        Other whole parameters may have come in their place: vectors where there were vectors, or
        any list that still has matrices in it.
        """
        was_vector = self._was_vector.get(group_index, [])
        if all(was_vector):
            return
        if len(was_vector) != len(params):
            was_vector = [not all(map(_is_vector, params))] * len(params)
        for i, param in enumerate(params):
            if was_vector[i] or param.grad is None or id(param) in self._ids:
                continue
            if _is_vector(param):
                raise ValueError(
                    f"{name(i)} has shape {tuple(param.shape)} where there was one of two or more "
                    "dimensions when the optimizer was made: it is a flattened one, as DeepSpeed "
                    f"ZeRO and FSDP1 make; {REMEDY}"
                )


def check_pieces(params: list[Tensor], name: Callable[[int], str]) -> None:
    """Raise TypeError if one of ``params`` is a piece of what FSDP1 has flattened and sharded.

    With ``use_orig_params=True`` pieces and whole parameters bear the same mark, and a whole vector
    looks like a piece. Only the flat parameter, which no piece refers to, knows whether it is
    sharded: it is looked for among all objects, where such vectors are.
    """
    marked = {
        id(param): i
        for i, param in enumerate(params)
        if getattr(param, "_fsdp_flattened", False) and param.requires_grad and param.dim() < 2
    }
    if not marked:
        return
    whole: set[int] = set()
    for flat in gc.get_objects():
        if issubclass(type(flat), Tensor) and vars(flat).get("_is_flat_param"):
            whole |= _whole_parameters(flat)
    for identity, i in marked.items():
        if identity not in whole:
            raise TypeError(
                f"{name(i)} of shape {tuple(params[i].shape)} is a piece of a parameter that FSDP1 "
                f"(FullyShardedDataParallel) has flattened; {REMEDY}"
            )


def _whole_parameters(flat: Any) -> set[int]:
    """The ids of a flat parameter's originals where it is not sharded: they are whole then."""
    if flat._sharded_size != flat._unpadded_unsharded_size:
        return set()
    return {id(param) for param in (*(flat._params or ()), *(flat._shared_params or ()))}
