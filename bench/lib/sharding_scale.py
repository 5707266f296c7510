"""What a sharded step sends, counted for models and numbers of processes that no machine here has.

The buffers are those of a step: DTensors without memory, in a process group that talks to nobody.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch.nn import Parameter

from adamp_fused.sharding.reduction import Reduction
from bench.lib.workloads import Weight, llama

TENSOR_PARALLEL = 8


@dataclasses.dataclass(frozen=True)
class Decoder:
    """A Llama with grouped queries.

    Attributes:
        title: its name.
        layers: how many.
        width: of the residual stream.
        hidden: of the feed-forward layers.
        keys: rows of the projections to keys and to values.
        vocabulary: rows of the embedding, and of the head.
    """

    title: str
    layers: int
    width: int
    hidden: int
    keys: int
    vocabulary: int

    def weights(self) -> list[tuple[Weight, int | None]]:
        """Each weight, and the dimension that tensor parallelism shares out."""
        width, hidden, keys = self.width, self.hidden, self.keys
        layer: list[tuple[Weight, int | None]] = [
            (Weight((width, width)), 0),
            (Weight((keys, width)), 0),
            (Weight((keys, width)), 0),
            (Weight((width, width)), 1),
            (Weight((hidden, width)), 0),
            (Weight((hidden, width)), 0),
            (Weight((width, hidden)), 1),
            (Weight((width,)), None),
            (Weight((width,)), None),
        ]
        ends: list[tuple[Weight, int | None]] = [(Weight((self.vocabulary, width)), 0)] * 2
        return [*layer * self.layers, *ends, (Weight((width,)), None)]


MODELS = (
    Decoder("1.3 B", 24, 2048, 5504, 2048, 32_000),
    Decoder("70 B", 80, 8192, 28_672, 1024, 128_256),
    Decoder("405 B", 126, 16_384, 53_248, 1024, 128_256),
)
#: Processes, and how many of them share out each layer.
SIZES = ((8, 1), (64, 8), (1024, 8), (16_384, 8))


@dataclasses.dataclass(frozen=True)
class Scale:
    """One model on so many processes.

    Attributes:
        model: its title.
        processes: how many.
        tensor_parallel: how many of them share out each layer; FSDP2 shares out over the others.
        tensors: how many there are.
        elements: of each process.
        sent: bytes of the collective of each process group.
    """

    model: str
    processes: int
    tensor_parallel: int
    tensors: int
    elements: int
    sent: tuple[int, ...]


def _params(model: Decoder, tensor_parallel: int) -> Iterator[Any]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard

    processes = dist.get_world_size()
    if tensor_parallel == 1:
        mesh = init_device_mesh("cpu", (processes,), mesh_dim_names=("fsdp",))
    else:
        sizes = (processes // tensor_parallel, tensor_parallel)
        mesh = init_device_mesh("cpu", sizes, mesh_dim_names=("fsdp", "tp"))
    for weight, dim in model.weights():
        shape = list(weight.shape)
        shape[0] = math.ceil(shape[0] / mesh.size(0))
        placements: list[Shard | Replicate] = [Shard(0)]
        if tensor_parallel > 1:
            placements.append(Replicate() if dim is None else Shard(dim))
            if dim is not None:
                shape[dim] = math.ceil(shape[dim] / tensor_parallel)
        whole = torch.empty(weight.shape, device="meta")
        local = torch.empty(shape, device="meta")
        yield Parameter(
            DTensor.from_local(
                local, mesh, placements, run_check=False, shape=whole.shape, stride=whole.stride()
            )
        )


def count() -> Iterator[Scale]:
    """Every model on every number of processes."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    for processes, tensor_parallel in SIZES:
        store = FakeStore()
        dist.init_process_group("fake", rank=0, world_size=processes, store=store)
        try:
            for model in MODELS:
                params = list(_params(model, tensor_parallel))
                listed = [(param, 0, str(i)) for i, param in enumerate(params)]
                groups = [{"projection": "auto", "eps": 1e-8, "delta": 0.1}]
                reduction = Reduction(listed, groups, torch.device("meta"))
                elements = sum(param.to_local().numel() for param in params)
                sent = tuple(8 * n for n in reduction.numbers_sent())
                yield Scale(model.title, processes, tensor_parallel, len(params), elements, sent)
        finally:
            dist.destroy_process_group()


def check() -> None:
    """Compare the first model with the workload of that name.

    Raises:
        ValueError: they differ.
    """
    ours = sorted(weight.shape for weight, _ in MODELS[0].weights())
    if ours != sorted(weight.shape for weight in llama().weights):
        raise ValueError("the 1.3 B model is not that of the workloads")
