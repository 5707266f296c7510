"""Runs that are saved and resumed by torch.distributed.checkpoint, in one process or in two.

Started by test_distributed_checkpoints.
"""

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint import DefaultLoadPlanner
from torch.distributed.checkpoint import state_dict as dcp_state
from torch.nn.parallel import DistributedDataParallel

from adamp_fused import FusedAdamP, FusedSGDP

OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "AdamP": FusedAdamP,
    "SGDP": lambda params, **options: FusedSGDP(params, momentum=0.9, **options),
    "AdamW": torch.optim.AdamW,
}
OPTIONS = {
    "nested": dcp_state.StateDictOptions(),
    "flat": dcp_state.StateDictOptions(flatten_optimizer_state_dict=True),
}


class Net(nn.Module):
    """A small network with a frozen layer, and one that no gradient reaches."""

    def __init__(self, seed: int = 3) -> None:
        """Weights of a seed."""
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.norm, self.last = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 2)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.unused = nn.Linear(3, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """All but the unused layer."""
        return self.last(self.frozen(self.norm(self.first(rows))))


class Run:
    """A model with its optimizer; under DDP where there are several processes."""

    def __init__(self, name: str, seed: int = 3, **options: Any) -> None:
        """Two groups, of which the first has a tensor for its learning rate."""
        self.model: nn.Module = Net(seed)
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        vectors = [p for p in self.model.parameters() if p.dim() == 1]
        lr = torch.tensor(0.05, dtype=torch.float64)
        groups = [
            {"params": matrices, "weight_decay": 0.1, "lr": lr},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.optimizer = OPTIMIZERS[name](groups, lr=0.02, **options)
        if dist.is_initialized():
            self.model = DistributedDataParallel(self.model, find_unused_parameters=True)
        self.steps = 0
        self.optimizer.register_step_pre_hook(self.count)

    def count(self, *_: Any) -> None:
        """Note a step, whoever makes it."""
        self.steps += 1

    def train(self, begin: int, end: int) -> "Run":
        """Steps on data that depends on their number alone."""
        for number in range(begin, end):
            self.optimizer.zero_grad()
            rows = torch.arange(24.0).reshape(4, 6).sin() + number
            self.model(rows).square().sum().backward()
            self.optimizer.step()
        self.optimizer.zero_grad()
        return self

    def saved(self, options: dcp_state.StateDictOptions) -> dict[str, Any]:
        """What a distributed checkpoint keeps."""
        model, optimizer = dcp_state.get_state_dict(self.model, self.optimizer, options=options)
        return {"model": model, "optimizer": optimizer}

    def save(self, folder: str, options: dcp_state.StateDictOptions) -> None:
        """Write a checkpoint."""
        dcp.save(self.saved(options), checkpoint_id=folder, no_dist=not dist.is_initialized())

    def load(
        self, folder: str, options: dcp_state.StateDictOptions, partial: bool = False
    ) -> "Run":
        """Read a checkpoint; ``partial``: it need not have all that is looked for."""
        saved = self.saved(options)
        dcp.load(
            saved,
            checkpoint_id=folder,
            planner=DefaultLoadPlanner(allow_partial_load=partial),
            no_dist=not dist.is_initialized(),
        )
        return self.set(saved, options)

    def set(self, saved: dict[str, Any], options: dcp_state.StateDictOptions) -> "Run":
        """Load what a checkpoint has."""
        dcp_state.set_state_dict(
            self.model,
            self.optimizer,
            model_state_dict=saved["model"],
            optim_state_dict=saved["optimizer"],
            options=options,
        )
        return self

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """The optimizer's state by the names of the parameters."""
        names = {p: name.removeprefix("module.") for name, p in self.model.named_parameters()}
        return {names[p]: state for p, state in self.optimizer.state.items() if state}


def differences(run: Run, other: Run) -> list[str]:
    """What differs in two runs by a bit: weights, state, learning rates."""
    found = [
        f"weights of {name}"
        for (name, p), q in zip(run.model.named_parameters(), other.model.parameters(), strict=True)
        if not torch.equal(p, q)
    ]
    states = run.state(), other.state()
    for name in sorted({*states[0], *states[1]}):
        one, two = (state.get(name, {}) for state in states)
        same = one.keys() == two.keys() and all(
            torch.equal(one[key], two[key]) and one[key].dtype == two[key].dtype for key in one
        )
        found += [] if same else [f"state of {name}: {one} and {two}"]
    for one, two in zip(run.optimizer.param_groups, other.optimizer.param_groups, strict=True):
        kinds = [
            (type(g["lr"]), getattr(g["lr"], "dtype", None), float(g["lr"])) for g in (one, two)
        ]
        found += [] if kinds[0] == kinds[1] else [f"lr {kinds}"]
    return found


def resumed(name: str, folder: str, options: dcp_state.StateDictOptions) -> dict[str, Any]:
    """A run with the whole state from its start, saved, resumed, and compared."""
    run = Run(name)
    run.optimizer.init_state()
    run.train(0, 3).save(folder, options)
    other = Run(name, seed=4)
    other.optimizer.init_state()
    other.load(folder, options)
    steps = other.steps
    return {"steps": steps, "differences": differences(run.train(3, 6), other.train(3, 6))}


def resumed_by_torch(name: str, folder: str, options: dcp_state.StateDictOptions) -> dict[str, Any]:
    """The same, where torch makes the state, by a step."""
    run = Run(name)
    run.saved(options)
    run.train(0, 3).save(folder, options)
    other = Run(name, seed=4).load(folder, options)
    lr = other.optimizer.param_groups[0]["lr"]
    return {
        "steps": other.steps,
        "lr": [type(lr).__name__, str(lr.dtype), str(lr.device), lr.item()],
        "differences": differences(run.train(3, 6), other.train(3, 6)),
    }


def resumed_from_lazy_state(
    name: str, folder: str, options: dcp_state.StateDictOptions
) -> dict[str, Any]:
    """The same, where the saved run made its state as gradients came: the unused have none."""
    run = Run(name).train(0, 3)
    run.save(folder, options)
    other = Run(name, seed=4)
    other.optimizer.init_state()
    other.load(folder, options, partial=True)
    steps = other.steps
    run.optimizer.init_state()  # for the comparison, at its end
    return {"steps": steps, "differences": differences(run.train(3, 6), other.train(3, 6))}


def handed_out(name: str) -> dict[str, Any]:
    """The same by way of a whole state dict on the CPU, which the first process hands out.

    Of nested ones alone: torch cannot do it with flattened ones, whatever the optimizer is.
    """
    run = Run(name)
    run.optimizer.init_state()
    run.train(0, 3)
    saved = run.saved(dcp_state.StateDictOptions(full_state_dict=True, cpu_offload=True))
    other = Run(name, seed=4)
    other.optimizer.init_state()
    other.model.load_state_dict(run.model.state_dict())
    options = dcp_state.StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    dcp_state.set_optimizer_state_dict(
        other.model, other.optimizer, copy.deepcopy(saved["optimizer"]), options=options
    )
    steps = other.steps
    return {"steps": steps, "differences": differences(run.train(3, 6), other.train(3, 6))}


WAYS = {
    "init_state": resumed,
    "torch": resumed_by_torch,
    "partial": resumed_from_lazy_state,
}


def everything(folder: str) -> dict[str, Any]:
    """What this process sees, by what is tried."""
    results: dict[str, Any] = {}
    for name in ("AdamP", "SGDP"):
        for flat, options in OPTIONS.items():
            for way, resume in WAYS.items():
                key = f"{name} {flat} {way}"
                results[key] = resume(name, f"{folder}/{key}", options)
        if dist.is_initialized():
            results[f"{name} handed out"] = handed_out(name)
    return results


def run(rank: int, folder: str) -> None:
    """Everything, in one process of two; the results go to a file."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        Path(folder, f"{rank}.json").write_text(json.dumps(everything(folder)))
        dist.barrier()  # nobody leaves while the other still talks to it
    finally:
        # Else an error would end in an abort of gloo's threads, which hides it.
        dist.destroy_process_group()
