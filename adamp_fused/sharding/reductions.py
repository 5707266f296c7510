"""The reductions of all devices that have DTensors, as an optimizer sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adamp_fused._control import Given, sum_of_squares
from adamp_fused.backends.protocol import Groups, Slot
from adamp_fused.sharding import dtensor
from adamp_fused.sharding.reduction import Reduction


class Reductions:
    """Those of all devices that have DTensors; none where no tensor is shared out."""

    def __init__(self, by_device: dict[torch.device, Reduction] | None = None) -> None:
        self._by_device = by_device or {}

    @classmethod
    def of(cls, groups: Groups, name: Callable[[int, int], str]) -> Reductions:
        """Of all DTensors in ``groups``, whatever has a gradient: it is the same everywhere."""
        listed: dict[torch.device, list[tuple[Any, int, str]]] = {}
        for index, group in enumerate(groups):
            for i, param in enumerate(group["params"]):
                if dtensor.is_dtensor(param):
                    listed.setdefault(param.device, []).append((param, index, name(index, i)))
        made = {device: Reduction(params, groups, device) for device, params in listed.items()}
        return cls({device: reduction for device, reduction in made.items() if reduction})

    def __bool__(self) -> bool:
        return bool(self._by_device)

    def localize(self, slot: Slot) -> Slot:
        """A slot of what is here of a DTensor, and of what it has to leave; others themselves."""
        here = dtensor.local_slot(slot)
        if here.owner is not None and (reduction := self._by_device.get(slot.param.device)):
            here.shard = reduction.shard_of(slot.param)
        return here

    @property
    def devices(self) -> list[torch.device]:
        """Of the DTensors."""
        return list(self._by_device)

    def begin(self) -> None:
        """See :meth:`Reduction.begin`."""
        for reduction in self._by_device.values():
            reduction.begin()

    def reduce(self, groups: Groups) -> None:
        """See :meth:`Reduction.reduce`."""
        for reduction in self._by_device.values():
            reduction.reduce(groups)

    def agree(
        self, given: Given | None, grads: list[tuple[Any, Tensor]], device: torch.device
    ) -> tuple[Given | None, Tensor]:
        """What all processes have been given, and the sum of the squares of all gradients.

        Args:
            given: to this process, by GradScaler.
            grads: parameters and what of their gradients is here, where gradients are clipped.
            device: of the sum.
        """
        found = None if given is None else given.found_inf
        whole = [g for p, g in grads if not (dtensor.is_dtensor(p) and p.device in self._by_device)]
        total = sum_of_squares(whole, device)
        for own_device, reduction in self._by_device.items():
            own = [(p, g) for p, g in grads if dtensor.is_dtensor(p) and p.device == own_device]
            found, squares = reduction.agree(found, own)
            total = total + squares.to(device, non_blocking=True)
        return given if given is None else given._replace(found_inf=found), total
