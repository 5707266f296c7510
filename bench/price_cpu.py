"""The price table's measurements on a CPU."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator

import torch

from bench import busy, memory
from bench.contenders import ADAM, SGD_, Contender, Family, Skipped, contenders, ours
from bench.gradients import ADVERSARY, OUTCOMES, Gradients, make_weights
from bench.harness import spread
from bench.price_rows import AGAIN, FIVE, Cell
from bench.turns import Lane, Settings, demand, take_turns
from bench.workloads import WORKLOADS, Workload

CPU = torch.device("cpu")
THREADS = (1, 2)
# The table asks for medians of full rounds, however slow a step is.
NO_LIMIT = 1e6
# Steps of well under a millisecond: more of them cost nothing and steady the median.
SMALL_ROUNDS = 5

Found = Iterator[Cell | Skipped]


def again(anchor: Contender) -> Contender:
    """A second copy of the anchor: how far it comes out from the first is the run's noise."""
    return dataclasses.replace(anchor, key=f"{anchor.key}-again", label=f"{anchor.label} again")


def anchor_of(family: Family, device: torch.device = CPU) -> Contender:
    """What a family is held against."""
    return next(c for c in contenders(device)[0] if c.key == family.anchor)


def _cell(group: str, name: str, where: tuple[str, str], lane: Lane, against: Lane) -> Cell:
    ms, base = lane.median("wall"), against.median("wall")
    assert ms is not None and base is not None  # wall time is always taken
    pairs = zip(lane.samples, against.samples, strict=True)
    rounds = [mine.wall / its.wall for mine, its in pairs]
    return Cell(group, name, *where, "ms", ms, base, ms / base, spread(rounds), len(rounds))


def _take_turns(
    lanes: list[Lane], workload: Workload, gradients: Gradients, rounds: int, threads: int
) -> str:
    """Let ``lanes`` take turns on a number of threads; returns that number in words."""
    said = f"{threads} thread{'s' if threads > 1 else ''}"
    torch.set_num_threads(threads)
    settings = Settings(CPU, rounds=rounds, budget=NO_LIMIT, profiles=0)
    take_turns(lanes, gradients, settings, f"{workload.title}, {said}")
    return said


def outcomes_of(workload: Workload) -> tuple[str, ...]:
    """The outcomes that differ on a workload: a single matrix cannot alternate."""
    matrices = sum(len(weight.shape) > 1 for weight in workload.weights)
    return tuple(outcome for outcome in OUTCOMES if outcome != "alternating" or matrices > 1)


def outcomes(group: str, family: Family, workload: Workload, rounds: int) -> Found:
    """A family on one workload: every outcome and, as in training, every kind of projection.

    The two other kinds are held against "auto" as in training, and each also where "auto" finds
    what it takes for granted: the same update with the test and without.
    """
    weights = make_weights(workload, CPU, torch.float32)
    anchor = anchor_of(family)
    first, second, auto = lanes = [
        Lane(contender, weights) for contender in (anchor, again(anchor), ours(CPU, family))
    ]
    fixed = {kind: Lane(ours(CPU, family, projection=kind), weights) for kind in ("channel", "off")}
    granted = {"natural": ("channel", "off"), "projected": ("channel",), "unprojected": ("off",)}
    for outcome in outcomes_of(workload):
        gradients = Gradients(workload, weights, outcome)
        others = {kind: fixed[kind] for kind in granted.get(outcome, ())}
        for threads in THREADS:
            turning = [*lanes, *others.values()]
            said = _take_turns(turning, workload, gradients, rounds, threads)
            demand(outcome, auto)
            where = workload.title, f"{outcome}, {said}"
            yield _cell(group, AGAIN, where, second, first)
            yield _cell(group, outcome, where, auto, first)
            for kind, lane in others.items():
                yield _cell(group, kind, where, lane, auto)


def against(
    group: str,
    anchor: Contender,
    workload: Workload,
    rounds: int,
    choices: tuple[str, ...] | None = None,
) -> Found:
    """FusedAdamP against one anchor, under each outcome of ``choices`` (None: all)."""
    weights = make_weights(workload, CPU, torch.float32)
    first, mine = lanes = [Lane(contender, weights) for contender in (anchor, ours(CPU, ADAM))]
    for outcome in choices or outcomes_of(workload):
        gradients = Gradients(workload, weights, outcome)
        for threads in (2,) if group == "busy" else THREADS:
            said = _take_turns(lanes, workload, gradients, rounds, threads)
            where = workload.title, f"{outcome}, {said}"
            yield _cell(group, "step", where, mine, first)


def adversary(workload: Workload, rounds: int) -> Found:
    """Outcomes that change at every step, against a step that always visits memory twice.

    That is ``projection="layer"``: it foresees nothing, and updates every row once all are summed.
    """
    weights = make_weights(workload, CPU, torch.float32)
    gradients = Gradients(workload, weights, ADVERSARY)
    lanes = [Lane(ours(CPU, ADAM, projection=kind), weights) for kind in ("layer", "auto")]
    for threads in THREADS:
        said = _take_turns(lanes, workload, gradients, rounds, threads)
        yield _cell("adversary", "step", (workload.title, said), lanes[1], lanes[0])


def beside_a_busy_process(rounds: int) -> Found:
    """ResNet-50 on two threads and two cores, of which another process takes one."""
    if not busy.enough_cores():
        yield Skipped("busy", "needs two cores, and a system that lets a process choose them")
        return
    with busy.one_of_two_cores():
        yield from against("busy", anchor_of(ADAM), WORKLOADS["resnet50"](), rounds, ("natural",))


def official(rounds: int) -> Found:
    """ResNet-18 against the authors' package."""
    found = [contender for contender in contenders(CPU)[0] if contender.key == "adamp"]
    if not found:
        yield Skipped("official", "not installed (pip install adamp==0.3.0)")
        return
    yield from against("official", found[0], WORKLOADS["resnet18"](), rounds, ("natural",))


def memory_beyond(device: torch.device, names: tuple[str, ...]) -> Found:
    """What FusedAdamP takes more than AdamW, over the bytes of AdamW's state."""
    if device.type == "cpu" and not memory.countable():
        yield Skipped("memory", "needs glibc 2.33 or later, which counts its heap")
        return
    for name in names:
        taken = memory.in_own_process(name, device)
        title = memory.workload(name).title
        share = (taken.ours - taken.anchor) / taken.state
        yield Cell("memory", "beyond", title, "", "bytes", taken.ours, taken.anchor, share)


def measure(group: str, rounds: int, names: tuple[str, ...] = FIVE) -> Found:
    """Everything that a group of rows needs; ``names`` are the workloads of the first rows."""
    families = {"adamp": ADAM, "sgdp": SGD_}
    if group in families:
        for name in names:
            yield from outcomes(group, families[group], WORKLOADS[name](), rounds)
            gc.collect()  # optimizers refer to themselves
    elif group == "small":
        workload = WORKLOADS["1000x16x16"]()
        yield from against(group, anchor_of(ADAM), workload, SMALL_ROUNDS * rounds)
    elif group == "cached":
        yield from against(group, anchor_of(ADAM), memory.CACHED, SMALL_ROUNDS * rounds)
    elif group == "busy":
        yield from beside_a_busy_process(rounds)
    elif group == "official":
        yield from official(rounds)
    elif group == "adversary":
        for name in ("resnet50", "vit-b16"):
            yield from adversary(WORKLOADS[name](), rounds)
    elif group == "memory":
        yield from memory_beyond(CPU, names)
