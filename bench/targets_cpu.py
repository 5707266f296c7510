"""Measurements for the performance targets on a CPU."""

from __future__ import annotations

import gc
from typing import NamedTuple

import torch

from bench.lib import busy, memory, stacks
from bench.lib.bandwidth import measure_bandwidth
from bench.lib.gradients import ADVERSARY, OUTCOMES, Gradients, make_weights
from bench.lib.implementations import (
    ADAM,
    SGD_,
    Family,
    Implementation,
    Skipped,
    baseline_of,
    control_of,
    implementations,
    ours,
)
from bench.lib.runners import Runner, Settings, alternate, check_outcomes
from bench.lib.targets import CONTROL, Cell, Found
from bench.lib.timing import spread
from bench.lib.workloads import WORKLOADS, Workload

CPU = torch.device("cpu")
THREADS = (1, 2)
FIVE = ("resnet18", "resnet50", "vit-b16", "gpt2-124m", "4096x4096")
"""The workloads of the first targets."""
IN_A_STACK = ("resnet50", "gpt2-124m")

# The table asks for medians of full rounds, however slow a step is.
NO_LIMIT = 1e6
# Steps of well under a millisecond: more of them cost nothing and steady the median.
SMALL_ROUNDS = 5


class _Clock(NamedTuple):
    """Under which runners alternated.

    Attributes:
        threads: their number in words.
        bandwidth: of the memory with as many threads, in bytes per second.
    """

    threads: str
    bandwidth: float

    def cell(self, target: tuple[str, str], where: list[str], mine: Runner, base: Runner) -> Cell:
        """The times of two runners; ``target``: group and name, ``where``: workload, outcome."""
        pairs = zip(mine.samples, base.samples, strict=True)
        ratios = [own.wall / its.wall for own, its in pairs]
        workload, *detail = [*where, self.threads]
        return Cell.ratio(
            *target,
            (workload, ", ".join(detail)),
            mine.ms,
            base.ms,
            spread(ratios),
            len(ratios),
            self.bandwidth,
        )


def _alternate(
    runners: list[Runner], workload: Workload, gradients: Gradients, rounds: int, threads: int
) -> _Clock:
    """Let ``runners`` alternate on a number of threads."""
    words = f"{threads} thread{'s' if threads > 1 else ''}"
    torch.set_num_threads(threads)
    settings = Settings(CPU, rounds=rounds, budget=NO_LIMIT, profiles=0)
    alternate(runners, gradients, settings, f"{workload.title}, {words}")
    return _Clock(words, measure_bandwidth(CPU).limit)


def outcomes_of(workload: Workload) -> tuple[str, ...]:
    """The outcomes that differ on a workload. A single matrix cannot alternate."""
    matrices = sum(len(weight.shape) > 1 for weight in workload.weights)
    return tuple(outcome for outcome in OUTCOMES if outcome != "alternating" or matrices > 1)


def outcomes(group: str, family: Family, workload: Workload, rounds: int) -> Found:
    """A family on one workload: every outcome, and the options that skip the test.

    The options are compared with "auto" as in training, and each also where "auto" finds what the
    option assumes: the same update with the test and without.
    """
    weights = make_weights(workload, CPU, torch.float32)
    baseline = baseline_of(family)
    first, second, auto = members = [
        Runner(implementation, weights)
        for implementation in (baseline, control_of(baseline), ours(CPU, family))
    ]
    fixed = {
        kind: Runner(ours(CPU, family, projection=kind), weights) for kind in ("channel", "off")
    }
    assumed = {"natural": ("channel", "off"), "projected": ("channel",), "unprojected": ("off",)}
    for outcome in outcomes_of(workload):
        gradients = Gradients(workload, weights, outcome)
        others = {kind: fixed[kind] for kind in assumed.get(outcome, ())}
        for threads in THREADS:
            runners = [*members, *others.values()]
            clock = _alternate(runners, workload, gradients, rounds, threads)
            check_outcomes(outcome, auto)
            where = [workload.title, outcome]
            yield clock.cell((group, CONTROL), where, second, first)
            yield clock.cell((group, outcome), where, auto, first)
            for kind, runner in others.items():
                yield clock.cell((group, kind), where, runner, auto)


