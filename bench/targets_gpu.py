"""Measurements for the performance targets on a GPU."""

from __future__ import annotations

import dataclasses
import itertools

import torch

from bench.lib import memory, stacks
from bench.lib.implementations import (
    ADAM,
    SGD_,
    Family,
    Implementation,
    Skipped,
    baseline_of,
    control_key,
    control_of,
    implementations,
    ours,
)
from bench.lib.measure import Row, WorkloadResult, measure
from bench.lib.runners import Settings
from bench.lib.targets import CONTROL, Cell, Found
from bench.lib.workloads import WORKLOADS

NAMES = ("resnet50", "vit-b16", "gpt2-124m", "llama-1.3b")
LARGE = ("gpt2-124m", "llama-1.3b")
OUTCOMES_OF = ("resnet50", "gpt2-124m")  # with BatchNorm, and without
# The outcomes, and the option that assumes each.
FIXED = {"projected": ("channel",), "unprojected": ("off",), "mixed": ()}
# A step of the authors' package takes up to a second, and all rounds are wanted.
SECONDS = 60.0


def _members(device: torch.device, kinds: tuple[str, ...] = ()) -> list[Implementation]:
    """Of each family the baseline, its A/A control, ours, and ours with each option."""
    members: list[Implementation] = []
    for family in (ADAM, SGD_):
        baseline = baseline_of(family)
        members += [baseline, control_of(baseline), ours(device, family)]
        members += [ours(device, family, projection=kind) for kind in kinds]
    return members


def _wall(name: str, found: WorkloadResult, row: Row, base: Row) -> Cell:
    where, bandwidth = (found.title, "wall"), found.bandwidth.limit
    return Cell.ratio("gpu", name, where, row.ms, base.ms, row.spread, row.rounds, bandwidth)


def _kernel(
    group: str, name: str, found: WorkloadResult, detail: str, row: Row, base: Row
) -> list[Cell]:
    if row.kernel_ms is None or base.kernel_ms is None:
        return []
    where, bandwidth = (found.title, f"{detail}kernel time"), found.bandwidth.limit
    return [Cell.ratio(group, name, where, row.kernel_ms, base.kernel_ms, bandwidth=bandwidth)]


def cells(name: str, found: WorkloadResult) -> Found:
    """The cells of the targets' group "gpu" from one workload."""
    rows = {row.implementation: row for row in found.rows}
    mine = {row.family: row for row in found.rows if row.ours}
    title = found.title
    for family in (ADAM, SGD_):
        base, own = rows[family.baseline], mine[family.name]
        control = rows[control_key(family.baseline)]
        yield _wall(CONTROL, found, control, base)
        yield from _kernel("gpu", CONTROL, found, "", control, base)
        kernel = "sgdp" if family is SGD_ else "large" if name in LARGE else "kernel"
        if family is SGD_ or name != "vit-b16":
            yield from _kernel("gpu", kernel, found, "", own, base)
        if name not in LARGE:
            yield _wall("sgdp" if family is SGD_ else "wall", found, own, base)
        for counted, count in (("launches", own.launches), ("waits", own.synchronisations)):
            if count is not None:
                yield Cell("gpu", counted, title, family.title, "count", count, None, count)
    if name != "resnet50":
        return
    own, base = mine[ADAM.name], rows[ADAM.baseline]
    if own.kernel_ms is not None:
        share = own.bandwidth_share
        yield Cell("gpu", "bandwidth", title, "", "of memcpy bandwidth", share, 1, share)
    if own.host_ms is not None and base.host_ms is not None:
        yield Cell.ratio("gpu", "host", (title, ""), own.host_ms, base.host_ms)
    if "adamp" in rows:
        yield _wall("official", found, own, rows["adamp"])


def outcome_cells(outcome: str, found: WorkloadResult) -> Found:
    """The cells of the group "outcomes" from one workload whose matrices all had one outcome.

    An option that assumes the outcome is compared with "auto", which finds it.
    """
    for family in (ADAM, SGD_):
        base, control, auto, *fixed = (row for row in found.rows if row.family == family.name)
        pairs = [(CONTROL, control, base), (f"{family.name}, {outcome}", auto, base)]
        pairs += [
            (f"{family.name}, {kind}", row, auto)
            for kind, row in zip(FIXED[outcome], fixed, strict=True)
        ]
        for name, row, other in pairs:
            yield from _kernel("outcomes", name, found, f"{outcome}, ", row, other)


def _measure_stack(group: str, family: Family, device: torch.device, settings: Settings) -> Found:
    """What stands around a step, by kernel time. The baseline of the family is measured, too."""
    for name in OUTCOMES_OF:
        for target, (mine, base) in stacks.pairs(family, device).items():
            members = [baseline_of(family), mine, base]
            found = measure(WORKLOADS[name](), members, settings)
            if isinstance(found, Skipped):
                yield found
                continue
            rows = {row.implementation: row for row in found.rows}
            own, other = rows[mine.key], rows[base.key]
            yield from _kernel(group, target, found, "", own, other)


def _measure_outcomes(device: torch.device, settings: Settings) -> Found:
    for name, outcome in itertools.product(OUTCOMES_OF, FIXED):
        asked = dataclasses.replace(settings, outcome=outcome)
        found = measure(WORKLOADS[name](), _members(device, FIXED[outcome]), asked)
        yield from [found] if isinstance(found, Skipped) else outcome_cells(outcome, found)


def measure_gpu(group: str, device: torch.device, rounds: int) -> Found:
    """All cells of a group of targets."""
    if group == "memory":
        torch.cuda.empty_cache()  # for the process that counts
        yield from memory.cells(device, NAMES)
        return
    settings = Settings(device, rounds=rounds, budget=SECONDS, profiles=rounds)
    if group.endswith("-gpu-stack"):
        family = ADAM if group.startswith("adamp") else SGD_
        yield from _measure_stack(group, family, device, settings)
        return
    if group == "outcomes":
        yield from _measure_outcomes(device, settings)
        return
    for name in NAMES:
        official = [i for i in implementations(device)[0] if i.key == "adamp"]
        others = official if name == "resnet50" else []
        found = measure(WORKLOADS[name](), [*_members(device), *others], settings)
        yield from [found] if isinstance(found, Skipped) else cells(name, found)
