"""Runs that are saved on one number of processes and resumed on another."""

from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

import adamp_fused
from sharding import models, parts


class Unused(nn.Module):
    """The model, with a layer that is frozen and one that no step uses."""

    def __init__(self) -> None:
        super().__init__()
        self.used = models.model()
        self.frozen = nn.Linear(4, 4).double().requires_grad_(False)
        self.unused = nn.Linear(5, 4).double()

    def forward(self, x: Tensor) -> Tensor:
        """The used part."""
        result: Tensor = self.used(x)
        return result


class Run:
    """A model on the first ``size`` processes, and its optimizer."""

    def __init__(self, kind: str, size: int, how: str, dtype: torch.dtype, init: bool) -> None:
        self.mesh = parts.mesh_of((size,))
        self.size, self.net = size, Unused().to(dtype)
        if how == "FSDP2" and parts.is_member(self.mesh):
            models.fsdp2(self.mesh, self.net.used)
            models.fully_shard(self.net, mesh=self.mesh)
        cls = getattr(adamp_fused, f"Fused{kind}")
        used = {id(p) for p in self.net.used.parameters()}
        groups = [
            {"params": [p for p in self.net.parameters() if id(p) in used]},
            {"params": [p for p in self.net.parameters() if id(p) not in used], "lr": 0.5},
        ]
        self.optimizer = cls(groups, **models.OPTIONS[kind])
        if init and parts.is_member(self.mesh):
            self.optimizer.init_state()

    def train(self, steps: range) -> None:
        """Each process on its part of the data."""
        dtype = next(self.net.parameters()).dtype
        for step in steps:
            inputs, targets = models.batch(step)
            rank = dist.get_rank()
            given = (
                inputs.chunk(self.size)[rank].to(dtype),
                targets.chunk(self.size)[rank].to(dtype),
            )
            self.optimizer.zero_grad()
            models.loss_of(self.net, *given).backward()
            self.optimizer.step()

    def _dicts(self, flat: bool) -> dict[str, Any]:
        options = StateDictOptions(flatten_optimizer_state_dict=flat)
        optimizer = get_optimizer_state_dict(self.net, self.optimizer, options=options)
        return {"model": get_model_state_dict(self.net), "optimizer": optimizer}

    def save(self, folder: str, flat: bool) -> None:
        """Write a distributed checkpoint."""
        group = self.mesh.get_group()
        dcp.save(self._dicts(flat), checkpoint_id=folder, process_group=group)

    def load(self, folder: str, flat: bool) -> None:
        """Read one."""
        dicts, options = self._dicts(flat), StateDictOptions(flatten_optimizer_state_dict=flat)
        # A parameter that no step has used has no state in the checkpoint, unless it was made.
        planner = dcp.DefaultLoadPlanner(allow_partial_load=True)
        group = self.mesh.get_group()
        dcp.load(dicts, checkpoint_id=folder, planner=planner, process_group=group)
        set_model_state_dict(self.net, dicts["model"])
        set_optimizer_state_dict(self.net, self.optimizer, dicts["optimizer"], options=options)

    def values(self) -> dict[str, Tensor]:
        """All weights, moments, counts and outcomes, whole."""
        found = {}
        for name, param in self.net.named_parameters():
            found[name] = models.whole(param).clone()
            for key, value in self.optimizer.state.get(param, {}).items():
                found[f"{name}.{key}"] = models.whole(value).clone()
        return found


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, float]:
    """Of all values of a kind of state that ``one`` has; infinite where the other has none.

    Where torch makes the state by a step, the other has that of an unused layer, too.
    """
    found: dict[str, float] = {}
    for name in one:
        last = name.rpartition(".")[2]
        kind = last if last in ("step", "view", "exp_avg", "exp_avg_sq", "momentum") else "weight"
        by = float("inf")
        if name in other:
            by = (one[name].double() - other[name].double()).abs().max().item()
        found[kind] = max(found.get(kind, 0.0), by)
    return found


def reshuffle(
    kind: str, folder: str, flat: bool, init: bool, dtype: torch.dtype
) -> dict[str, dict[str, float]] | None:
    """Save on 4, resume on 2, save there, resume on 4; beside the run that goes on.

    Args:
        kind: the official class's name.
        folder: of the checkpoints.
        flat: the optimizer's state as one flat dictionary.
        init: the optimizers make their states beforehand, so that torch need not step.
        dtype: of the model.

    Returns:
        Of the run that was only moved the differences from the one that went on; of the run that
        stepped on two processes those, too.
    """
    went_on = Run(kind, 4, "FSDP2", dtype, init)
    went_on.train(range(5))
    went_on.save(f"{folder}/four", flat)
    on_two = Run(kind, 2, "FSDP2", dtype, init)
    stepped: dict[str, float] = {}
    if parts.is_member(on_two.mesh):
        on_two.load(f"{folder}/four", flat)
        on_two.save(f"{folder}/two", flat)
        on_two.train(range(5, 8))
    parts.barrier()
    moved = Run(kind, 4, "FSDP2", dtype, init)
    moved.load(f"{folder}/two", flat)
    for run in (went_on, moved):
        run.train(range(5, 8))
    ours, theirs = went_on.values(), moved.values()
    if parts.is_member(on_two.mesh):
        stepped = difference(ours, on_two.values())
    return {"moved": difference(ours, theirs), "stepped": stepped}


def to_plain(kind: str, folder: str, flat: bool) -> dict[str, float]:
    """Save on 4, and resume without sharding, each process on all of the data."""
    went_on = Run(kind, 4, "FSDP2", torch.float64, init=True)
    went_on.train(range(5))
    went_on.save(f"{folder}/plain", flat)
    plain = Run(kind, 4, "plain", torch.float64, init=True)
    plain.load(f"{folder}/plain", flat)
    return difference(went_on.values(), plain.values())
