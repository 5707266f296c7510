"""Taking turns: optimizers step, one after the other in every round, on copies of one model."""

from __future__ import annotations

import dataclasses
import gc
import itertools
import statistics
import time

import torch
from torch import Tensor

from bench import console
from bench.contenders import Contender
from bench.gradients import CHANNEL, LAYER, VIEWS, Gradients, make_weights
from bench.harness import Kernels, Sample, profile_step, time_step
from bench.workloads import Workload

WARM_UP = 3
FEWEST_ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to measure.

    A contender that would need more than ``budget`` seconds for its rounds gets fewer, and one
    that has taken twice that stops early. On a GPU the kernel time is the median of ``profiles``
    recordings, taken in turn as well.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    outcome: str = "natural"
    rounds: int = 30
    budget: float = 6.0
    profiles: int = 1


class Lane:
    """A contender with parameters of its own, its optimizer and the samples taken so far."""

    def __init__(self, contender: Contender, weights: list[Tensor], copy: bool = True) -> None:
        """Build the optimizer on copies of ``weights``, or on themselves to save the memory."""
        self.contender = contender
        self.parameters = [
            (weight.clone() if copy else weight).requires_grad_() for weight in weights
        ]
        self.optimizer = contender.build(self.parameters)
        self.samples: list[Sample] = []
        self.kernels: Kernels | None = None
        self.rounds = 0

    def follow(self, grads: list[Tensor]) -> None:
        """Take ``grads``, which all lanes share, and forget the samples taken with others."""
        for parameter, grad in zip(self.parameters, grads, strict=True):
            parameter.grad = grad
        self.samples = []

    def warm_up(self, settings: Settings) -> None:
        """Make the state, compile what compiles late, and find how many rounds are affordable."""
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
        """Give the parameters and the optimizer's state back; the samples stay."""
        del self.optimizer, self.parameters

    def due(self, turn: int, turns: int, budget: float) -> bool:
        """Whether this lane steps in a turn: its rounds are spread evenly over all turns."""
        spent = sum(sample.wall for sample in self.samples)
        if spent > 2 * budget and len(self.samples) >= FEWEST_ROUNDS:
            return False
        return turn * self.rounds // turns != (turn + 1) * self.rounds // turns

    def median(self, kind: str) -> float | None:
        """Median of one kind of sample in milliseconds; None where it was not taken."""
        values = [getattr(sample, kind) for sample in self.samples]
        return None if None in values else statistics.median(values) * 1e3


def take_turns(lanes: list[Lane], gradients: Gradients, settings: Settings, label: str) -> None:
    """Warm all lanes up and let them step in turn; their samples are those of this call."""
    with console.progress(label, settings.rounds + len(lanes)) as advance:
        for lane in lanes:
            lane.follow(gradients.tensors)
            lane.warm_up(settings)
            advance()
        # What exists stays: then a collection between two turns takes no time.
        gc.collect()
        gc.freeze()
        turns = max(lane.rounds for lane in lanes)
        for turn in range(turns):
            gradients.next_step()
            gc.collect()
            gc.disable()  # as timeit does
            # The order moves on by one each turn, so that nobody always follows the same one.
            first = turn % len(lanes)
            for lane in lanes[first:] + lanes[:first]:
                if lane.due(turn, turns, settings.budget):
                    lane.samples.append(time_step(lane.optimizer.step, settings.device))
            gc.enable()
            advance()
        gc.unfreeze()
    profiles = [
        [profile_step(lane.optimizer.step, settings.device) for lane in lanes]
        for _ in range(settings.profiles)
    ]
    for index, lane in enumerate(lanes):
        found = [recording[index] for recording in profiles]
        known = sorted((k for k in found if k is not None), key=lambda k: k.milliseconds)
        lane.kernels = known[len(known) // 2] if known else None


def measure_batch(
    workload: Workload, batch: list[Contender], settings: Settings, label: str
) -> list[Lane]:
    """Let the contenders of one batch take turns."""
    weights = make_weights(workload, settings.device, settings.dtype)
    gradients = Gradients(workload, weights, settings.outcome)
    lanes = [Lane(contender, weights) for contender in batch]
    take_turns(lanes, gradients, settings, label)
    return lanes


def demand(outcome: str, lane: Lane) -> None:
    """See that the optimizer found in every matrix what its gradients were made for.

    Raises:
        RuntimeError: it did not, and what was timed is another case.
    """
    state = {p: int(s["view"]) for p, s in lane.optimizer.state.items() if "view" in s}
    turns = VIEWS.get(outcome)
    if turns is None:
        return
    for (weight, found), wanted in zip(state.items(), itertools.cycle(turns), strict=False):
        # Of a single row the layer is the channel, which is tried first.
        if found != (CHANNEL if wanted == LAYER and len(weight) == 1 else wanted):
            shape = tuple(weight.shape)
            raise RuntimeError(f"{lane.contender.label}, {outcome}: {shape} came out as {found}")
