"""What a step should cost on large GPUs: assumptions and formulas. Nothing here is measured."""

from __future__ import annotations

import dataclasses
import math

from bench.contenders import ADAM, SGD_, Family
from bench.workloads import Workload


@dataclasses.dataclass(frozen=True)
class Gpu:
    """What is assumed of a GPU: bytes per second of a large copy, caches and shared memory."""

    name: str
    copy_rate: float
    l2_bytes: float
    processors: int = 132
    shared_bytes: int = 227 * 1024

    @property
    def on_chip(self) -> int:
        """Shared memory of all processors."""
        return self.processors * self.shared_bytes


GPUS = (Gpu("H100", 3.0e12, 50e6), Gpu("H200", 4.3e12, 50e6))

RAMP = 3e-6
"""Seconds that a kernel takes to fill and to drain the GPU, beside its bytes."""

DECISION = 2e-6
"""Seconds that our one kernel takes for its tickets and for the last tensor's decision."""

L2_SPEED = 2.0
"""How many times faster than memory the L2 is, for a step whose data stay there."""

HOST_PER_TENSOR = 3e-6
"""Seconds of Python and C++ per tensor in a fused optimizer of torch."""

HOST_PER_LAUNCH = 5e-6
"""Seconds until a launch has been handed over."""

HOST_OURS = 20e-6
"""Seconds of our step() on the host, without its launch and its tensors."""

HOST_OURS_PER_TENSOR = 0.1e-6
"""Seconds for fetching one gradient's address in C++."""

MISS = 0.02
"""Share of a transformer's tensors that are decided otherwise than foreseen in a step."""

CHUNK, MOST_CHUNKS = 65536, 320
MOST_TENSORS = {ADAM.name: 36, SGD_.name: 48}
"""What one launch of torch's fused optimizers takes (ATen/native/cuda/MultiTensorApply.cuh)."""


def step_launches(workload: Workload, family: Family) -> int:
    """Launches of torch's fused optimizer for the update itself."""
    launches = tensors = chunks = 0
    for weight in workload.weights:
        tensors += 1
        left = math.ceil(math.prod(weight.shape) / CHUNK)
        while left:
            taken = min(left, MOST_CHUNKS - chunks)
            left, chunks = left - taken, chunks + taken
            if chunks == MOST_CHUNKS or (not left and tensors == MOST_TENSORS[family.name]):
                launches, chunks = launches + 1, 0
                tensors = 1 if left else 0
    return launches + bool(chunks)


def count_launches(workload: Workload, family: Family) -> int:
    """AdamW also counts its steps, one number a tensor, up to 110 tensors in a launch."""
    return math.ceil(len(workload.weights) / 110) if family is ADAM else 0


def step_bytes(numel: int, family: Family) -> int:
    """float32: 28 bytes a parameter for AdamP and AdamW, 20 for SGDP and SGD."""
    return 4 * numel * (3 + 2 * family.states)


def resident_bytes(numel: int, family: Family) -> int:
    """What a step touches: p, g and the states."""
    return 4 * numel * (2 + family.states)


def missed_bytes(workload: Workload, family: Family) -> float:
    """Read and written again after a miss: p, and what u is made of is read."""
    foreseen = sum(math.prod(w.shape) for w in workload.weights if w.scale_invariant)
    return MISS * 4 * (workload.numel - foreseen) * (2 + family.states)


def memory_seconds(moved: float, workload: Workload, family: Family, gpu: Gpu) -> float:
    """Time of so many bytes, from the L2 where everything that a step touches stays there."""
    fits = resident_bytes(workload.numel, family) <= gpu.l2_bytes
    return moved / (gpu.copy_rate * (L2_SPEED if fits else 1))


def on_chip_share(workload: Workload, gpu: Gpu) -> float:
    """Share of the parameters in matrices whose p and u, 8 bytes, fit in shared memory."""
    sizes = [math.prod(w.shape) for w in workload.weights if len(w.shape) > 1]
    return sum(size for size in sizes if 8 * size <= gpu.on_chip) / max(1, sum(sizes))


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Seconds of one step: torch's fused optimizer and ours, kernels and until all is done."""

    bound: float
    anchor: float
    ours: float
    anchor_wall: float
    ours_wall: float


def predict(workload: Workload, family: Family, gpu: Gpu) -> Prediction:
    """The formulas of the paper, in the order in which it explains them."""
    tensors = len(workload.weights)
    moved = step_bytes(workload.numel, family)
    bound = memory_seconds(moved, workload, family, gpu)
    launches = step_launches(workload, family)
    counts = count_launches(workload, family)
    anchor = bound + (launches + counts) * RAMP
    repaired = memory_seconds(missed_bytes(workload, family), workload, family, gpu)
    ours = bound + repaired + RAMP + DECISION
    anchor_host = tensors * HOST_PER_TENSOR + (launches + counts) * HOST_PER_LAUNCH
    ours_host = HOST_OURS + tensors * HOST_OURS_PER_TENSOR + HOST_PER_LAUNCH
    # The device starts with the first launch, so the host's time before it is not hidden.
    before = tensors * HOST_PER_TENSOR + HOST_PER_LAUNCH
    anchor_wall = max(anchor_host, before + anchor)
    return Prediction(bound, anchor, ours, anchor_wall, ours_host + ours)
