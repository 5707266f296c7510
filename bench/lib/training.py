"""Alternating training: each optimizer trains its own copy of one model on the same batches."""

from __future__ import annotations

import copy
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from bench.lib.implementations import Implementation
from bench.lib.report import console


class Task(Protocol):
    """A model, its data in a fixed order, and a metric."""

    name: str
    title: str
    metric: str
    percent: bool
    steps: int
    evaluate_every: int
    lr: float
    warm_up: int
    weight_decay: float
    data: str

    def model(self) -> nn.Module:
        """A freshly initialised model, the same at every call."""

    def loss(self, model: nn.Module, step: int) -> Tensor:
        """The training loss on the batch of ``step``."""

    def evaluate(self, model: nn.Module) -> float:
        """The metric on held-out data."""


@dataclasses.dataclass
class Run:
    """One optimizer's training. Times are medians per step, in seconds."""

    label: str
    ours: bool
    losses: list[float] = dataclasses.field(default_factory=list)
    evaluated_at: list[int] = dataclasses.field(default_factory=list)
    metric: list[float] = dataclasses.field(default_factory=list)
    iteration_s: float = 0.0
    optimizer_s: float = 0.0
    optimizer_share: float = 0.0


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """All runs of one task."""

    name: str
    title: str
    metric: str
    percent: bool
    data: str
    parameters: int
    planned_steps: int
    steps: int
    lr: float
    warm_up: int
    weight_decay: float
    runs: list[Run]


class _Runner:
    """One optimizer with its own copy of the model and the times of its steps."""

    def __init__(self, implementation: Implementation, model: nn.Module, task: Task) -> None:
        self.model = copy.deepcopy(model)
        parameters = list(self.model.parameters())
        self.optimizer = implementation.build(
            parameters, lr=task.lr, weight_decay=task.weight_decay
        )
        self.run = Run(implementation.label, implementation.ours)
        self.times: list[tuple[float, float]] = []

    def step(self, task: Task, step: int, synchronize: Callable[[], None]) -> None:
        """One iteration: forward, backward and the optimizer's step, timed in all and by itself."""
        for group in self.optimizer.param_groups:
            group["lr"] = task.lr * min(1.0, (step + 1) / task.warm_up)
        start = time.perf_counter()
        loss = task.loss(self.model, step)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        synchronize()
        computed = time.perf_counter()
        self.optimizer.step()
        synchronize()
        end = time.perf_counter()
        self.times.append((end - start, end - computed))
        self.run.losses.append(loss.item())

    def evaluate(self, task: Task, step: int) -> None:
        """Record the metric after ``step`` iterations."""
        self.model.eval()
        with torch.no_grad():
            self.run.metric.append(task.evaluate(self.model))
        self.model.train()
        self.run.evaluated_at.append(step)

    def result(self) -> Run:
        """The run with the medians of its times."""
        self.run.iteration_s = statistics.median(whole for whole, _ in self.times)
        self.run.optimizer_s = statistics.median(part for _, part in self.times)
        self.run.optimizer_share = statistics.median(part / whole for whole, part in self.times)
        return self.run


def train(
    task: Task, found: list[Implementation], device: torch.device, limit: float
) -> TaskResult:
    """Train one task with every optimizer, alternating batch by batch, for ``limit`` seconds."""
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    model = task.model()
    runners = [_Runner(implementation, model, task) for implementation in found]
    with console.progress(task.title, task.steps) as advance:
        deadline = time.perf_counter() + limit
        for step in range(task.steps):
            last = step + 1 == task.steps or time.perf_counter() > deadline
            for runner in runners:
                runner.step(task, step, synchronize)
                if last or (step + 1) % task.evaluate_every == 0:
                    runner.evaluate(task, step + 1)
            advance()
            if last:
                break
    return TaskResult(
        name=task.name,
        title=task.title,
        metric=task.metric,
        percent=task.percent,
        data=task.data,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        planned_steps=task.steps,
        steps=step + 1,
        lr=task.lr,
        warm_up=task.warm_up,
        weight_decay=task.weight_decay,
        runs=[runner.result() for runner in runners],
    )
