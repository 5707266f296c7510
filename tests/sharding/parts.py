"""How a test says where the parts of a tensor are, and cuts it without a collective.

Placements are words, one for each dimension of the mesh: ``R`` replicated, ``S0`` sharded on
dimension 0, ``X0`` the same as FSDP2 does behind tensor parallelism (``_StridedShard``), ``P``
partial (a gradient's).
"""

from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard


@cache
def mesh_of(shape: tuple[int, ...]) -> DeviceMesh:
    """A mesh of the first processes; every process has to call it."""
    names = tuple(f"d{i}" for i in range(len(shape)))
    ranks = torch.arange(torch.Size(shape).numel()).view(shape)
    return DeviceMesh("cpu", ranks, mesh_dim_names=names)


def is_member(mesh: DeviceMesh) -> bool:
    """Whether this process is in the mesh."""
    return mesh.get_coordinate() is not None


def placements_of(words: tuple[str, ...], mesh: DeviceMesh) -> list[Any]:
    """Placements from words; ``X0`` is cut behind those that follow it on the same dimension."""
    placements: list[Any] = []
    for i, word in enumerate(words):
        if word == "R":
            placements.append(Replicate())
        elif word == "P":
            placements.append(Partial())
        elif word[0] == "X":
            behind = [j for j in range(i + 1, len(words)) if words[j][1:] == word[1:]]
            factor = torch.Size(mesh.size(j) for j in behind).numel()
            placements.append(_StridedShard(int(word[1:]), split_factor=factor))
        else:
            placements.append(Shard(int(word[1:])))
    return placements


def part_of(whole: Tensor, mesh: DeviceMesh, placements: list[Any]) -> Tensor:
    """The part of a tensor that is here."""
    part, coordinate = whole, mesh.get_coordinate()
    assert coordinate is not None
    for i, placement in enumerate(placements):
        if isinstance(placement, Shard | _StridedShard):
            parts, _ = placement._split_tensor(part, mesh.size(i), with_padding=False)
            part = parts[coordinate[i]]
    return part.clone(memory_format=torch.contiguous_format)


def distributed(whole: Tensor, mesh: DeviceMesh, placements: list[Any]) -> DTensor:
    """The tensor with these placements; of a partial one each process has a summand."""
    part = part_of(whole, mesh, placements)
    for i, placement in enumerate(placements):
        if isinstance(placement, Partial):
            coordinate = mesh.get_coordinate()
            assert coordinate is not None
            # Summands that differ, and add up to the tensor without rounding more than once.
            weight = (coordinate[i] + 1) / sum(range(1, mesh.size(i) + 1))
            part = part * weight
    return DTensor.from_local(
        part, mesh, placements, run_check=False, shape=whole.shape, stride=whole.stride()
    )


def barrier() -> None:
    """Wait for all processes."""
    dist.barrier()
