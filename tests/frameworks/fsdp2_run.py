"""A training under Accelerate's FSDP2 plugin, in each of two processes; see test_accelerate."""

import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy

import adamp_fused
from frameworks.comparing import OPTIONS, dataset, net

STEPS, MAX_NORM = 4, 0.5


def batches(first: int, last: int) -> list[tuple[Tensor, Tensor]]:
    """The same in every process, so that one process alone comes to the same gradients."""
    data = dataset()
    return [
        (torch.stack([data[i][0] for i in part]), torch.stack([data[i][1] for i in part]))
        for part in (range(32 * step, 32 * step + 32) for step in range(first, last))
    ]


def whole(model: nn.Module) -> list[Tensor]:
    """All weights, whole."""
    params = list(model.parameters())
    return [(p.full_tensor() if isinstance(p, DTensor) else p).detach() for p in params]


def alone(kind: str) -> list[Tensor]:
    """The weights after the same steps of one process without a framework."""
    model = net()
    optimizer = getattr(adamp_fused, f"Fused{kind}")(model.parameters(), **OPTIONS[kind])
    for inputs, targets in batches(0, STEPS):
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
    return [param.detach() for param in model.parameters()]


class Run:
    """A model and an optimizer, prepared."""

    def __init__(self, kind: str) -> None:
        """The optimizer is made before the model is sharded, as Accelerate's users do."""
        self.accelerator = Accelerator(
            cpu=True,
            fsdp_plugin=FullyShardedDataParallelPlugin(
                fsdp_version=2, auto_wrap_policy="size_based_wrap", min_num_params=50
            ),
        )
        model = net()
        optimizer = getattr(adamp_fused, f"Fused{kind}")(model.parameters(), **OPTIONS[kind])
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)

    def train(self, first: int, last: int) -> None:
        """Some steps, clipped."""
        for inputs, targets in batches(first, last):
            self.optimizer.zero_grad()
            self.accelerator.backward(cross_entropy(self.model(inputs), targets))
            self.accelerator.clip_grad_norm_(self.model.parameters(), MAX_NORM)
            self.optimizer.step()


def run(rank: int, folder: str, kind: str) -> None:
    """Train, save, load and go on; the results go to a file."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1")
    os.environ.update(MASTER_PORT=Path(folder, "port").read_text(), ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    PartialState(cpu=True)
    # Accelerate shards on accelerators alone; the same code runs on the CPU all the same.
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    first = Run(kind)
    sharded = [type(param).__name__ for param in first.model.parameters()]
    first.train(0, 2)
    first.accelerator.save_state(f"{folder}/saved")
    first.train(2, STEPS)
    went_on: Any = whole(first.model)
    first.accelerator.load_state(f"{folder}/saved")
    first.train(2, STEPS)
    torch.save((sharded, went_on, whole(first.model)), f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
