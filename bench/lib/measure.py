"""Measures all implementations on one workload, family by family."""

from __future__ import annotations

import dataclasses
import gc

from bench.lib import machine
from bench.lib.bandwidth import Bandwidth, best, measure_bandwidth
from bench.lib.bytes import step_bytes
from bench.lib.implementations import FAMILIES, Family, Implementation, Skipped
from bench.lib.runners import Runner, Settings, check_outcomes, run_batch
from bench.lib.timing import spread
from bench.lib.workloads import Workload, shrink


@dataclasses.dataclass(frozen=True)
class Row:
    """One implementation on one workload. Times are medians in milliseconds.

    Attributes:
        implementation: its key.
        label: how tables show it.
        family: of optimizers with the same state.
        ours: whether it is this package's.
        rounds: measured steps.
        ms: wall time of ``step()`` until its work is done.
        spread: half the interquartile range of the wall times.
        ratio: of the wall times, to the baseline that alternated with it.
        bytes: of one pass, by the byte model.
        bandwidth_share: these bytes per second, by kernel time where known, over the memory
            bandwidth measured just before and after.
        host_ms: until ``step()`` returned.
        device_ms: between CUDA events.
        kernel_ms: sum of the kernels' own times.
        kernel_ratio: of the kernel times, to the baseline's.
        launches: kernels per step.
        copies: memory copies per step.
        synchronisations: waits of the host per step.
    """

    implementation: str
    label: str
    family: str
    ours: bool
    rounds: int
    ms: float
    spread: float | None
    ratio: float
    bytes: int
    bandwidth_share: float
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
    bandwidth: Bandwidth
    batches: int
    rows: list[Row]


def pack(
    members: list[Implementation], copy_bytes: int, capacity: float
) -> list[list[Implementation]]:
    """Divide a family into batches that fit in memory, each with the baseline first.

    An implementation takes one copy of the parameters and its states. Four more copies are kept
    free: the shared gradients, the initial weights, and the unfused optimizers' temporaries.
    """
    baseline = next(member for member in members if member.is_baseline)
    each = copy_bytes * (1 + baseline.family.states)
    others = [member for member in members if member is not baseline]
    room = max(1, int((capacity - 4 * copy_bytes) // each) - 1)
    batches = [others[i : i + room] for i in range(0, len(others), room)]
    return [[baseline, *batch] for batch in batches or [[]]]


def most_parameters(family: Family, itemsize: int, capacity: float) -> int:
    """The largest model on which the baseline and one other fit together (see :func:`pack`)."""
    return int(capacity // (itemsize * (4 + 2 * (1 + family.states))))


def _row(
    runner: Runner, baseline: Runner, numel: int, settings: Settings, bandwidth: Bandwidth
) -> Row:
    implementation, kernels = runner.implementation, runner.kernels
    device_ms = runner.median("device")
    moved = step_bytes(numel, implementation.family.states, settings.dtype)
    busy_ms = kernels.milliseconds if kernels else device_ms or runner.ms
    return Row(
        implementation=implementation.key,
        label=implementation.label,
        family=implementation.family.name,
        ours=implementation.ours,
        rounds=len(runner.samples),
        ms=runner.ms,
        spread=spread([sample.wall for sample in runner.samples]),
        ratio=runner.ms / baseline.ms,
        bytes=moved,
        bandwidth_share=moved / (busy_ms / 1e3) / bandwidth.limit,
        host_ms=runner.median("host") if settings.device.type == "cuda" else None,
        device_ms=device_ms,
        kernel_ms=kernels.milliseconds if kernels else None,
        kernel_ratio=kernels.milliseconds / baseline.kernels.milliseconds
        if kernels and baseline.kernels
        else None,
        launches=kernels.launches if kernels else None,
        copies=kernels.copies if kernels else None,
        synchronisations=kernels.synchronisations if kernels else None,
    )


def measure(
    workload: Workload, implementations: list[Implementation], settings: Settings
) -> WorkloadResult | Skipped:
    """Measure every implementation on one workload, or say why it cannot be done."""
    itemsize = settings.dtype.itemsize
    bandwidth = measure_bandwidth(settings.device)
    families = [f for f in FAMILIES if any(i.family is f for i in implementations)]
    capacity = 0.8 * machine.available_bytes(settings.device)
    fitting = shrink(workload, min(most_parameters(f, itemsize, capacity) for f in families))
    if fitting is None:
        return Skipped(workload.name, f"does not fit in {capacity / 2**30:.1f} GiB of free memory")
    measured: list[tuple[Runner, Runner]] = []
    batches = 0
    for family in families:
        members = [i for i in implementations if i.family is family]
        for index, batch in enumerate(pack(members, fitting.numel * itemsize, capacity)):
            runners = run_batch(fitting, batch, settings, f"{fitting.title}, {family.title}")
            other_case = None
            try:
                for runner in runners:
                    check_outcomes(settings.outcome, runner)
            except RuntimeError as error:  # in 16 bits hardly a matrix passes layer-wise
                other_case = Skipped(fitting.name, str(error))
            # The baseline is first in every batch; its row is that of the family's first batch.
            measured += [(runner, runners[0]) for runner in runners[1 if index else 0 :]]
            batches += 1
            # Before the next batch takes memory: optimizers are in reference cycles.
            for runner in runners:
                runner.release()
            gc.collect()
            if other_case is not None:
                return other_case
    bandwidth = best(bandwidth, measure_bandwidth(settings.device))
    rows = [_row(runner, base, fitting.numel, settings, bandwidth) for runner, base in measured]
    return WorkloadResult(
        fitting.name, fitting.title, len(fitting.weights), fitting.numel, bandwidth, batches, rows
    )
