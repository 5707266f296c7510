"""Memory that an optimizer takes, counted in a process of its own.

On a CPU it is the growth of the C heap, which holds torch's tensors, the native plan's tables and
scratch, and, with ``PYTHONMALLOC=malloc``, Python's objects. On a GPU it is what torch has
allocated there.
"""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from bench.lib.gradients import Gradients, make_weights
from bench.lib.implementations import ADAM, Skipped, baseline_of, ours
from bench.lib.targets import Cell, Found
from bench.lib.workloads import WORKLOADS, Workload, uniform

STEPS = 3
CACHED = uniform(1, 512, 512)


class _Mallinfo2(ctypes.Structure):
    """``struct mallinfo2`` of glibc."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def countable() -> bool:
    """Whether this system's C library counts its heap (glibc 2.33 and later)."""
    return hasattr(ctypes.CDLL(None), "mallinfo2")


def in_use(device: torch.device) -> int:
    """Bytes in use: of the C heap, or on a GPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return torch.cuda.memory_allocated(device)
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo2
    found = mallinfo2()
    # Small blocks, and those that are mapped one by one.
    return int(found.uordblks) + int(found.hblkhd)


def workload(name: str) -> Workload:
    """A workload by name; any other name is that of the small matrix."""
    return WORKLOADS[name]() if name in WORKLOADS else CACHED


class Taken(NamedTuple):
    """Bytes of AdamW's state tensors, of AdamW in all, and of FusedAdamP in all."""

    state: int
    baseline: int
    ours: int


def _step(optimizer: Optimizer, weights: list[Tensor], outcomes: list[Gradients]) -> None:
    """Step under each outcome: they may need different memory."""
    for gradients in outcomes:
        for weight, grad in zip(weights, gradients.tensors, strict=True):
            weight.grad = grad
        for _ in range(STEPS):
            optimizer.step()


def count(name: str, device: torch.device) -> Taken:
    """The bytes that both optimizers take for a workload."""
    baseline = baseline_of(ADAM)
    weights = make_weights(workload(name), device, torch.float32)
    outcomes = [Gradients(workload(name), weights, o) for o in ("projected", "unprojected")]
    for weight in weights:
        weight.requires_grad_()
    # Loads what torch loads late and starts its threads, which is not state.
    _step(baseline.build(weights), weights, outcomes)
    found: list[int] = []
    for implementation in (baseline, ours(device, ADAM)):
        before = in_use(device)
        optimizer = implementation.build(weights)
        _step(optimizer, weights, outcomes)
        found.append(in_use(device) - before)
        if implementation is baseline:
            entries = [value for state in optimizer.state.values() for value in state.values()]
            state = sum(entry.nbytes for entry in entries)
        del optimizer  # collected before the next count
    return Taken(state, *found)


def in_own_process(name: str, device: torch.device) -> Taken:
    """:func:`count` in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.lib.memory", name, device.type],
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        check=True,
    )
    return Taken(*map(int, done.stdout.split()))


def cells(device: torch.device, names: tuple[str, ...]) -> Found:
    """What FusedAdamP takes beyond AdamW, over the bytes of AdamW's state."""
    if device.type == "cpu" and not countable():
        yield Skipped("memory", "needs glibc 2.33 or later, which counts its heap")
        return
    for name in names:
        taken = in_own_process(name, device)
        figures = ("bytes", taken.ours, taken.baseline, (taken.ours - taken.baseline) / taken.state)
        yield Cell("memory", "beyond", workload(name).title, "", *figures)


if __name__ == "__main__":
    print(*count(sys.argv[1], torch.device(sys.argv[2])))
