"""Training under torch's own ways to share a model out, beside training in one process."""

from collections import Counter
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import adamp_fused
from sharding import parts
from sharding.runs import counted

OPTIONS: dict[str, dict[str, Any]] = {
    "AdamP": {"lr": 1e-2, "weight_decay": 0.1},
    "SGDP": {"lr": 1e-2, "weight_decay": 0.1, "momentum": 0.9},
}
STEPS = 20
#: Of layers, between them, of the head (which has fewer rows than there are processes), of a batch.
WIDTH, INNER, OUT, BATCH = 8, 12, 3, 8


class Block(nn.Module):
    """A layer in front of a norm, so that it is projected, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, INNER)
        self.inner = nn.LayerNorm(INNER)
        self.down = nn.Linear(INNER, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """A residual block."""
        residual: Tensor = x + self.down(self.inner(self.up(self.norm(x))).relu())
        return residual


def model() -> nn.Module:
    """Two blocks and a head of uneven size, the same in every process."""
    torch.manual_seed(5)
    return nn.Sequential(Block(), Block(), nn.Linear(WIDTH, OUT)).double()


def batch(step: int) -> tuple[Tensor, Tensor]:
    """The data of a step, the same in every process."""
    rng = torch.Generator().manual_seed(step)
    inputs = torch.randn(BATCH, 4, WIDTH, generator=rng, dtype=torch.float64)
    return inputs, torch.randn(BATCH, 4, OUT, generator=rng, dtype=torch.float64)


def loss_of(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squares."""
    return (net(inputs) - targets).square().mean()


def fsdp2(mesh: DeviceMesh, net: nn.Module, **options: Any) -> None:
    """Each block by itself, then the rest."""
    for block in list(net.children())[:2]:
        fully_shard(block, mesh=mesh, **options)
    fully_shard(net, mesh=mesh, **options)


def by_columns(param: nn.Parameter) -> Shard:
    """Another dimension than FSDP2's own choice, where it divides evenly, as FSDP2 requires."""
    return Shard(1 if param.dim() > 1 and param.shape[1] % 4 == 0 else 0)


def tensor_parallel(mesh: DeviceMesh, net: nn.Module) -> None:
    """The two layers of each block, and nothing else."""
    for block in list(net.children())[:2]:
        plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
        block.inner = nn.Identity()
        parallelize_module(block, mesh, plan)


def sequence_parallel(mesh: DeviceMesh, net: nn.Module) -> None:
    """Norms on parts of the sequence: their gradients are partial."""
    for block in list(net.children())[:2]:
        distribute_module(block.norm, mesh, input_fn=in_parts)
        plan = {"up": ColwiseParallel(input_layouts=Shard(1)), "down": RowwiseParallel()}
        block.inner = nn.Identity()
        parallelize_module(block, mesh, plan)


def in_parts(module: nn.Module, inputs: tuple[Tensor, ...], mesh: DeviceMesh) -> Tensor:
    """Each process gets its part of the sequence."""
    return DTensor.from_local(inputs[0], mesh, [Replicate()]).redistribute(placements=[Shard(1)])


def share_out(how: str, net: nn.Module) -> tuple[int, int]:
    """Share a model out over all processes; the process's part of the data, of how many."""
    rank = dist.get_rank()
    if how == "FSDP2":
        fsdp2(parts.mesh_of((4,)), net)
        return rank, 4
    if how == "FSDP2 by columns":
        fsdp2(parts.mesh_of((4,)), net, shard_placement_fn=by_columns)
        return rank, 4
    mesh = parts.mesh_of((2, 2))
    if how == "HSDP":
        fsdp2(mesh, net)
        return rank, 4
    if how == "TP":
        tensor_parallel(parts.mesh_of((4,)), net)
        return 0, 1
    if how == "TP, sequence parallel":
        sequence_parallel(parts.mesh_of((4,)), net)
        return 0, 1
    assert how == "TP + FSDP2"
    tensor_parallel(mesh["d1"], net)
    fsdp2(mesh["d0"], net)
    return rank // 2, 2


def made_before() -> str:
    """What an optimizer says that was made before its model was sharded."""
    net = model()
    optimizer = adamp_fused.FusedAdamP(net.parameters())
    fsdp2(parts.mesh_of((4,)), net)
    inputs, targets = batch(0)
    loss_of(net, inputs, targets).backward()
    try:
        optimizer.step()
    except ValueError as error:
        return str(error)
    return ""


HOW = (
    "FSDP2",
    "FSDP2 by columns",
    "HSDP",
    "TP",
    "TP, sequence parallel",
    "TP + FSDP2",
)


def whole(tensor: Tensor) -> Tensor:
    """All of a DTensor."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def prepared(how: str) -> nn.Module:
    """The model in one process, as the other is when it is shared out."""
    net = model()
    if how.startswith("TP"):
        for block in list(net.children())[:2]:
            block.inner = nn.Identity()
    return net


def train(
    net: nn.Module, optimizer: Any, part: tuple[int, int], steps: range, clip: bool = False
) -> int:
    """Train on the process's part of the data; the most collectives of a step and group."""
    (index, of), most = part, 0
    for step in steps:
        inputs, targets = (x.chunk(of)[index] for x in batch(step))
        optimizer.zero_grad()
        loss_of(net, inputs, targets).backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        with counted() as calls:
            optimizer.step()
        most = max([most, *Counter(id(group) for group, _ in calls).values()])
    return most


def compare(kind: str, how: str, backend: str) -> tuple[float, int, int]:
    """The largest difference of a weight, how many outcomes differ, and the collectives."""
    cls = getattr(adamp_fused, f"Fused{kind}")
    alone = prepared(how)
    reference = cls(alone.parameters(), backend=backend, **OPTIONS[kind])
    train(alone, reference, (0, 1), range(STEPS))
    net = model()
    part = share_out(how, net)
    optimizer = cls(net.parameters(), backend=backend, **OPTIONS[kind])
    collectives = train(net, optimizer, part, range(STEPS))
    difference, wrong = 0.0, 0
    for want, got in zip(alone.parameters(), net.parameters(), strict=True):
        difference = max(difference, (whole(got) - want).abs().max().item())
        views = [int(o.state[p].get("view", -1)) for o, p in ((reference, want), (optimizer, got))]
        wrong += views[0] != views[1]
    return difference, wrong, collectives
