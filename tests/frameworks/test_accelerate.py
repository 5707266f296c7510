"""Accelerate: prepare, accumulation, clipping, schedulers, and resumed runs."""

import socket
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.scheduler import AcceleratedScheduler
from torch.multiprocessing.spawn import spawn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from conftest import Kind
from frameworks import fsdp2_run
from frameworks.comparing import OPTIONS, assert_same_bits, dataset, net, state, values


def scheduler_of(optimizer: Any) -> torch.optim.lr_scheduler.LRScheduler:
    """A learning rate that is another one after each step."""
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)


class Run:
    """A training under Accelerate: a model, an optimizer, a scheduler and the data."""

    def __init__(self, kind: Kind, precision: str = "no") -> None:
        """Prepare everything anew."""
        self.accelerator = accelerate.Accelerator(
            cpu=True, mixed_precision=precision, gradient_accumulation_steps=2
        )
        model, loader = net(), DataLoader(dataset(), batch_size=32)
        optimizer = kind.make(model.parameters(), **OPTIONS[kind.name])
        self.model, self.optimizer, self.loader, self.scheduler = self.accelerator.prepare(
            model, optimizer, loader, scheduler_of(optimizer)
        )

    def epoch(self) -> None:
        """Three steps, each on two batches."""
        for pictures, labels in self.loader:
            with self.accelerator.accumulate(self.model):
                self.accelerator.backward(cross_entropy(self.model(pictures), labels))
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), 0.5)
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()

    def tensors(self) -> list[torch.Tensor]:
        """Everything that a resumed run has to find again."""
        return [*values(self.model), *state(self.optimizer)]


def by_hand(kind: Kind, precision: str) -> tuple[list[torch.Tensor], float]:
    """The weights and state after the same epoch in plain torch, and the learning rate."""
    model = net()
    optimizer = kind.make(model.parameters(), **OPTIONS[kind.name])
    scheduler = scheduler_of(optimizer)
    for number, (pictures, labels) in enumerate(DataLoader(dataset(), batch_size=32)):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            out = model(pictures)
        (cross_entropy(out.float(), labels) / 2).backward()
        if number % 2:
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            assert norm > 0.5, "nothing is clipped"
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return [*values(model), *state(optimizer)], scheduler.get_last_lr()[0]


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_training(kind: Kind, precision: str) -> None:
    """Accumulation, clipping and the scheduler come to what they come to by hand."""
    run = Run(kind, precision)
    run.epoch()
    want, lr = by_hand(kind, precision)
    assert_same_bits(run.tensors(), want)
    assert run.optimizer.param_groups[0]["lr"] == lr < OPTIONS[kind.name]["lr"]


def test_resume(kind: Kind, tmp_path: Path) -> None:
    """A run that was saved and resumed comes to the bits of one that was not interrupted."""
    whole = Run(kind)
    whole.epoch()
    whole.accelerator.save_state(str(tmp_path))
    at_save = whole.tensors()
    whole.epoch()
    resumed = Run(kind)
    resumed.accelerator.load_state(str(tmp_path))
    assert_same_bits(resumed.tensors(), at_save)
    resumed.epoch()
    assert_same_bits(resumed.tensors(), whole.tensors())
    assert resumed.scheduler.get_last_lr() == whole.scheduler.get_last_lr()


@pytest.mark.parametrize("grad_scaling", [False, True])
def test_skipped_step(kind: Kind, grad_scaling: bool) -> None:
    """The scheduler waits while steps are skipped; with `grad_scaling` it does not know of them."""
    accelerate.Accelerator(cpu=True)
    model, (pictures, labels) = net(), dataset().tensors
    inner = kind.make(model.parameters(), grad_scaling=grad_scaling, **OPTIONS[kind.name])
    # Accelerate itself allows float16, and makes a GradScaler, on GPUs alone.
    scaler = torch.amp.GradScaler("cpu")
    optimizer = AcceleratedOptimizer(inner, scaler=scaler)
    scheduler = AcceleratedScheduler(scheduler_of(inner), optimizer)
    scaler.scale(cross_entropy(model(pictures), labels)).backward()
    next(model.parameters()).grad.fill_(float("inf"))
    before = values(model)
    optimizer.step()
    scheduler.step()
    assert_same_bits(values(model), before)
    assert optimizer.step_was_skipped != grad_scaling
    lr = OPTIONS[kind.name]["lr"]
    assert scheduler.get_last_lr() == [0.9 * lr if grad_scaling else lr]


def test_fsdp2(kind: Kind, tmp_path: Path) -> None:
    """The plugin puts DTensors in the place of the optimizer's parameters; saved and resumed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        Path(tmp_path, "port").write_text(str(free.getsockname()[1]))
    spawn(fsdp2_run.run, (str(tmp_path), kind.name), nprocs=2)
    for rank in range(2):
        sharded, went_on, resumed = torch.load(tmp_path / f"{rank}.pt")
        assert set(sharded) == {"DTensor"}
        assert_same_bits(resumed, went_on)
        for got, want in zip(went_on, fsdp2_run.alone(kind.name), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
