"""One training of the study: an optimizer, its learning rate and weight decay, and a seed."""

from __future__ import annotations

import dataclasses
import math
import time

import torch
from torch import nn

from adamp_fused import FusedAdamP
from bench.study.data import Text
from bench.study.model import GPT, layer_type

ADAMW = "AdamW"
ADAMP = "AdamP"
HEAD_WISE = "AdamP head-wise"
"""Q and K always projected head by head, all else never."""

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises."""

FINAL_LR = 0.1
"""Share of the learning rate that a cosine ends at."""

SEGMENTS = 5
"""Equal parts of a training whose outcomes are counted apart."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """An optimizer on a model; what is tuned by itself."""

    optimizer: str
    qk_norm: bool


@dataclasses.dataclass(frozen=True)
class Setting:
    """All that one training depends on besides the study's settings."""

    arm: Arm
    lr: float
    weight_decay: float
    seed: int
    steps: int
    evaluations: int


@dataclasses.dataclass
class Training:
    """What came of a setting. A training that diverged has None as its validation loss.

    Attributes:
        training_loss: means over the steps between two evaluations.
        norms: by layer type the Frobenius norm of all its weights at each evaluation.
        outcomes: by layer type and part of the training the counts of none, channel, layer; only of
            weights that are tested.
    """

    setting: Setting
    validation_loss: float | None = None
    evaluated_at: list[int] = dataclasses.field(default_factory=list)
    validation: list[float] = dataclasses.field(default_factory=list)
    training_loss: list[float] = dataclasses.field(default_factory=list)
    norms: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    outcomes: dict[str, list[list[int]]] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0


def make_optimizer(model: GPT, setting: Setting) -> torch.optim.Optimizer:
    """The optimizer of a setting; weight decay is for weights of two or more dimensions."""
    chosen = setting.arm.optimizer
    matrices = {name: p for name, p in model.named_parameters() if p.dim() > 1}
    gains = [p for p in model.parameters() if p.dim() < 2]
    decayed = {"weight_decay": setting.weight_decay}
    undecayed = {"params": gains, "weight_decay": 0.0}
    if chosen == ADAMW:
        groups = [{"params": [*matrices.values()], **decayed}, undecayed]
        return torch.optim.AdamW(groups, lr=setting.lr, fused=True)
    if chosen == ADAMP:
        groups = [{"params": [*matrices.values()], **decayed}, undecayed]
        return FusedAdamP(groups, lr=setting.lr)
    if chosen == HEAD_WISE:
        invariant = [p for name, p in matrices.items() if name.endswith((".q", ".k"))]
        others = [p for name, p in matrices.items() if not name.endswith((".q", ".k"))]
        groups = [
            {"params": invariant, "projection": "channel", **decayed},
            {"params": others, "projection": "off", **decayed},
            {"projection": "off", **undecayed},
        ]
        return FusedAdamP(groups, lr=setting.lr)
    raise ValueError(f"no optimizer is called {chosen!r}: {ADAMW}, {ADAMP}, {HEAD_WISE}")


def learning_rate(setting: Setting, step: int) -> float:
    """Linear warm-up, then a cosine down to a tenth."""
    warm_up = max(1, round(WARM_UP * setting.steps))
    if step < warm_up:
        return setting.lr * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, setting.steps - warm_up)
    return setting.lr * (FINAL_LR + (1 - FINAL_LR) * 0.5 * (1 + math.cos(math.pi * progress)))


def make_model(arm: Arm, vocabulary: int, seed: int) -> GPT:
    """A model whose weights depend on the seed alone, whatever the optimizer."""
    torch.manual_seed(seed)
    return GPT(vocabulary, arm.qk_norm, heads_as_rows=arm.optimizer == HEAD_WISE)


def norms(model: GPT) -> dict[str, float]:
    """Frobenius norm of all weights of each layer type."""
    squares: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        kind = layer_type(name)
        squares[kind] = squares.get(kind, 0.0) + float(parameter.detach().double().square().sum())
    return {kind: math.sqrt(total) for kind, total in squares.items()}


def train(setting: Setting, text: Text) -> Training:
    """Train, and record the losses, the norms and the outcome of every test."""
    start = time.perf_counter()
    model = make_model(setting.arm, text.vocabulary, setting.seed)
    optimizer = make_optimizer(model, setting)
    result = Training(setting)
    # Only weights whose outcome is tested have a view.
    tested: list[tuple[nn.Parameter, list[list[int]]]] = []
    if setting.arm.optimizer == ADAMP:
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                empty = [[0, 0, 0] for _ in range(SEGMENTS)]
                counts = result.outcomes.setdefault(layer_type(name), empty)
                tested.append((parameter, counts))
    every = max(1, setting.steps // setting.evaluations)
    recent: list[float] = []

    def evaluate(done: int) -> None:
        result.evaluated_at.append(done)
        result.validation.append(round(text.validation_loss(model), 6))
        for kind, norm in norms(model).items():
            result.norms.setdefault(kind, []).append(round(norm, 5))

    evaluate(0)
    for step, starts in enumerate(text.batches(setting.steps, setting.seed)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(setting, step)
        loss = text.loss(model, starts)
        recent.append(loss.item())
        if not math.isfinite(recent[-1]):
            result.seconds = round(time.perf_counter() - start, 1)
            return result
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        segment = step * SEGMENTS // setting.steps
        for parameter, counts in tested:
            counts[segment][int(optimizer.state[parameter]["view"])] += 1
        if (step + 1) % every == 0 or step + 1 == setting.steps:
            result.training_loss.append(round(sum(recent) / len(recent), 6))
            recent.clear()
            evaluate(step + 1)
    last = result.validation[-1]
    result.validation_loss = last if math.isfinite(last) else None
    result.seconds = round(time.perf_counter() - start, 1)
    return result
