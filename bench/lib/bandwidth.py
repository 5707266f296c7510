"""The memory bandwidth that step times are compared with."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from bench.lib.timing import time_step


@dataclasses.dataclass(frozen=True)
class Bandwidth:
    """Bytes per second of two plain torch operations on tensors that exceed the caches.

    Attributes:
        memcpy: of ``a.copy_(b)``, counting 2 accesses per element.
        add: of ``a.add_(b)``, counting 3.
        limit: the one that a step is compared with. On a GPU it is memcpy. On a CPU it is the
            addition: the stores of a copy fetch every line before they overwrite it, so that the
            bus carries half as much again as is counted. An optimizer, like the addition, only
            writes what it has read.
    """

    memcpy: float
    add: float
    limit: float

    def __str__(self) -> str:
        memcpy, add = f"memcpy {self.memcpy / 1e9:,.1f} GB/s", f"add {self.add / 1e9:,.1f} GB/s"
        used, other = (memcpy, add) if self.limit == self.memcpy else (add, memcpy)
        return f"memory bandwidth: {used} ({other})"


def best(first: Bandwidth, second: Bandwidth) -> Bandwidth:
    """The higher of two measurements, since a disturbance only lowers one."""
    return Bandwidth(*map(max, dataclasses.astuple(first), dataclasses.astuple(second)))


def measure_bandwidth(device: torch.device, groups: int = 3, repeats: int = 5) -> Bandwidth:
    """Measure both operations: the best of ``groups`` medians of ``repeats``."""
    numel = (256 if device.type == "cuda" else 64) * 2**20
    a, b = torch.ones(numel, device=device), torch.ones(numel, device=device)

    def bandwidth(operation: Callable[[Tensor], Tensor], accesses: int) -> float:
        def seconds() -> float:
            sample = time_step(lambda: operation(b), device)
            return sample.wall if sample.device is None else sample.device

        seconds()
        medians = [statistics.median(seconds() for _ in range(repeats)) for _ in range(groups)]
        return accesses * a.element_size() * numel / min(medians)

    memcpy, add = bandwidth(a.copy_, 2), bandwidth(a.add_, 3)
    return Bandwidth(memcpy, add, limit=add if device.type == "cpu" else memcpy)
