"""The Trainer of Hugging Face: both ways to hand it an optimizer, and resumed runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed
from transformers import get_linear_schedule_with_warmup as linear

import adamp_fused
from conftest import Kind
from frameworks.comparing import assert_same_bits, state, values

STEPS = 6
OPTIONS = {
    "AdamP": {"lr": 3e-3, "weight_decay": 0.1},
    "SGDP": {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3},
}


def model() -> GPT2LMHeadModel:
    """Two layers of random weights, with dropout."""
    set_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            **{"vocab_size": 31, "n_positions": 16, "n_embd": 24, "n_layer": 2, "n_head": 2},
            **{"bos_token_id": 0, "eos_token_id": 1},
        )
    )


def trainer(folder: Path, net: GPT2LMHeadModel, **options: Any) -> Trainer:
    """A short training on rows that count, which keeps a checkpoint of its third step."""
    words = (torch.arange(48)[:, None] + torch.arange(12)) % 31
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        per_device_train_batch_size=8,
        max_steps=STEPS,
        save_steps=STEPS // 2,
        logging_steps=1,
        learning_rate=OPTIONS["AdamP"]["lr"],  # for the schedulers that the Trainer makes itself
        weight_decay=0.1,
        report_to=[],
        disable_tqdm=True,
    )
    data = [{"input_ids": row, "labels": row} for row in words]
    return Trainer(model=net, args=arguments, train_dataset=data, **options)


def with_optimizer(folder: Path, kind: Kind, official: bool = False) -> Trainer:
    """A Trainer that is given an optimizer and a scheduler."""
    net = model()
    make = kind.official if official else kind.make
    optimizer = make(net.parameters(), **OPTIONS[kind.name])
    return trainer(folder, net, optimizers=(optimizer, linear(optimizer, 2, STEPS)))


def with_class(folder: Path, kind: Kind) -> Trainer:
    """A Trainer that is given a class and its options."""
    cls = getattr(adamp_fused, f"Fused{kind.name}")
    return trainer(folder, model(), optimizer_cls_and_kwargs=(cls, dict(OPTIONS[kind.name])))


def history(run: Trainer) -> list[tuple[float, float]]:
    """The loss and the learning rate of each step."""
    return [(log["loss"], log["learning_rate"]) for log in run.state.log_history if "loss" in log]


def test_follows_official(kind: Kind, tmp_path: Path) -> None:
    """The losses and weights are those of the official package's optimizer."""
    ours = with_optimizer(tmp_path / "ours", kind)
    ours.train()
    theirs = with_optimizer(tmp_path / "theirs", kind, official=True)
    theirs.train()
    torch.testing.assert_close(
        torch.tensor(history(ours)), torch.tensor(history(theirs)), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(values(ours.model), values(theirs.model), rtol=1e-3, atol=1e-4)
    assert history(ours)[-1][0] < history(ours)[0][0]


def test_class_and_options(kind: Kind, tmp_path: Path) -> None:
    """The Trainer makes groups with and without weight decay, and a scheduler for each step."""
    run = with_class(tmp_path, kind)
    before = values(run.model)
    run.train()
    optimizer = run.optimizer.optimizer
    assert type(optimizer).__name__ == f"Fused{kind.name}"
    decays = [group["weight_decay"] for group in optimizer.param_groups]
    assert decays == [0.1, 0.0] and len({lr for _, lr in history(run)}) == STEPS
    assert all(not torch.equal(a, b) for a, b in zip(before, values(run.model), strict=True))


@pytest.mark.parametrize("make", [with_optimizer, with_class])
def test_resume(kind: Kind, make: Any, tmp_path: Path) -> None:
    """From its checkpoint a run comes to the losses and the bits of the uninterrupted one."""
    whole = make(tmp_path / "whole", kind)
    whole.train()
    resumed = make(tmp_path / "resumed", kind)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{STEPS // 2}"))
    assert len(history(whole)) == STEPS
    assert history(resumed) == history(whole)
    assert_same_bits(values(resumed.model), values(whole.model))
    assert_same_bits(state(resumed.optimizer), state(whole.optimizer))