def compare(
    group: str,
    baseline: Implementation,
    workload: Workload,
    rounds: int,
    chosen: tuple[str, ...],
    threads: tuple[int, ...] = THREADS,
) -> Found:
    """FusedAdamP against one baseline, under each of the chosen outcomes."""
    weights = make_weights(workload, CPU, torch.float32)
    first, mine = runners = [Runner(each, weights) for each in (baseline, ours(CPU, ADAM))]
    for outcome in chosen:
        gradients = Gradients(workload, weights, outcome)
        for count in threads:
            clock = _alternate(runners, workload, gradients, rounds, count)
            yield clock.cell((group, "step"), [workload.title, outcome], mine, first)


def stack(group: str, family: Family, workload: Workload, rounds: int) -> Found:
    """What stands around a step, on two threads."""
    weights = make_weights(workload, CPU, torch.float32)
    gradients = Gradients(workload, weights, "natural")
    for name, pair in stacks.pairs(family, CPU).items():
        mine, base = runners = [Runner(each, weights) for each in pair]
        clock = _alternate(runners, workload, gradients, rounds, max(THREADS))
        yield clock.cell((group, name), [workload.title], mine, base)


def adversary(workload: Workload, rounds: int) -> Found:
    """Outcomes that change at every step, against a step that always takes two passes.

    That is ``projection="layer"``: it predicts nothing, and updates every row in the fix-up pass.
    """
    weights = make_weights(workload, CPU, torch.float32)
    gradients = Gradients(workload, weights, ADVERSARY)
    runners = [Runner(ours(CPU, ADAM, projection=kind), weights) for kind in ("layer", "auto")]
    for threads in THREADS:
        clock = _alternate(runners, workload, gradients, rounds, threads)
        yield clock.cell(("adversary", "step"), [workload.title], runners[1], runners[0])


def beside_a_busy_process(rounds: int) -> Found:
    """ResNet-50 on two threads and two cores, of which another process takes one."""
    if not busy.enough_cores():
        yield Skipped("busy", "needs two cores, and a system that lets a process choose them")
        return
    baseline, workload = baseline_of(ADAM), WORKLOADS["resnet50"]()
    with busy.one_of_two_cores():
        yield from compare("busy", baseline, workload, rounds, ("natural",), threads=(2,))


def official(rounds: int) -> Found:
    """ResNet-18 against the authors' package."""
    found = [each for each in implementations(CPU)[0] if each.key == "adamp"]
    if not found:
        yield Skipped("official", "not installed (pip install adamp==0.3.0)")
        return
    yield from compare("official", found[0], WORKLOADS["resnet18"](), rounds, ("natural",))


def measure_cpu(group: str, rounds: int, names: tuple[str, ...] = FIVE) -> Found:
    """All cells of a group; ``names`` are the workloads of the first targets."""
    families = {"adamp": ADAM, "sgdp": SGD_}
    small = {"small": WORKLOADS["1000x16x16"](), "cached": memory.CACHED}
    if group.removesuffix("-stack") in families and group.endswith("-stack"):
        for name in IN_A_STACK:
            yield from stack(
                group, families[group.removesuffix("-stack")], WORKLOADS[name](), rounds
            )
            gc.collect()
    elif group in families:
        for name in names:
            yield from outcomes(group, families[group], WORKLOADS[name](), rounds)
            gc.collect()  # optimizers are in reference cycles
    elif group in small:
        workload = small[group]
        baseline, more = baseline_of(ADAM), SMALL_ROUNDS * rounds
        yield from compare(group, baseline, workload, more, outcomes_of(workload))
    elif group == "busy":
        yield from beside_a_busy_process(rounds)
    elif group == "official":
        yield from official(rounds)
    elif group == "adversary":
        for name in ("resnet50", "vit-b16"):
            yield from adversary(WORKLOADS[name](), rounds)
    elif group == "memory":
        yield from memory.cells(CPU, names)
