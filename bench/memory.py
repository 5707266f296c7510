"""Memory that an optimizer takes, counted in a process of its own.

On a CPU that is the growth of the C heap, in which torch keeps tensors, the native plan its tables
and scratch, and, under ``PYTHONMALLOC=malloc``, Python its objects; on a GPU what torch has
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

from bench.contenders import ADAM, contenders, ours
from bench.gradients import Gradients, make_weights
from bench.workloads import WORKLOADS, Workload, uniform

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
    """A workload by name; one that has no other name is the price table's small matrix."""
    return WORKLOADS[name]() if name in WORKLOADS else CACHED


class Taken(NamedTuple):
    """Bytes: what AdamW's state tensors hold, what AdamW takes in all, and what ours takes."""

    state: int
    anchor: int
    ours: int


def _step(optimizer: Optimizer, weights: list[Tensor], outcomes: list[Gradients]) -> None:
    """Step under each outcome in turn: what one needs another may not."""
    for gradients in outcomes:
        for weight, grad in zip(weights, gradients.tensors, strict=True):
            weight.grad = grad
        for _ in range(STEPS):
            optimizer.step()


def count(name: str, device: torch.device) -> Taken:
    """What both optimizers take for a workload, one after the other."""
    anchor = next(c for c in contenders(device)[0] if c.key == ADAM.anchor)
    weights = make_weights(workload(name), device, torch.float32)
    outcomes = [Gradients(workload(name), weights, o) for o in ("projected", "unprojected")]
    for weight in weights:
        weight.requires_grad_()
    # Loads what torch loads late and starts its threads, which is nobody's state.
    _step(anchor.build(weights), weights, outcomes)
    found: list[int] = []
    for contender in (anchor, ours(device, ADAM)):
        before = in_use(device)
        optimizer = contender.build(weights)
        _step(optimizer, weights, outcomes)
        found.append(in_use(device) - before)
        if contender is anchor:
            entries = [value for state in optimizer.state.values() for value in state.values()]
            state = sum(entry.nbytes for entry in entries)
        # Optimizers refer to themselves.
        del optimizer
    return Taken(state, *found)


def in_own_process(name: str, device: torch.device) -> Taken:
    """:func:`count` in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.memory", name, device.type],
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        check=True,
    )
    return Taken(*map(int, done.stdout.split()))


if __name__ == "__main__":
    print(*count(sys.argv[1], torch.device(sys.argv[2])))
