"""Clocks: wall, host, device and kernel time of one step."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

Step = Callable[[], object]


class Sample(NamedTuple):
    """One step, in seconds.

    Attributes:
        wall: until the work was done.
        host: until the call returned.
        device: between device events; None on a CPU.
    """

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


def spread(values: list[float]) -> float | None:
    """Half the interquartile range, as a fraction of the median."""
    if len(values) < 2:
        return None
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / 2 / middle
