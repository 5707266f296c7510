"""Clocks, the byte model and the memory rate that step times are held against."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

Step = Callable[[], object]


class Sample(NamedTuple):
    """One step in seconds: until it was done, until the call returned, between device events."""

    wall: float
    host: float
    device: float | None


def time_step(step: Step, device: torch.device) -> Sample:
    """Time one call of ``step`` from an idle device until its work is done."""
    if device.type != "cuda":
        start = time.perf_counter()
        step()
        wall = time.perf_counter() - start
        return Sample(wall, wall, None)
    before = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    after = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    torch.cuda.synchronize(device)
    before.record()
    start = time.perf_counter()
    step()
    host = time.perf_counter() - start
    after.record()
    torch.cuda.synchronize(device)
    wall = time.perf_counter() - start
    return Sample(wall, host, before.elapsed_time(after) / 1e3)


@dataclasses.dataclass(frozen=True)
class Kernels:
    """What one step does on the device, averaged over a few profiled steps."""

    launches: float
    copies: float
    synchronisations: float
    milliseconds: float


# torch's own waits; the profiler adds one cudaDeviceSynchronize of its own when it stops.
WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize", "hipStreamSynchronize")


def profile_step(step: Step, device: torch.device, steps: int = 3) -> Kernels | None:
    """Count kernels, copies and host waits per step, and add up kernel time; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        for _ in range(steps):
            step()
        torch.cuda.synchronize(device)
    launches = copies = waits = 0
    microseconds = 0.0
    for event in recorded.events() or ():
        if event.device_type.name == "CPU":
            waits += event.name in WAITS
        elif event.is_user_annotation or event.name.startswith("Optimizer."):
            continue  # the span of step() as seen on the device: it contains the kernels
        elif event.name.startswith(("Memcpy", "Memset")):
            copies += 1
        else:
            launches += 1
            microseconds += event.time_range.elapsed_us()
    if launches == 0:
        return None  # no access to the device's performance counters on this machine
    per = 1 / steps
    return Kernels(launches * per, copies * per, waits * per, microseconds * per / 1e3)


def step_bytes(numel: int, states: int, dtype: torch.dtype) -> int:
    """Bytes that a step must move: p, g and the states are read, p and the states written.

    float32: 28 bytes a parameter with two states (AdamW, AdamP), 20 with one (momentum).
    """
    return numel * dtype.itemsize * (3 + 2 * states)


@dataclasses.dataclass(frozen=True)
class MemoryRate:
    """Bytes per second of two plain torch operations on tensors that exceed the caches.

    copy: ``a.copy_(b)``, counting 2 accesses an element; add: ``a.add_(b)``, counting 3.
    limit: the one that a step is held against. On a CPU that is the addition: a copy's ordinary
    stores fetch every line before they overwrite it, so the bus carries half as much again as is
    counted, whereas an optimizer, like the addition, only writes what it has read.
    """

    copy: float
    add: float
    limit: float


def best(first: MemoryRate, second: MemoryRate) -> MemoryRate:
    """The higher of two measurements: what slows a machine down for a moment only lowers one."""
    return MemoryRate(*map(max, dataclasses.astuple(first), dataclasses.astuple(second)))


def memory_rate(device: torch.device, groups: int = 3, repeats: int = 5) -> MemoryRate:
    """Measure both rates: the best of ``groups`` medians of ``repeats``."""
    numel = (256 if device.type == "cuda" else 64) * 2**20
    a, b = torch.ones(numel, device=device), torch.ones(numel, device=device)

    def rate(operation: Callable[[Tensor], Tensor], accesses: int) -> float:
        def seconds() -> float:
            sample = time_step(lambda: operation(b), device)
            return sample.wall if sample.device is None else sample.device

        seconds()
        medians = [statistics.median(seconds() for _ in range(repeats)) for _ in range(groups)]
        return accesses * a.element_size() * numel / min(medians)

    copy, add = rate(a.copy_, 2), rate(a.add_, 3)
    return MemoryRate(copy, add, limit=add if device.type == "cpu" else copy)


def spread(values: list[float]) -> float | None:
    """Half the distance between the quartiles, as a fraction of the median."""
    if len(values) < 2:
        return None
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / 2 / middle
