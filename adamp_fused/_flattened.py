"""Parameters that a wrapper has flattened: of one dimension, so that none would be projected.

Nothing of such a tensor says that it was a matrix. What is known is what the parameters were when
they were given, and what FSDP1 keeps about those that it has flattened.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.nn import Module
from torch.nn.parameter import is_lazy

from adamp_fused.sharding import dtensor

REMEDY = (
    "the projection needs whole rows: to shard parameters use FSDP2 "
    "(torch.distributed.fsdp.fully_shard), which keeps rows; or give the optimizer whole "
    "parameters, as DDP, ZeroRedundancyOptimizer and FSDP1 with use_orig_params=True and "
    "ShardingStrategy.NO_SHARD keep them"
)


def check_unwrapped(param: Tensor, name: str) -> None:
    """Raise TypeError if ``param`` is what FSDP1 or DeepSpeed has made of whole parameters."""
    if getattr(param, "_is_flat_param", False):
        raise TypeError(
            f"{name} of shape {tuple(param.shape)} is made of all parameters that FSDP1 "
            f"(FullyShardedDataParallel) has flattened; {REMEDY}"
        )
    if hasattr(param, "ds_id"):  # as DeepSpeed itself tells them from others
        raise TypeError(
            f"{name} of shape {tuple(param.shape)} is one that DeepSpeed ZeRO has partitioned: its "
            f"stage 3 steps flat pieces; {REMEDY}"
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
        # Of parameters that were vectors when they were given. With the shape, since another tensor
        # may get the id of one that is no more.
        self._vectors: set[tuple[int, Any]] = set()
        self._is_unwrapped = False  # at the first step there was nothing that FSDP1 had copied

    def add(self, group_index: int, params: list[Tensor]) -> None:
        """Note the parameters of a group."""
        self._was_vector[group_index] = [_is_vector(param) for param in params]
        self._vectors.update(
            (id(param), param.shape) for param in params if not is_lazy(param) and _is_vector(param)
        )

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
            if was_vector[i] or param.grad is None or (id(param), param.shape) in self._vectors:
                continue
            if _is_vector(param):
                raise ValueError(
                    f"{name(i)} has shape {tuple(param.shape)} where there was one of two or more "
                    "dimensions when the optimizer was made: it is a flattened one, as DeepSpeed "
                    f"ZeRO and FSDP1 make; {REMEDY}"
                )

    def check_left_behind(self, groups: list[dict[str, Any]]) -> None:
        """Raise ValueError if FSDP trains copies of all parameters in their stead.

        FSDP2, and FSDP1 with ``use_orig_params=False``, copy what a module has into parameters of
        their own, and forget the originals. An optimizer that was made before would have nothing to
        do, at every step, without a word. Only this tells: parameters of theirs have gradients, and
        these shapes, and no module has these parameters.
        """
        if not (dist.is_available() and dist.is_initialized()):
            return  # FSDP needs a process group
        params = [param for group in groups for param in group["params"]]
        if any(param.grad is not None for param in params):
            self._is_unwrapped = False  # so far
            return
        if self._is_unwrapped:
            return
        flats = [flat for flat in _flat_parameters() if flat._params is None]
        dtensors = list(dtensor.parameters())
        self._is_unwrapped = not (flats or dtensors)  # to look among all objects takes 0.1 s
        ours = Counter(p.shape for p in params if p.requires_grad and not is_lazy(p))
        in_flats = Counter(
            shape for flat in flats if flat.grad is not None for shape in flat._shapes
        )
        in_dtensors = Counter(param.shape for param in dtensors if param.grad is not None)
        if not ours or not (ours <= in_flats or ours <= in_dtensors) or _in_modules(params):
            return
        if ours <= in_flats:
            raise ValueError(
                "no parameter of the optimizer has a gradient, and FSDP1 (FullyShardedDataParallel "
                "with use_orig_params=False) has flattened parameters of their shapes, whose "
                f"copies it trains instead; {REMEDY}"
            )
        raise ValueError(
            "no parameter of the optimizer has a gradient, no module has them, and there are "
            "DTensors of their shapes that have gradients: torch.distributed.fsdp.fully_shard and "
            "parallelize_module make new parameters; make the optimizer of the model's parameters "
            "after sharding it"
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
    for flat in _flat_parameters():
        whole |= _whole_parameters(flat)
    for identity, i in marked.items():
        if identity not in whole:
            raise TypeError(
                f"{name(i)} of shape {tuple(params[i].shape)} is a piece of a parameter that FSDP1 "
                f"(FullyShardedDataParallel) has flattened; {REMEDY}"
            )


def _in_modules(params: list[Tensor]) -> bool:
    """Whether any of ``params`` is a parameter of a module."""
    ids = {id(param) for param in params}
    return any(
        id(param) in ids
        for found in gc.get_objects()
        if issubclass(type(found), Module)
        for param in vars(found).get("_parameters", {}).values()
    )


def _flat_parameters() -> Iterator[Any]:
    """The flat parameters of FSDP1 in this process; nothing else refers to them all."""
    for found in gc.get_objects():
        if issubclass(type(found), Tensor) and vars(found).get("_is_flat_param"):
            yield found


def _whole_parameters(flat: Any) -> set[int]:
    """The ids of a flat parameter's originals where it is not sharded: they are whole then."""
    if flat._sharded_size != flat._unpadded_unsharded_size:
        return set()
    return {id(param) for param in (*(flat._params or ()), *(flat._shared_params or ()))}
