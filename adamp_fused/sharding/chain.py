"""All-reduces of one vector, one process group after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from adamp_fused.sharding.dtensor import Group


class Chain:
    """All-reduces of one vector, one for each process group over the elements that concern it."""

    def __init__(self, order: list[Group], runs: list[tuple[int, tuple[Group, ...]]]) -> None:
        """``runs``: how many elements follow one another, and the groups that add them up."""
        self._order = order
        self._selected: list[slice | Tensor] = []
        for group in order:
            first = 0
            ranges: list[range] = []
            for count, groups in runs:
                if group in groups and count > 0:
                    if ranges and ranges[-1].stop == first:
                        ranges[-1] = range(ranges[-1].start, first + count)
                    else:
                        ranges.append(range(first, first + count))
                first += count
            if len(ranges) <= 1:
                whole = ranges[0] if ranges else range(0)
                self._selected.append(slice(whole.start, whole.stop))
            else:
                self._selected.append(torch.tensor([i for part in ranges for i in part]))

    def sizes(self) -> list[int]:
        """How many elements each group adds up."""
        return [
            part.stop - part.start if isinstance(part, slice) else len(part)
            for part in self._selected
        ]

    def run(
        self,
        vector: Tensor,
        after: Callable[[int], None] = lambda position: None,
        op: Any = None,
    ) -> None:
        """Add up, in place, or as ``op`` (a ``ReduceOp``) says.

        ``after(i)`` is called when group ``i`` of the order has done so.
        """
        op = dist.ReduceOp.SUM if op is None else op
        for position, group in enumerate(self._order):
            selected = self._selected[position]
            if isinstance(selected, slice):
                part = vector[selected]
                if part.numel() > 0:
                    dist.all_reduce(part, op, group=group)
            else:
                selected = self._selected[position] = selected.to(vector.device)
                part = vector[selected]
                dist.all_reduce(part, op, group=group)
                vector[selected] = part
            after(position)


def sort_key(order: list[Group], groups: tuple[Group, ...]) -> tuple[bool, ...]:
    """Sorts elements so that, of up to two groups, those of each follow one another."""
    has = [group in groups for group in order]
    return tuple(not one if i % 2 == 0 else one for i, one in enumerate(has))
