"""Measuring steps: the contenders of a family take turns on copies of the same parameters."""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time

import torch
from torch import Tensor

from bench import console, machine
from bench.contenders import FAMILIES, Contender, Family, Skipped
from bench.gradients import Gradients, make_weights
from bench.harness import (
    Kernels,
    MemoryRate,
    Sample,
    best,
    memory_rate,
    profile_step,
    spread,
    step_bytes,
    time_step,
)
from bench.workloads import Workload, shrink

WARM_UP = 3
FEWEST_ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to measure.

    A contender that would need more than ``budget`` seconds for its rounds gets fewer, and one
    that has taken twice that stops early.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    outcome: str = "natural"
    rounds: int = 30
    budget: float = 6.0


@dataclasses.dataclass(frozen=True)
class Row:
    """One contender on one workload; times are medians in milliseconds.

    ms: wall time of ``step()`` until its work is done; device_ms: between CUDA events; kernel_ms:
    sum of the kernels' own times; host_ms: until ``step()`` returned. The ratios divide by the
    anchor that took turns with this contender. rate_share: bytes of the model per second, by
    kernel time where known, over the memory rate measured just before and after.
    """

    contender: str
    label: str
    family: str
    ours: bool
    rounds: int
    ms: float
    spread: float | None
    ratio: float
    bytes: int
    rate_share: float
    host_ms: float | None
    device_ms: float | None
    kernel_ms: float | None
    kernel_ratio: float | None
    launches: float | None
    copies: float | None
    synchronisations: float | None


@dataclasses.dataclass(frozen=True)
class WorkloadResult:
    """All rows of one workload; ``batches`` counts the groups that memory forced them into."""

    name: str
    title: str
    tensors: int
    numel: int
    rate: MemoryRate
    batches: int
    rows: list[Row]


class Lane:
    """A contender with parameters of its own, its optimizer and the samples taken so far."""

    def __init__(self, contender: Contender, weights: list[Tensor], grads: list[Tensor]) -> None:
        """Build the optimizer on copies of ``weights``, with the shared ``grads``."""
        self.contender = contender
        parameters = [weight.clone() for weight in weights]
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.requires_grad_().grad = grad
        self.optimizer = contender.build(parameters)
        self.samples: list[Sample] = []
        self.kernels: Kernels | None = None
        self.rounds = 0

    def warm_up(self, settings: Settings) -> None:
        """Make the state, compile what compiles late, and find how many rounds are affordable."""
        start = time.perf_counter()
        seconds: list[float] = []
        # At least two: the first may compile kernels.
        while len(seconds) < 2 or (
            len(seconds) < WARM_UP and time.perf_counter() - start < settings.budget / 2
        ):
            seconds.append(time_step(self.optimizer.step, settings.device).wall)
        affordable = max(FEWEST_ROUNDS, int(settings.budget / min(seconds)))
        self.rounds = min(settings.rounds, affordable)

    def release(self) -> None:
        """Give the parameters and the optimizer's state back; the samples stay."""
        del self.optimizer

    def due(self, turn: int, turns: int, budget: float) -> bool:
        """Whether this lane steps in a turn: its rounds are spread evenly over all turns."""
        spent = sum(sample.wall for sample in self.samples)
        if spent > 2 * budget and len(self.samples) >= FEWEST_ROUNDS:
            return False
        return turn * self.rounds // turns != (turn + 1) * self.rounds // turns

    def median(self, kind: str) -> float | None:
        """Median of one kind of sample in milliseconds; None where it was not taken."""
        values = [getattr(sample, kind) for sample in self.samples]
        return None if None in values else statistics.median(values) * 1e3


