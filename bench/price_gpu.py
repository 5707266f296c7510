"""The price table's measurements on a GPU."""

from __future__ import annotations

import dataclasses
import itertools

import torch

from bench.contenders import ADAM, SGD_, Contender, Skipped, contenders, ours
from bench.measure import Row, WorkloadResult, measure
from bench.price_cpu import Found, again, anchor_of, memory_beyond
from bench.price_rows import AGAIN, Cell
from bench.turns import Settings
from bench.workloads import WORKLOADS

NAMES = ("resnet50", "vit-b16", "gpt2-124m", "llama-1.3b")
LARGE = ("gpt2-124m", "llama-1.3b")
OUTCOMES_OF = ("resnet50", "gpt2-124m")  # with BatchNorm, and without
# The outcomes, and the option that takes each for granted.
FIXED = {"projected": ("channel",), "unprojected": ("off",), "mixed": ()}
# A step of the authors' package takes up to a second here; twenty are wanted all the same.
SECONDS = 60.0


def _members(device: torch.device, kinds: tuple[str, ...] = ()) -> list[Contender]:
    """Of each family the anchor, its second copy, ours, and ours with each fixed projection."""
    members: list[Contender] = []
    for family in (ADAM, SGD_):
        anchor = anchor_of(family, device)
        members += [anchor, again(anchor), ours(device, family)]
        members += [ours(device, family, projection=kind) for kind in kinds]
    return members


def _kernel_cells(
    group: str, name: str, where: tuple[str, str], row: Row, anchor: Row
) -> list[Cell]:
    if row.kernel_ms is None or anchor.kernel_ms is None:
        return []
    detail = f"{where[1]}kernel time"
    ratio = row.kernel_ms / anchor.kernel_ms
    return [Cell(group, name, where[0], detail, "ms", row.kernel_ms, anchor.kernel_ms, ratio)]


def cells(name: str, found: WorkloadResult) -> Found:
    """The figures of one workload that rows ask for."""
    rows = {row.contender: row for row in found.rows}
    mine = {row.family: row for row in found.rows if row.ours}
    title = found.title

    def wall(said: str, row: Row, anchor: Row) -> Cell:
        ratio = row.ms / anchor.ms
        return Cell(
            *("gpu", said, title, "wall", "ms", row.ms, anchor.ms, ratio, row.spread, row.rounds)
        )

    for family in (ADAM, SGD_):
        anchor, own = rows[family.anchor], mine[family.name]
        second = rows[f"{family.anchor}-again"]
        yield wall(AGAIN, second, anchor)
        yield from _kernel_cells("gpu", AGAIN, (title, ""), second, anchor)
        kernel = "sgdp" if family is SGD_ else "large" if name in LARGE else "kernel"
        if family is SGD_ or name != "vit-b16":
            yield from _kernel_cells("gpu", kernel, (title, ""), own, anchor)
        if name not in LARGE:
            yield wall("sgdp" if family is SGD_ else "wall", own, anchor)
        for said, count in (("launches", own.launches), ("waits", own.synchronisations)):
            if count is not None:
                yield Cell("gpu", said, title, family.title, "count", count, None, count)
    if name != "resnet50":
        return
    own, anchor = mine[ADAM.name], rows[ADAM.anchor]
    if own.kernel_ms is not None:
        yield Cell("gpu", "rate", title, "", "of copy rate", own.rate_share, 1, own.rate_share)
    if own.host_ms is not None and anchor.host_ms is not None:
        ratio = own.host_ms / anchor.host_ms
        yield Cell("gpu", "host", title, "", "ms", own.host_ms, anchor.host_ms, ratio)
    if "adamp" in rows:
        yield wall("official", own, rows["adamp"])


def outcome_cells(outcome: str, found: WorkloadResult) -> Found:
    """The kernel time of a workload whose matrices all came out as asked for.

    An option that takes the outcome for granted is held against "auto", which finds it.
    """
    for family in (ADAM, SGD_):
        anchor, second, auto, *fixed = (row for row in found.rows if row.family == family.name)
        pairs = [(AGAIN, second, anchor), (f"{family.name}, {outcome}", auto, anchor)]
        pairs += [
            (f"{family.name}, {kind}", row, auto)
            for kind, row in zip(FIXED[outcome], fixed, strict=True)
        ]
        for name, row, against in pairs:
            yield from _kernel_cells("outcomes", name, (found.title, f"{outcome}, "), row, against)


def _measure_outcomes(device: torch.device, settings: Settings) -> Found:
    for name, outcome in itertools.product(OUTCOMES_OF, FIXED):
        asked = dataclasses.replace(settings, outcome=outcome)
        found = measure(WORKLOADS[name](), _members(device, FIXED[outcome]), asked)
        yield from [found] if isinstance(found, Skipped) else outcome_cells(outcome, found)


def measure_gpu(group: str, device: torch.device, rounds: int) -> Found:
    """Everything that a group of rows needs on a GPU."""
    if group == "memory":
        torch.cuda.empty_cache()  # for the process that counts
        yield from memory_beyond(device, NAMES)
        return
    settings = Settings(device, rounds=rounds, budget=SECONDS, profiles=rounds)
    if group == "outcomes":
        yield from _measure_outcomes(device, settings)
        return
    for name in NAMES:
        official = [c for c in contenders(device)[0] if c.key == "adamp" and name == "resnet50"]
        found = measure(WORKLOADS[name](), [*_members(device), *official], settings)
        if isinstance(found, Skipped):
            yield found
        else:
            yield from cells(name, found)
