"""What the processes of a sharded step tell one another, in one collective for each process group.

A tensor's outcome and coefficients depend on a few sums over the whole of it. Each process leaves
those of its part (:class:`~adamp_fused.backends.protocol.Shard`) in one buffer; here they are added
up, for all tensors together. The bytes are those of six numbers a tensor; and of four a row, where
rows have parts in several processes. Statistics take four numbers a tensor more, and one more
collective for the largest cosines.

The process groups follow one another in an order that is the same in all processes, as the
optimizers list the same parameters in the same order. Those that rows are split over come first:
when the sums of rows are complete each row is tested, and what is left of them is how many have
failed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from adamp_fused import _stats
from adamp_fused._control import sum_of_squares
from adamp_fused.backends.protocol import Field, Groups, Shard, StatField
from adamp_fused.sharding import dtensor
from adamp_fused.sharding.chain import Chain, sort_key
from adamp_fused.sharding.dtensor import Group, Layout
from adamp_fused.sharding.row_tests import RowTests, Tested

_FIELDS = len(Field)
_STAT_FIELDS = len(StatField)
_OF_ROW = 4  # PP to PU


@dataclass
class _Part:
    """The part of one tensor that is here."""

    name: str
    group_index: int
    layout: Layout
    rows: int  # here
    row_length: int  # of the whole tensor
    numel: int
    shard: Shard | None = None
    #: Whether rows are tested by the caller of the step, since their sums are not complete here.
    tests_rows: bool = False
    #: Where those that are here lie among all, if the sums of all rows travel together; None: the
    #: sums of those that are here are added up by themselves, before those of the tensor.
    places: Tensor | None = None
    #: Which rows are tested: all of them, or those that are here.
    tested: Tensor | None = None


class _PlacedRows(NamedTuple):
    """Sums of the rows that are here, which travel at their places among all rows."""

    here: Tensor
    all_rows: Tensor
    places: Tensor

    def put(self) -> None:
        """Before they are added up."""
        self.all_rows[self.places] = self.here

    def take(self) -> None:
        """Afterwards."""
        self.here.copy_(self.all_rows[self.places])


class Reduction:
    """The buffer of the DTensors on one device, and their collectives."""

    def __init__(
        self,
        params: list[tuple[Any, int, str]],
        groups: Groups,
        device: torch.device,
        measured: bool = False,
    ) -> None:
        """Lay out the buffer.

        Args:
            params: every DTensor on the device, the index of its group, and its name.
            groups: the parameter groups.
            device: of the DTensors.
            measured: statistics are asked for.
        """
        self._device, self._measured = device, measured
        # By id: a plan keeps no parameter alive.
        self._layouts = {id(param): dtensor.layout_of(param) for param, _, _ in params}
        self._order = _order(self._layouts.values())
        self._parts: dict[int, _Part] = {}
        for param, index, name in params:
            part = self._part_of(param, index, name, groups[index]["projection"])
            if part is not None:
                self._parts[id(param)] = part
        self._lay_out()
        self._classes = sorted(
            {layout.groups for layout in self._layouts.values()},
            key=functools.partial(sort_key, self._order),
        )
        of_classes = [(1, groups) for groups in self._classes]
        # An infinity concerns those that have copies, too.
        copies = [group for layout in self._layouts.values() for group in layout.copies]
        everyone = list(dict.fromkeys([*self._order, *copies]))
        self._agreement = Chain(self._order, [(1, ()), *of_classes])
        self._agreement_to_skip = Chain(everyone, [(1, tuple(everyone)), *of_classes])
        #: Whether a DTensor concerns other processes at all.
        self.has_others = bool(everyone)
        self._failure: tuple[Tensor, Any] | None = None  # on its way from a device

    def numbers_sent(self) -> list[int]:
        """How many numbers (float64) a step adds up over each process group."""
        return self._chain.sizes()

    def shard_of(self, param: Any) -> Shard | None:
        """Where the step of a DTensor leaves its sums; None: it needs none."""
        part = self._parts.get(id(param))
        return None if part is None else part.shard

    def _part_of(self, param: Any, index: int, name: str, projection: str) -> _Part | None:
        layout = self._layouts[id(param)]
        is_split = bool(layout.over_cols)
        needs_sums = projection in ("auto", "layer") or (projection == "channel" and is_split)
        needs_sums = (needs_sums and param.dim() > 1) or self._measured
        if param.numel() == 0 or not needs_sums or not layout.groups:
            return None
        by_rows = _stats.measures_rows(projection, param.dim())
        part = _Part(
            name,
            index,
            layout,
            rows=dtensor.local(param).shape[0],
            row_length=param.numel() // param.shape[0],
            numel=param.numel(),
            tests_rows=is_split and by_rows,
        )
        cols_end = max(map(self._order.index, layout.over_cols), default=-1)
        if part.tests_rows and any(self._order.index(g) < cols_end for g in layout.over_rows):
            part.places = dtensor.rows_here(param)
        return part

    def _lay_out(self) -> None:
        """Make the buffer: first the sums of all tensors, then those of rows."""
        parts = sorted(
            self._parts.values(), key=lambda part: sort_key(self._order, part.layout.groups)
        )
        runs = [(_FIELDS, part.layout.groups) for part in parts]
        if self._measured:
            runs += [(_STAT_FIELDS, part.layout.groups) for part in parts]
        tested = [part for part in parts if part.tests_rows]
        for part in tested:
            if part.places is None:
                runs.append((_OF_ROW * part.rows, part.layout.over_cols))
            else:
                runs.append((_OF_ROW * (part.numel // part.row_length), part.layout.groups))
        self._buffer = torch.zeros(
            sum(count for count, _ in runs), dtype=torch.float64, device=self._device
        )
        pieces = torch.split(self._buffer, [count for count, _ in runs])
        rows_of = dict(zip(map(id, tested), pieces[len(pieces) - len(tested) :], strict=True))
        self._placed: list[_PlacedRows] = []
        for part, sums in zip(parts, pieces, strict=False):
            row_sums = rows_of.get(id(part))
            if row_sums is not None:
                part.tested = row_sums = row_sums.view(-1, _OF_ROW)
            if row_sums is not None and part.places is not None:
                here = row_sums.new_zeros(part.rows, _OF_ROW)
                self._placed.append(_PlacedRows(here, row_sums, part.places.to(self._device)))
                row_sums = here
            part.shard = Shard(sums, row_sums, part.row_length, part.numel)
        self._chain = Chain(self._order, runs)
        self._sums = self._buffer[: _FIELDS * len(parts)].view(-1, _FIELDS)
        self._stats = self._maxima = None
        if self._measured:
            stats_end = (_FIELDS + _STAT_FIELDS) * len(parts)
            self._stats = self._buffer[_FIELDS * len(parts) : stats_end].view(-1, _STAT_FIELDS)
            self._maxima = self._buffer.new_zeros(len(parts))
            self._chain_of_maxima = Chain(self._order, [(1, part.layout.groups) for part in parts])
            for part, of_part, largest in zip(parts, self._stats, self._maxima, strict=True):
                assert part.shard is not None
                part.shard.stats, part.shard.max_cosine = of_part, largest
        self._names = [part.name for part in parts]
        self._members = torch.tensor(
            [
                math.prod(dist.get_world_size(group) for group in part.layout.groups)
                for part in parts
            ],
            dtype=torch.float64,
            device=self._device,
        )
        self._tests: list[RowTests | None] = []
        for position in range(len(self._order)):
            due = [
                Tested(part.tested, part.row_length, part.group_index, at)
                for at, part in enumerate(parts)
                if part.tested is not None and self._tested_after(part) == position
            ]
            self._tests.append(
                RowTests(due, self._sums, self._stats, self._maxima) if due else None
            )

    def _tested_after(self, part: _Part) -> int:
        over = part.layout.over_cols if part.places is None else part.layout.groups
        return max(map(self._order.index, over))

    def begin(self) -> None:
        """Before a step, which leaves sums only where there is a gradient.

        Raises:
            RuntimeError: the processes differed, in the last step, in what had a gradient.
        """
        self._raise_failure()
        self._buffer.zero_()
        if self._maxima is not None:
            self._maxima.zero_()
        for placed in self._placed:
            placed.here.zero_()

    def reduce(self, groups: Groups) -> None:
        """After the first part of a step: add up what all parts have left, and test rows.

        Raises:
            RuntimeError: a collective failed, or the processes differ in what has a gradient. The
                step is half made then, and must not be followed by another.
        """
        for placed in self._placed:
            placed.put()
        try:
            self._chain.run(self._buffer, functools.partial(self._test_rows, groups))
            if self._maxima is not None:
                self._chain_of_maxima.run(self._maxima, op=dist.ReduceOp.MAX)
        except Exception as error:
            raise RuntimeError(
                f"a collective of the step failed ({error}); {_HALF_MADE}"
            ) from error
        for placed in self._placed:
            placed.take()
        self._check_steppers()

    def _test_rows(self, groups: Groups, position: int) -> None:
        tests = self._tests[position]
        if tests is not None:
            tests.run(groups)

    def _check_steppers(self) -> None:
        steppers = self._sums[:, Field.STEPPERS]
        differ = (steppers != 0) & (steppers != self._members)
        if self._device.type != "cuda":
            self._failure = (differ, None)
            self._raise_failure()
        elif not torch.cuda.is_current_stream_capturing():
            # Told by the next step: this one would have to wait for the device.
            there = torch.empty(differ.shape, dtype=torch.bool, pin_memory=True)
            with torch.cuda.device(self._device):
                there.copy_(differ, non_blocking=True)
                event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                event.record()
            self._failure = (there, event)

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is None or (failure[1] is not None and not failure[1].query()):
            return
        if failure[0].any():
            wrong = [self._names[i] for i in failure[0].nonzero().flatten().tolist()]
            raise RuntimeError(
                f"{', '.join(wrong[:3])}{' and others' if len(wrong) > 3 else ''}: some processes "
                "have a gradient, and others None, which must be the same in all that have a part "
                f"of it: use the same parameters everywhere; {_HALF_MADE}"
            )

    def agree(
        self, found_inf: Tensor | None, grads: list[tuple[Any, Tensor]]
    ) -> tuple[Tensor | None, Tensor]:
        """Before a step: whether it is skipped, and the sum of the squares of all gradients.

        Args:
            found_inf: one element, not 0: this process has found an infinity. None: nobody looks.
            grads: DTensors and their local gradients, where gradients are clipped.

        Returns:
            ``found_inf`` of all processes (float32, 0-dim), or None; the sum of squares (float64).

        Raises:
            RuntimeError: a collective failed. Nothing has changed.
        """
        vector = torch.zeros(1 + len(self._classes), dtype=torch.float64, device=self._device)
        if found_inf is not None:
            vector[0] = (found_inf.reshape(()) != 0).to(self._device, non_blocking=True)
        for i, layout in enumerate(self._classes, start=1):
            own = [grad for param, grad in grads if self._layouts[id(param)].groups == layout]
            vector[i] = sum_of_squares(own, self._device)
        try:
            (self._agreement if found_inf is None else self._agreement_to_skip).run(vector)
        except Exception as error:
            raise RuntimeError(
                f"a collective of the step failed ({error}); neither weights nor state have changed"
            ) from error
        found = None if found_inf is None else (vector[0] != 0).float()
        return found, vector[1:].sum()


_HALF_MADE = (
    "moments have moved, and weights as the last outcomes predict: go on from the last checkpoint"
)


def _order(layouts: Iterable[Layout]) -> list[Group]:
    """All process groups: first those that rows are split over."""
    listed = list(layouts)
    over_cols = [group for layout in listed for group in layout.over_cols]
    over_rows = [group for layout in listed for group in layout.over_rows]
    return list(dict.fromkeys(over_cols + over_rows))
