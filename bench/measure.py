"""Measuring steps: the contenders of a family take turns on copies of the same parameters."""

from __future__ import annotations

import dataclasses
import gc

from bench import machine
from bench.contenders import FAMILIES, Contender, Family, Skipped
from bench.harness import MemoryRate, best, memory_rate, spread, step_bytes
from bench.turns import Lane, Settings, demand, measure_batch
from bench.workloads import Workload, shrink


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
            otherwise = None
            try:
                for lane in lanes:
                    demand(settings.outcome, lane)
            except RuntimeError as error:  # in 16 bits hardly a matrix passes by layer
                otherwise = Skipped(fitting.name, str(error))
            # The anchor leads every batch; its row is that of the family's first batch.
            measured += [(lane, lanes[0]) for lane in lanes[1 if index else 0 :]]
            batches += 1
            # Before the next batch takes memory: optimizers refer to themselves.
            for lane in lanes:
                lane.release()
            gc.collect()
            if otherwise is not None:
                return otherwise
    rate = best(rate, memory_rate(settings.device))
    rows = [_row(lane, anchor, fitting.numel, settings, rate) for lane, anchor in measured]
    return WorkloadResult(
        fitting.name, fitting.title, len(fitting.weights), fitting.numel, rate, batches, rows
    )
