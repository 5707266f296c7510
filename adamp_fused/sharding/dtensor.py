"""What of a DTensor (``torch.distributed.tensor``) is here, and how the whole is shared out.

A step works on local tensors, with collectives of its own (``reduction.py``): no whole tensor is
ever made.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adamp_fused.backends.protocol import Slot

#: A ``torch.distributed.ProcessGroup``, which not every build of torch has.
Group = Any


def is_dtensor(value: Any) -> bool:
    """Whether ``value`` is a DTensor. Imports nothing: who has one has imported it."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def parameters() -> Iterator[Any]:
    """The DTensors in this process that are trained; nothing else refers to them all."""
    for found in gc.get_objects():
        is_found = issubclass(type(found), Tensor) and is_dtensor(found)
        if is_found and found.is_leaf and found.requires_grad:
            yield found


def local(tensor: Any) -> Any:
    """The local tensor of a DTensor; anything else itself."""
    return tensor._local_tensor if is_dtensor(tensor) else tensor


def local_slot(slot: Slot) -> Slot:
    """A slot of what is here of a DTensor, or the slot itself."""
    if not is_dtensor(slot.param):
        return slot
    state = {key: local(value) for key, value in slot.state.items()}
    return dataclasses.replace(
        slot, param=local(slot.param), grad=local(slot.grad), state=state, owner=slot.param
    )


class Layout(NamedTuple):
    """Over which process groups a tensor is shared out; groups of one process do not count.

    Attributes:
        over_rows: those whose processes have different rows (dimension 0).
        over_cols: those whose processes have different parts of the same rows.
        copies: those whose processes have the same.
    """

    over_rows: tuple[Group, ...]
    over_cols: tuple[Group, ...]
    copies: tuple[Group, ...]

    @property
    def groups(self) -> tuple[Group, ...]:
        """Those that the sums of the tensor are added up over."""
        return self.over_cols + self.over_rows


def layout_of(param: Any) -> Layout:
    """The layout of a DTensor."""
    over_rows: list[Group] = []
    over_cols: list[Group] = []
    copies: list[Group] = []
    for mesh_dim, placement in enumerate(param.placements):
        if param.device_mesh.size(mesh_dim) == 1:
            continue
        if placement.is_replicate():
            over = copies
        else:
            over = over_rows if placement.dim % param.dim() == 0 else over_cols
        over.append(param.device_mesh.get_group(mesh_dim))
    return Layout(tuple(over_rows), tuple(over_cols), tuple(copies))


def rows_here(param: Any) -> Tensor:
    """Which rows of a DTensor have a part here, in the order of the local tensor (int64)."""
    rows = torch.arange(param.shape[0])
    coordinates = param.device_mesh.get_coordinate()
    for mesh_dim, placement in enumerate(param.placements):
        if not placement.is_replicate() and placement.dim % param.dim() == 0:
            parts, _ = placement._split_tensor(
                rows, param.device_mesh.size(mesh_dim), with_padding=False, contiguous=True
            )
            rows = parts[coordinates[mesh_dim]]
    return rows


def settle_gradients(params: list[Any]) -> bool:
    """Share each gradient out as its parameter is, adding up what is partial; whether one was not.

    The gradient takes the place of the one that autograd left (``param.grad``): it is the same
    tensor to whoever reads it, and the next step need not do so again.
    """
    settled = False
    for param in params:
        grad = param.grad
        if not is_dtensor(param) or not is_dtensor(grad):
            continue
        if grad.device_mesh == param.device_mesh and grad.placements != param.placements:
            param.grad = grad.redistribute(placements=param.placements)
            settled = True
        pending = param.grad._local_tensor
        if hasattr(pending, "wait"):  # an AsyncCollectiveTensor
            param.grad = type(grad).from_local(
                pending.wait(),
                param.device_mesh,
                param.placements,
                run_check=False,
                shape=param.shape,
                stride=param.grad.stride(),
            )
            settled = True
    return settled


def check_param(param: Any, name: str) -> None:
    """Raise TypeError unless a DTensor is shared out in a way that an optimizer can step."""
    for placement in param.placements:
        if not placement.is_replicate() and getattr(placement, "dim", None) is None:
            raise TypeError(
                f"{name} is a DTensor with placements {tuple(param.placements)}; each must be "
                "Shard or Replicate, as a parameter has one value: redistribute it first"
            )


def check_slot(slot: Slot, moments: tuple[str, ...], name: str) -> None:
    """Raise unless gradient and moments are shared out as the parameter is."""
    param = slot.param
    if not is_dtensor(param):
        raise TypeError(
            f"the gradient of {name} is a DTensor and the parameter is not; use DTensors for both, "
            "or the gradient's full_tensor()"
        )
    check_param(param, name)
    if slot.grad is not None:
        _check_alike(param, slot.grad, f"the gradient of {name}")
    for key in moments:
        if isinstance(value := slot.state.get(key), Tensor):
            _check_alike(param, value, f"the state {key!r} of {name}")


def _check_alike(param: Any, other: Any, name: str) -> None:
    """Raise unless ``other``, called ``name``, is shared out as the DTensor ``param`` is."""
    if not is_dtensor(other):
        raise TypeError(
            f"{name} is a plain tensor and the parameter a DTensor; it must be one, too, with "
            f"placements {tuple(param.placements)}: use torch.distributed.tensor.distribute_tensor"
        )
    for what in ("device_mesh", "placements"):
        if getattr(other, what) != getattr(param, what):
            raise ValueError(
                f"{name} has {what} {getattr(other, what)} and the parameter "
                f"{getattr(param, what)}; they must be the same: use redistribute, or load the "
                "state with torch.distributed.checkpoint"
            )
