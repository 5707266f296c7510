"""Alternating measurement: every round runs one step of each implementation."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import statistics
import time

import torch
from torch import Tensor

from bench.lib.gradients import CHANNEL, LAYER, VIEWS, Gradients, make_weights
from bench.lib.implementations import Implementation
from bench.lib.report import console
from bench.lib.timing import Kernels, Sample, profile_step, time_step
from bench.lib.workloads import Workload

WARM_UP = 3
FEWEST_ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        device: where the parameters live.
        dtype: of parameters and gradients.
        outcome: what the projection test finds.
        rounds: measured steps of each implementation.
        budget: seconds. An implementation that would need more for its rounds gets fewer, and one
            that has taken twice as many stops early.
        profiles: recordings of the profiler on a GPU. The kernel time is their median.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    outcome: str = "natural"
    rounds: int = 30
    budget: float = 6.0
    profiles: int = 1


class Runner:
    """An implementation with its own parameters, its optimizer and its samples so far."""

    def __init__(
        self, implementation: Implementation, weights: list[Tensor], copy: bool = True
    ) -> None:
        """Build the optimizer on copies of ``weights``, or on themselves to save memory."""
        self.implementation = implementation
        self.parameters = [
            (weight.clone() if copy else weight).requires_grad_() for weight in weights
        ]
        self.optimizer = implementation.build(self.parameters)
        self.samples: list[Sample] = []
        self.kernels: Kernels | None = None
        self.rounds = 0

    def set_gradients(self, grads: list[Tensor]) -> None:
        """Use ``grads``, which all runners share, and drop the samples taken with others."""
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = grad
        self.samples = []

    def warm_up(self, settings: Settings) -> None:
        """Create the state, compile what compiles late, and find how many rounds fit."""
        start = time.perf_counter()
        seconds: list[float] = []
        # At least two: the first may compile kernels.
        while len(seconds) < 2 or (
            len(seconds) < WARM_UP and time.perf_counter() - start < settings.budget / 2
        ):
            seconds.append(time_step(self.optimizer.step, settings.device).wall)
        affordable = max(FEWEST_ROUNDS, int(settings.budget / min(seconds)))
        self.rounds = min(settings.rounds, affordable)

    def release(self) -> None:
        """Free the parameters and the optimizer's state; the samples stay."""
        del self.optimizer, self.parameters

    def due(self, turn: int, turns: int, budget: float) -> bool:
        """Whether this runner steps in a turn. Its rounds are spread evenly over all turns."""
        spent = sum(sample.wall for sample in self.samples)
        if spent > 2 * budget and len(self.samples) >= FEWEST_ROUNDS:
            return False
        return turn * self.rounds // turns != (turn + 1) * self.rounds // turns

    @property
    def ms(self) -> float:
        """Median wall time in milliseconds."""
        return statistics.median(sample.wall for sample in self.samples) * 1e3

    def median(self, kind: str) -> float | None:
        """Median of one kind of sample in milliseconds; None where it was not taken."""
        values = [getattr(sample, kind) for sample in self.samples]
        return None if None in values else statistics.median(values) * 1e3


def alternate(runners: list[Runner], gradients: Gradients, settings: Settings, label: str) -> None:
    """Warm up all runners and let them alternate. Their samples are those of this call."""
    with console.progress(label, settings.rounds + len(runners)) as advance:
        for runner in runners:
            runner.set_gradients(gradients.tensors)
            runner.warm_up(settings)
            advance()
        # What exists is exempt: a collection between two turns then takes no time.
        gc.collect()
        gc.freeze()
        turns = max(runner.rounds for runner in runners)
        for turn in range(turns):
            gradients.next_step()
            gc.collect()
            gc.disable()  # as timeit does
            # The order rotates, so that no runner always follows the same one.
            first = turn % len(runners)
            for runner in runners[first:] + runners[:first]:
                if runner.due(turn, turns, settings.budget):
                    runner.samples.append(time_step(runner.optimizer.step, settings.device))
            gc.enable()
            advance()
        gc.unfreeze()
    profiles = [
        [profile_step(runner.optimizer.step, settings.device) for runner in runners]
        for _ in range(settings.profiles)
    ]
    for index, runner in enumerate(runners):
        found = [recording[index] for recording in profiles]
        known = sorted((k for k in found if k is not None), key=lambda k: k.milliseconds)
        runner.kernels = known[len(known) // 2] if known else None


def run_batch(
    workload: Workload, batch: list[Implementation], settings: Settings, label: str
) -> list[Runner]:
    """Measure the implementations of one batch on one workload."""
    weights = make_weights(workload, settings.device, settings.dtype)
    gradients = Gradients(workload, weights, settings.outcome)
    runners = [Runner(implementation, weights) for implementation in batch]
    alternate(runners, gradients, settings, label)
    return runners


def check_outcomes(outcome: str, runner: Runner) -> None:
    """Check that every matrix had the outcome that its gradients were made for.

    Raises:
        RuntimeError: one had another, and another case was timed.
    """
    state = {p: int(s["view"]) for p, s in runner.optimizer.state.items() if "view" in s}
    views = VIEWS.get(outcome)
    if views is None:
        return
    for (weight, found), wanted in zip(state.items(), itertools.cycle(views), strict=False):
        # A single row is both a channel and the layer, and channels are tested first.
        if found != (CHANNEL if wanted == LAYER and len(weight) == 1 else wanted):
            shape, label = tuple(weight.shape), runner.implementation.label
            raise RuntimeError(f"{label}, {outcome}: the outcome of {shape} is {found}")
