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
    """Those of all devices that have DTensors."""

    def __init__(self, by_device: dict[torch.device, Reduction]) -> None:
        self._by_device = by_device

    @classmethod
    def of(
        cls, groups: Groups, name: Callable[[int, int], str], measured: bool
    ) -> Reductions | None:
        """Of all DTensors in ``groups``, whatever has a gradient: it is the same everywhere.

        None where no tensor concerns other processes. ``measured``: statistics are asked for.
        """
        listed: dict[torch.device, list[tuple[Any, int, str]]] = {}
        for index, group in enumerate(groups):
            for i, param in enumerate(group["params"]):
                if dtensor.is_dtensor(param):
                    listed.setdefault(param.device, []).append((param, index, name(index, i)))
        made = {
            device: Reduction(params, groups, device, measured) for device, params in listed.items()
        }
        shared = {device: reduction for device, reduction in made.items() if reduction.has_others}
        return cls(shared) if shared else None

    def give_shards(self, slots: list[Slot]) -> None:
        """Tell each slot of a DTensor where it has to leave its sums."""
        for slot in slots:
            if slot.owner is not None and slot.param.device in self._by_device:
                slot.shard = self._by_device[slot.param.device].shard_of(slot.owner)

    def begin(self) -> None:
        """See :meth:`Reduction.begin`."""
        for reduction in self._by_device.values():
            reduction.begin()

    def reduce(self, groups: Groups) -> None:
        """See :meth:`Reduction.reduce`."""
        for reduction in self._by_device.values():
            reduction.reduce(groups)

    def agree(
        self, given: Given | None, grads: list[tuple[Any, Tensor]] | None
    ) -> tuple[Given | None, Tensor | None]:
        """What all processes have been given, and the sum of the squares of all gradients.

        Args:
            given: to this process, by GradScaler.
            grads: parameters and what of their gradients is here; None: the sum is not wanted.
        """
        found = None if given is None else given.found_inf
        if grads is None and found is None:
            return given, None
        listed = grads or []
        shared = [item for item in listed if dtensor.is_dtensor(item[0])]
        plain = [grad for param, grad in listed if not dtensor.is_dtensor(param)]
        device = next(iter(self._by_device))
        # DTensors of other devices are whole in every process.
        whole = plain + [grad for param, grad in shared if param.device not in self._by_device]
        total = sum_of_squares(whole, device)
        for own_device, reduction in self._by_device.items():
            own = [item for item in shared if item[0].device == own_device]
            found, squares = reduction.agree(found, own)
            total = total + squares.to(device, non_blocking=True)
        given = None if given is None else given._replace(found_inf=found)
        return given, None if grads is None else total
