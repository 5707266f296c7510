"""torchtitan: its containers of optimizers and schedulers, and its checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchtitan.components.optimizer import (
    LRSchedulersContainer,
    OptimizersContainer,
    ParamGroupConfig,
)

from adamp_fused import FusedAdamP, FusedSGDP
from frameworks.comparing import assert_same_bits, dataset, net, state, values

STEPS = 8
GROUPS = [
    ParamGroupConfig(
        pattern=r"bias$",
        optimizer_name="FusedSGDP",
        optimizer_kwargs={"lr": 0.02, "momentum": 0.9},
    ),
    ParamGroupConfig(
        pattern=r"^[14]\.",
        optimizer_name="FusedAdamP",
        optimizer_kwargs={"lr": 3e-3, "weight_decay": 0.0},
    ),
    ParamGroupConfig(
        pattern=r".*",
        optimizer_name="FusedAdamP",
        optimizer_kwargs={"lr": 1e-3, "weight_decay": 0.1},
    ),
]


class Container(OptimizersContainer):
    """What a user adds to train with these optimizers: their names."""

    @staticmethod
    def _resolve_optimizer_factory(name: str) -> Callable[..., torch.optim.Optimizer]:
        known = {"FusedAdamP": FusedAdamP, "FusedSGDP": FusedSGDP}
        return known.get(name) or OptimizersContainer._resolve_optimizer_factory(name)


def stages() -> list[nn.Module]:
    """Two parts of a model, as pipeline parallelism makes them; the second keeps its names."""
    whole = net()
    second = nn.Sequential()
    for index in range(3, 8):
        second.add_module(str(index), whole[index])
    return [whole[:3], second]


class Run:
    """A training as torchtitan's: parts, optimizers of each and schedulers of those."""

    def __init__(self, implementation: str = "fused") -> None:
        """Make everything anew."""
        self.parts = stages()
        config = Container.Config(param_groups=GROUPS, implementation=implementation)
        self.optimizers = Container(config, model_parts=self.parts)
        schedule = LRSchedulersContainer.Config(warmup_steps=2, decay_type="cosine")
        self.schedulers = schedule.build(optimizers=self.optimizers, training_steps=STEPS)

    def train(self, steps: int) -> None:
        """Steps on the first batches."""
        pictures, labels = dataset().tensors
        for number in range(steps):
            batch = slice(32 * number, 32 * number + 32)
            self.optimizers.zero_grad()
            first, second = self.parts
            cross_entropy(second(first(pictures[batch])), labels[batch]).backward()
            self.optimizers.step()
            self.schedulers.step()

    def saved(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "optimizer": self.optimizers.state_dict(),
            "lr_scheduler": self.schedulers.state_dict(),
        }

    def tensors(self) -> list[Tensor]:
        """All weights and all state."""
        found = [value for part in self.parts for value in values(part)]
        return found + [value for optimizer in self.optimizers for value in state(optimizer)]


def test_groups() -> None:
    """Each part has an optimizer of each class, whose groups have names and keys as torch's."""
    run = Run()
    run.train(2)
    kinds = [type(optimizer) for optimizer in run.optimizers]
    assert kinds.count(FusedAdamP) == 2 and kinds.count(FusedSGDP) == 2
    names = [n for o in run.optimizers for group in o.param_groups for n in group["param_names"]]
    assert sorted(names) == sorted(name for name, _ in net().named_parameters())
    assert all(group["fused"] for o in run.optimizers for group in o.param_groups)


def test_follows_the_schedule() -> None:
    """Warm-up and decay reach every group."""
    run, seen = Run(), []
    for _ in range(STEPS):
        seen.append([group["lr"] for o in run.optimizers for group in o.param_groups])
        run.train(1)
    lrs = torch.tensor(seen)
    full = [group["initial_lr"] for o in run.optimizers for group in o.param_groups]
    assert_same_bits([lrs[0] * 2, lrs[1]], [torch.tensor(full)] * 2)
    assert (lrs[3:].diff(dim=0) < 0).all()


@pytest.mark.parametrize("began", [False, True])
def test_resume(tmp_path: Path, began: bool) -> None:
    """From a distributed checkpoint a run comes to the bits of one that was not interrupted."""
    whole, resumed = Run(), Run()
    whole.train(3)
    dcp.save(whole.saved(), checkpoint_id=tmp_path, no_dist=True)
    if began:  # a run that has a state already
        resumed.train(1)
    # torchtitan steps an optimizer without a state once, with lr=0, so as to have one to load into.
    before = values(resumed.parts[0])
    loaded = resumed.saved()
    assert_same_bits(values(resumed.parts[0]), before)
    dcp.load(loaded, checkpoint_id=tmp_path, no_dist=True)
    resumed.optimizers.load_state_dict(loaded["optimizer"])
    resumed.schedulers.load_state_dict(loaded["lr_scheduler"])
    for part, twin in zip(resumed.parts, whole.parts, strict=True):
        part.load_state_dict(twin.state_dict())
    assert_same_bits(resumed.tensors(), whole.tensors())
    for run in (whole, resumed):
        run.train(3)
    assert_same_bits(resumed.tensors(), whole.tensors())


@pytest.mark.parametrize("implementation", ["foreach", "for-loop"])
def test_other_implementations(implementation: str) -> None:
    """An implementation that these optimizers do not have is refused, and the remedy told."""
    with pytest.raises(ValueError, match=r"fused=False must be True or None .*leave it out"):
        Run(implementation)
