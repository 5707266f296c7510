"""Training under torch's own ways to share a model out, beside training in one process."""

from collections import Counter
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import (
    DTensor,
    Replicate,
    Shard,
    distribute_module,
    distribute_tensor,
)
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import adamp_fused
from messages import message
from sharding import parts
from sharding.runs import counted, local

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


def rows(name: str, module: nn.Module, mesh: DeviceMesh) -> None:
    """Share out the rows of a module's own parameters, and of their gradients."""
    for key, param in list(module.named_parameters(recurse=False)):
        shared = nn.Parameter(distribute_tensor(param, mesh, [Shard(0)]))
        shared.register_hook(lambda grad: grad.redistribute(placements=[Shard(0)]))
        module.register_parameter(key, shared)


def batches(module: nn.Module, inputs: tuple[Tensor, ...], mesh: DeviceMesh) -> Tensor:
    """Each process gets its part of the batch."""
    return distribute_tensor(inputs[0], mesh, [Shard(0)])


def replicated(module: nn.Module, outputs: Any, mesh: DeviceMesh) -> Tensor:
    """Every process gets the whole result."""
    result: Tensor = outputs.redistribute(placements=[Replicate()]).to_local()
    return result


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
    if how == "DTensors":
        distribute_module(net, parts.mesh_of((4,)), rows, batches, replicated)
        return 0, 1
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


def scaled(kind: str, grad_scaling: bool) -> tuple[float, list[float]]:
    """Train with a GradScaler; in one step one process finds an infinity in its part.

    Returns:
        The largest difference of a weight from one process alone, and the scales of all steps.
    """
    cls, rank = getattr(adamp_fused, f"Fused{kind}"), dist.get_rank()
    runs = []
    for is_sharded in (False, True):
        net, part = model(), (0, 1)
        if is_sharded:
            part = share_out("FSDP2", net)
        optimizer = cls(net.parameters(), grad_scaling=grad_scaling, **OPTIONS[kind])
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        scales = []
        for step in range(6):
            inputs, targets = (x.chunk(part[1])[part[0]] for x in batch(step))
            optimizer.zero_grad()
            scaler.scale(loss_of(net, inputs, targets)).backward()
            grad = next(net.parameters()).grad
            assert grad is not None
            if step == 3 and (rank == 2 or not is_sharded):
                local(grad)[...] = float("inf")
            scaler.step(optimizer)
            scaler.update()
            scales.append(scaler.get_scale())
        runs.append((net, scales))
    (alone, scales), (net, found) = runs
    assert found == scales
    pairs = zip(alone.parameters(), net.parameters(), strict=True)
    return max((whole(got) - want).abs().max().item() for want, got in pairs), scales


def compiled() -> float:
    """A compiled step of DTensors; the largest difference from one that is not."""
    weights = []
    for compiles in (False, True):
        net = model()
        part = share_out("FSDP2", net)
        optimizer = adamp_fused.FusedAdamP(net.parameters(), **OPTIONS["AdamP"])
        if compiles:
            optimizer.step = torch.compile(optimizer.step, backend="eager")  # type: ignore
        train(net, optimizer, part, range(3))
        weights.append([whole(param) for param in net.parameters()])
    return max((a - b).abs().max().item() for a, b in zip(*weights, strict=True))


def communication() -> dict[str, int]:
    """All that a step under tensor parallelism and FSDP2 communicates, by operation."""
    net = model()
    part = share_out("TP + FSDP2", net)
    optimizer = adamp_fused.FusedAdamP(net.parameters(), **OPTIONS["AdamP"])
    train(net, optimizer, part, range(2))
    with CommDebugMode() as mode:
        optimizer.step()
    return {str(operation): count for operation, count in mode.get_comm_counts().items()}


def made_before() -> str:
    """What an optimizer says that was made before its model was sharded."""
    net = model()
    optimizer = adamp_fused.FusedAdamP(net.parameters())
    fsdp2(parts.mesh_of((4,)), net)
    inputs, targets = batch(0)
    loss_of(net, inputs, targets).backward()
    return message(optimizer.step)


HOW = (
    "FSDP2",
    "FSDP2 by columns",
    "HSDP",
    "DTensors",
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
        optimizer.zero_grad(set_to_none=step % 2 == 0)
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