def pack(members: list[Contender], copy_bytes: int, capacity: float) -> list[list[Contender]]:
    """Divide a family into batches that fit in memory together, each led by the anchor.

    A contender takes one copy of the parameters and its states. Four more copies are kept free:
    the gradients that all share, the initial weights, and the unfused optimizers' temporaries.
    """
    anchor = next(member for member in members if member.is_anchor)
    lane = copy_bytes * (1 + anchor.family.states)
    others = [member for member in members if member is not anchor]
    room = max(1, int((capacity - 4 * copy_bytes) // lane) - 1)
    batches = [others[i : i + room] for i in range(0, len(others), room)]
    return [[anchor, *batch] for batch in batches or [[]]]


def most_parameters(family: Family, itemsize: int, capacity: float) -> int:
    """The largest model on which the anchor and one contender fit together (see :func:`pack`)."""
    return int(capacity // (itemsize * (4 + 2 * (1 + family.states))))


def measure_batch(
    workload: Workload, batch: list[Contender], settings: Settings, label: str
) -> list[Lane]:
    """Let the contenders of one batch take turns."""
    weights = make_weights(workload, settings.device, settings.dtype)
    gradients = Gradients(workload, weights, settings.outcome)
    lanes = [Lane(contender, weights, gradients.tensors) for contender in batch]
    with console.progress(label, settings.rounds + len(lanes)) as advance:
        for lane in lanes:
            lane.warm_up(settings)
            advance()
        turns = max(lane.rounds for lane in lanes)
        for turn in range(turns):
            gradients.next_step()
            gc.collect()
            gc.disable()  # as timeit does
            # The order moves on by one each turn, so that nobody always follows the same one.
            first = turn % len(lanes)
            for lane in lanes[first:] + lanes[:first]:
                if lane.due(turn, turns, settings.budget):
                    lane.samples.append(time_step(lane.optimizer.step, settings.device))
            gc.enable()
            advance()
    for lane in lanes:
        lane.kernels = profile_step(lane.optimizer.step, settings.device)
    return lanes


def _row(lane: Lane, anchor: Lane, numel: int, settings: Settings, rate: MemoryRate) -> Row:
    contender, kernels = lane.contender, lane.kernels
    ms, anchor_ms = lane.median("wall"), anchor.median("wall")
    assert ms is not None and anchor_ms is not None  # wall time is always taken
    device_ms = lane.median("device")
    moved = step_bytes(numel, contender.family.states, settings.dtype)
    busy_ms = kernels.milliseconds if kernels else device_ms or ms
    return Row(
        contender=contender.key,
        label=contender.label,
        family=contender.family.name,
        ours=contender.ours,
        rounds=len(lane.samples),
        ms=ms,
        spread=spread([sample.wall for sample in lane.samples]),
        ratio=ms / anchor_ms,
        bytes=moved,
        rate_share=moved / (busy_ms / 1e3) / rate.limit,
        host_ms=lane.median("host") if settings.device.type == "cuda" else None,
        device_ms=device_ms,
        kernel_ms=kernels.milliseconds if kernels else None,
        kernel_ratio=kernels.milliseconds / anchor.kernels.milliseconds
        if kernels and anchor.kernels
        else None,
        launches=kernels.launches if kernels else None,
        copies=kernels.copies if kernels else None,
        synchronisations=kernels.synchronisations if kernels else None,
    )


def measure(
    workload: Workload, contenders: list[Contender], settings: Settings
) -> WorkloadResult | Skipped:
    """Measure every contender on one workload, or say why it cannot be done."""
    itemsize = settings.dtype.itemsize
    rate = memory_rate(settings.device)
    families = [f for f in FAMILIES if any(c.family is f for c in contenders)]
    capacity = 0.8 * machine.available_bytes(settings.device)
    fitting = shrink(workload, min(most_parameters(f, itemsize, capacity) for f in families))
    if fitting is None:
        return Skipped(workload.name, f"does not fit in {capacity / 2**30:.1f} GiB of free memory")
    measured: list[tuple[Lane, Lane]] = []
    batches = 0
    for family in families:
        members = [contender for contender in contenders if contender.family is family]
        for index, batch in enumerate(pack(members, fitting.numel * itemsize, capacity)):
            label = f"{fitting.title}, {family.title}"
            lanes = measure_batch(fitting, batch, settings, label)
            # The anchor leads every batch; its row is that of the family's first batch.
            measured += [(lane, lanes[0]) for lane in lanes[1 if index else 0 :]]
            batches += 1
            # Before the next batch takes memory: optimizers refer to themselves.
            for lane in lanes:
                lane.release()
            gc.collect()
    rate = best(rate, memory_rate(settings.device))
    rows = [_row(lane, anchor, fitting.numel, settings, rate) for lane, anchor in measured]
    return WorkloadResult(
        fitting.name, fitting.title, len(fitting.weights), fitting.numel, rate, batches, rows
    )
