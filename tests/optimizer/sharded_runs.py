"""What two processes see of optimizers under FSDP1, DDP and ZeroRedundancyOptimizer.

Started by test_flattened.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy
from torch.distributed.optim import ZeroRedundancyOptimizer, _apply_optimizer_in_backward
from torch.nn.parallel import DistributedDataParallel

from adamp_fused import FusedAdamP, FusedSGDP
from messages import message

CLASSES = {"AdamP": FusedAdamP, "SGDP": FusedSGDP}
OPTIONS = {"lr": 0.05, "weight_decay": 0.1}
STEPS = 3


def net() -> nn.Module:
    """The same small network in every process; its last unit has vectors alone."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 2), nn.LayerNorm(2))


def sharded(strategy: ShardingStrategy) -> nn.Module:
    """The network under FSDP1, with the last norm as a unit of its own."""
    model = net()
    options = {"use_orig_params": True, "device_id": torch.device("cpu")}
    model[3] = FullyShardedDataParallel(model[3], sharding_strategy=strategy, **options)
    return FullyShardedDataParallel(model, sharding_strategy=strategy, **options)


def train(model: nn.Module, optimizer: Any) -> list[list[float]]:
    """A few steps on the same data in every process; give the weights."""
    for number in range(STEPS):
        optimizer.zero_grad()
        rows = torch.arange(24.0).reshape(4, 6).sin() + number
        (model(rows) * torch.tensor([1.0, -2.0])).square().sum().backward()
        optimizer.step()
    return [p.detach().flatten().tolist() for p in model.parameters()]


def wrapped(model: nn.Module, use_orig_params: bool, strategy: ShardingStrategy) -> nn.Module:
    """A model under FSDP1, as one unit."""
    return FullyShardedDataParallel(
        model,
        use_orig_params=use_orig_params,
        sharding_strategy=strategy,
        device_id=torch.device("cpu"),
    )


def made_before(cls: Any, use_orig_params: bool, strategy: ShardingStrategy) -> str:
    """An optimizer of the parameters of a model that is sharded afterwards."""
    model = net()
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() == 1]
    optimizer = cls([{"params": decay}, {"params": rest, "weight_decay": 0.0}], **OPTIONS)
    model = wrapped(model, use_orig_params, strategy)
    said = message(lambda: train(model, optimizer))
    assert not optimizer.state or not said
    return said


def wrapped_late(cls: Any) -> str:
    """An optimizer that has stepped a model which FSDP1 flattens afterwards."""
    model = net()
    optimizer = cls(model.parameters(), **OPTIONS)
    train(model, optimizer)
    optimizer.zero_grad()
    flat = wrapped(model, False, ShardingStrategy.FULL_SHARD)
    return message(lambda: train(flat, optimizer))


def beside_copies(cls: Any) -> str:
    """A model without gradients, and one like it that FSDP1 has flattened and that has them."""
    model = net()
    other = wrapped(net(), False, ShardingStrategy.NO_SHARD)
    other(torch.ones(1, 6)).sum().backward()
    return message(cls(model.parameters(), **OPTIONS).step)


class InBackward:
    """What stands for an optimizer where the backward pass makes the steps."""

    def __init__(self, cls: Any, model: nn.Module) -> None:
        """Give each parameter an optimizer of its own."""
        _apply_optimizer_in_backward(cls, model.parameters(), OPTIONS)

    def zero_grad(self) -> None:
        """Steps leave no gradients."""

    def step(self) -> None:
        """It has been made."""


def in_backward(cls: Any, before: bool, strategy: ShardingStrategy) -> Any:
    """Steps within the backward pass, asked for before or after the model is sharded."""
    model = net()
    if before:
        steps = InBackward(cls, model)
        model = wrapped(model, True, strategy)
    else:
        model = wrapped(model, True, strategy)
        steps = InBackward(cls, model)
    return train(model, steps)


def run(rank: int, folder: str) -> None:
    """Everything, in one process of two; the results go to a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        results = everything()
        Path(folder, f"{rank}.json").write_text(json.dumps(results))
        dist.barrier()  # nobody leaves while the other still talks to it
    finally:
        # Else an error would end in an abort of gloo's threads, which hides it.
        dist.destroy_process_group()


def everything() -> dict[str, Any]:
    """What this process sees, by what is tried."""
    results: dict[str, Any] = {}
    strategies = ShardingStrategy
    for name, cls in CLASSES.items():
        for strategy in (strategies.FULL_SHARD, strategies.SHARD_GRAD_OP):
            model = sharded(strategy)
            for which in ("all", "vectors"):
                named = [(n, p) for n, p in model.named_parameters()]
                params = [p for n, p in named if which == "all" or "bias" in n]
                key = f"{name} {strategy.name} {which}"
                results[key] = message(lambda p=params: cls(p, **OPTIONS))  # noqa: B023
            for before in (False, True):
                results[f"{name} {strategy.name} in backward {before}"] = message(
                    lambda b=before, s=strategy: in_backward(cls, b, s)  # noqa: B023
                )
        for strategy in (strategies.FULL_SHARD, strategies.NO_SHARD):
            flat = wrapped(net(), False, strategy)
            results[f"{name} {strategy.name} flat"] = message(
                lambda m=flat: cls(m.parameters(), **OPTIONS)  # noqa: B023
            )
            for use_orig_params in (False, True):
                key = f"{name} {strategy.name} made before {use_orig_params}"
                results[key] = made_before(cls, use_orig_params, strategy)
        results[f"{name} wrapped late"] = wrapped_late(cls)
        results[f"{name} beside copies"] = beside_copies(cls)
        for before in (False, True):
            results[f"{name} cpu NO_SHARD in backward {before}"] = in_backward(
                cls, before, strategies.NO_SHARD
            )
        for backend in ("cpu", "reference"):
            options = OPTIONS | {"backend": backend}
            whole = sharded(strategies.NO_SHARD)
            vectors = [p for p in whole.parameters() if p.dim() == 1]
            cls(vectors, **options)  # alone they look like pieces
            results[f"{name} {backend} NO_SHARD"] = train(whole, cls(whole.parameters(), **options))
            for how, wrap in {"alone": nn.Sequential, "DDP": DistributedDataParallel}.items():
                model = wrap(net())
                optimizer = cls(model.parameters(), **options)
                results[f"{name} {backend} {how}"] = train(model, optimizer)
            for views in (False, True):
                model = DistributedDataParallel(net())
                zero = ZeroRedundancyOptimizer(
                    model.parameters(), cls, parameters_as_bucket_view=views, **options
                )
                key = f"{name} {backend} ZeRO {views}"
                results[key] = train(model, zero)
                dist.barrier()
    return results
