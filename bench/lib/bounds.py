"""The least that a figure can be: the bytes of a step at the memory's bandwidth."""

from __future__ import annotations

from bench.lib.bytes import layer_wise, one_pass
from bench.lib.implementations import ADAM, SGD_
from bench.lib.targets import Cell, Target
from bench.lib.workloads import WORKLOADS

#: Targets whose time is not the memory's: in cache, on the host, or a count.
UNBOUND = ("small", "cached", "adversary", "memory")
UNBOUND_NAMES = (
    *("bandwidth", "host", "launches", "waits", "channel", "off"),
    *("skipped", "compiled", "replayed"),
)

NUMEL = {workload.title: workload.numel for workload in (make() for make in WORKLOADS.values())}
"""Title of a workload: its number of parameters."""


def _bytes(states: int, name: str) -> float:
    """Of one float32 parameter in a step; mixed: every third step is layer-wise."""
    one, layer = one_pass(states).total, layer_wise(states).total
    if name == "clipped":
        one += 1  # the gradient, which the norm needs before the first update
    return 4 * ((2 * one + layer) / 3 if name == "mixed" else one)


def bound_of(target: Target, cell: Cell) -> float | None:
    """The least figure of a cell; None where memory does not bound it or was not measured."""
    name = target.name.split(", ")[-1]
    if target.group in UNBOUND or name in UNBOUND_NAMES:
        return None
    if cell.bandwidth is None or not cell.baseline or cell.workload not in NUMEL:
        return None
    family = SGD_ if "SGDP" in target.case else ADAM
    moved = NUMEL[cell.workload] * _bytes(family.states, name)
    return 1e3 * moved / cell.bandwidth / cell.baseline
