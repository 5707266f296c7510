"""Several processes that each have a part of some tensors, imitated in one: steps in two halves.

Each has a plan of its own. What :mod:`adamp_fused.sharding` does with collectives is done here by
adding up: first the sums of rows, over the processes that have parts of the same rows.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from adamp_fused import _stats
from adamp_fused.backends.protocol import Control, Field, Shard, Slot, StatField
from adamp_fused.backends.registry import BACKENDS
from adamp_fused.sharding.row_tests import RowTests, Tested
from conftest import Kind
from parity.cases import STATE_KEYS, Shape
from parity.pairs import Pair, pairs_of
from parity.targets import Target


@dataclass(frozen=True)
class Cut:
    """Where dimensions 0 and 1 are cut, each at shares of its size; nothing is between equal ones.

    Every tensor is cut alike: there is a process for each pair of a part of the rows and a part of
    the columns, with dimension 1 for columns.
    """

    name: str
    rows: tuple[float, ...] = ()
    cols: tuple[float, ...] = ()

    def pieces(self, x: Tensor) -> list[Tensor]:
        """What each process has of a tensor; all of a vector."""
        if x.dim() < 2:
            return [x.clone() for _ in self.processes()]
        rows, cols = (
            [0, *(round(at * size) for at in cut), size]
            for cut, size in zip((self.rows, self.cols), x.shape, strict=False)
        )
        return [
            x[rows[i] : rows[i + 1], cols[j] : cols[j + 1]].clone().contiguous()
            for i, j in self.processes()
        ]

    def processes(self) -> list[tuple[int, int]]:
        """Which part of the rows each has, and which of the columns."""
        return list(itertools.product(range(len(self.rows) + 1), range(len(self.cols) + 1)))

    def join(self, pieces: list[Tensor]) -> Tensor:
        """The tensor of which those are the pieces."""
        if pieces[0].dim() < 2:
            return pieces[0]
        n = len(self.cols) + 1
        lines = [torch.cat(pieces[i : i + n], dim=1) for i in range(0, len(pieces), n)]
        return torch.cat(lines)


def stand_in(part: Tensor, like: Any = None) -> Any:
    """What a plan sees of a DTensor whose local tensor is ``part``; ``like``: its parameter."""
    made: Any = torch.empty(0, dtype=part.dtype, device=part.device)
    made._local_tensor = part
    made._spec = SimpleNamespace(placements=(), device_mesh=()) if like is None else like._spec
    return made


class Process:
    """One of the processes: its parts, and its plan."""

    def __init__(
        self,
        kind: Kind,
        target: Target,
        pairs: list[Pair],
        parts: list[Tensor],
        on_device: bool,
        measured: bool,
    ) -> None:
        """``parts``: of each pair's weights."""
        optimizer = kind.make([pair.p for pair in pairs], target, **pairs[0].options)
        self._method, self._backend = optimizer._method, BACKENDS[target.name]
        self.parts = parts
        self.params = [
            stand_in(part) if pair.p.dim() > 1 else part
            for pair, part in zip(pairs, parts, strict=True)
        ]
        self.groups = [{**optimizer.param_groups[0], "params": self.params}]
        self.groups[0]["capturable"] = on_device
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        for part, param in zip(parts, self.params, strict=True):
            state = {key: torch.zeros_like(part) for key in STATE_KEYS[kind.name]}
            if self._method.counts_steps:
                real = torch.float64 if part.dtype == torch.float64 else torch.float32
                device = part.device if on_device else "cpu"
                state["step"] = torch.zeros((), dtype=real, device=device)
            if part.dim() > 1:
                state["view"] = torch.zeros((), dtype=torch.int32, device=part.device)
            if measured:
                state["stats"] = _stats.zeros(part.device)
            self.state[param] = state
        self._on_device, self._measured = on_device, measured
        self._grads: list[Tensor | None] = [None] * len(parts)
        self.shards: list[Shard | None] = [None] * len(parts)
        self._plan: Any = None

    def give(self, index: int, grad: Tensor | None) -> None:
        """Set the gradient of one tensor."""
        param = self.params[index]
        if grad is None or param is self.parts[index]:
            param.grad = grad
        else:
            param.grad = stand_in(grad, param)
        self._grads[index] = grad

    def run(self, control: Control | None) -> None:
        """The first half."""
        for shard in self.shards:
            if shard is not None:
                shard.sums.zero_()
                if shard.row_sums is not None:
                    shard.row_sums.zero_()
                if shard.stats is not None and shard.max_cosine is not None:
                    shard.stats.zero_()
                    shard.max_cosine.zero_()
        if self._plan is None or not self._plan.refresh(self.groups, self.state):
            self._plan = self._backend.plan(self._method, self._slots(), self.groups, self.state)
        self._plan.prepare(control)
        self._plan.run()

    def _slots(self) -> list[Slot]:
        return [
            Slot(
                part,
                self._grads[index],
                self.state[param],
                self.groups[0],
                0,
                self._on_device,
                None if param is part else param,
                shard,
                self._measured,
            )
            for index, (part, param, shard) in enumerate(
                zip(self.parts, self.params, self.shards, strict=True)
            )
        ]

    def finish(self) -> None:
        """The second half, where there is one."""
        if any(self.shards):
            self._plan.finish()


class Processes:
    """All of them, and the tensors of which they have parts."""

    def __init__(
        self,
        kind: Kind,
        target: Target,
        wanted: tuple[Shape, ...],
        cut: Cut,
        dtype: torch.dtype = torch.float32,
        on_device: bool = False,
        measured: bool = False,
        **options: Any,
    ) -> None:
        self.pairs = pairs_of(kind, wanted, dtype, target, **options)
        self._kind, self._cut, self._measured = kind, cut, measured
        pieces = [cut.pieces(pair.p.detach()) for pair in self.pairs]
        self.all = [
            Process(kind, target, self.pairs, list(parts), on_device, measured)
            for parts in zip(*pieces, strict=True)
        ]
        self._projection = self.all[0].groups[0]["projection"]
        for index, pair in enumerate(self.pairs):
            if pair.p.dim() > 1:
                for process in self.all:
                    process.shards[index] = self._shard(pair, process.parts[index])

    def _shard(self, pair: Pair, part: Tensor) -> Shard | None:
        tests_rows = bool(self._cut.cols) and self._projection in ("auto", "channel")
        needs_sums = self._projection in ("auto", "layer") or tests_rows
        if not (needs_sums or self._measured):
            return None
        numbers = {"dtype": torch.float64, "device": part.device}
        row_sums = torch.empty((part.shape[0], 4), **numbers) if tests_rows else None
        length = pair.p.numel() // pair.p.shape[0]
        shard = Shard(torch.zeros(len(Field), **numbers), row_sums, length, pair.p.numel())
        if self._measured:
            shard.stats = torch.zeros(len(StatField), **numbers)
            shard.max_cosine = torch.zeros((), **numbers)
        return shard

    def step(
        self, outcome: int, what: str, control: Control | None = None, without: int | None = None
    ) -> None:
        """One step, to which each pair's gradient leads to the outcome; compare with the oracle.

        ``without``: a tensor that gets no gradient.
        """
        for index, pair in enumerate(self.pairs):
            if index != without:
                pair.advance(outcome, self._whole_state(index))
            grads = None if index == without else self._cut.pieces(pair.p.grad)
            for number, process in enumerate(self.all):
                process.give(index, None if grads is None else grads[number])
        self.run(control)
        for index, pair in enumerate(self.pairs):
            if index != without:
                pair.p.data.copy_(self._cut.join([process.parts[index] for process in self.all]))
                pair.check(self._whole_state(index), what)

    def run(self, control: Control | None = None) -> None:
        """Both halves with the gradients that are there."""
        for process in self.all:
            process.run(control)
        for index in range(len(self.pairs)):
            if self.all[0].shards[index] is not None:
                self._add_up([process.shards[index] for process in self.all])
        for process in self.all:
            process.finish()

    def _whole_state(self, index: int) -> dict[str, Tensor]:
        """Of all processes; what each has whole is the same in all."""
        states = [process.state[process.params[index]] for process in self.all]
        whole: dict[str, Tensor] = {}
        for key in states[0]:
            values = [state[key] for state in states]
            if key in STATE_KEYS[self._kind.name]:
                whole[key] = self._cut.join(values)
            else:
                assert all(torch.equal(value, values[0]) for value in values), (key, values)
                whole[key] = values[0]
        return whole

    def _add_up(self, shards: list[Any]) -> None:
        """What the collectives do."""
        parts_of_row = len(self._cut.cols) + 1
        if shards[0].row_sums is not None:
            for first in range(0, len(shards), parts_of_row):
                same_rows = shards[first : first + parts_of_row]
                self._test_rows(same_rows)
        total = torch.stack([shard.sums for shard in shards])
        if shards[0].row_sums is not None:
            # Of the processes that share rows each has all of their sums now.
            total[:, Field.FAILED_ROWS :] /= parts_of_row
        for shard in shards:
            shard.sums.copy_(total.sum(0))
        if self._measured:
            stats = torch.stack([shard.stats for shard in shards])
            if shards[0].row_sums is not None:
                stats[:, StatField.RP :] /= parts_of_row
            largest = torch.stack([shard.max_cosine for shard in shards]).max()
            for shard in shards:
                shard.stats.copy_(stats.sum(0))
                shard.max_cosine.copy_(largest)
        assert shards[0].sums[Field.STEPPERS] in (0, len(shards))

    def _test_rows(self, shards: list[Any]) -> None:
        row_sums = torch.stack([shard.row_sums for shard in shards]).sum(0)
        for shard in shards:
            shard.row_sums.copy_(row_sums)
            if shard.sums[Field.STEPPERS] != 0:
                rows = Tested(shard.row_sums, shard.row_length, group_index=0, at=0)
                stats = maxima = None
                if shard.stats is not None:
                    stats, maxima = shard.stats.view(1, -1), shard.max_cosine.view(1)
                RowTests([rows], shard.sums.view(1, -1), stats, maxima).run(self.all[0].groups)
