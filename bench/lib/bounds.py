"""The least that a target's figure can be: the bytes of a step at the memory's bandwidth."""

from __future__ import annotations

from bench.lib.bytes import layer_wise, one_pass
from bench.lib.implementations import ADAM, SGD_
from bench.lib.targets import Cell, Target
from bench.lib.workloads import WORKLOADS

#: Targets whose time is not the memory's: in cache, on the host, or a count.
UNBOUND = ("small", "cached", "adversary", "memory")
UNBOUND_NAMES = ("bandwidth", "host", "launches", "waits", "channel", "off")


def _bytes(states: int, mixed: bool) -> float:
    """Of one float32 parameter in a step; mixed: every third step is layer-wise."""
    one, layer = one_pass(states).total, layer_wise(states).total
    return 4 * ((2 * one + layer) / 3 if mixed else one)


def bound_of(target: Target, cells: list[Cell], bandwidth: float | None) -> float | None:
    """The highest bound of the cells with the most threads; None where memory does not bound them.

    Args:
        target: whose figures are times over those of a baseline.
        cells: its own.
        bandwidth: of the memory, in bytes per second; None where it was not measured.
    """
    names = target.name.split(", ")
    if bandwidth is None or target.group in UNBOUND or names[-1] in UNBOUND_NAMES:
        return None
    numel = {workload.title: workload.numel for workload in (make() for make in WORKLOADS.values())}
    family = SGD_ if "SGDP" in target.case else ADAM
    of_one = _bytes(family.states, names[-1] == "mixed")
    timed = [c for c in cells if c.unit == "ms" and c.workload in numel]
    most = max((cell.threads for cell in timed), default="")
    bounds = [
        1e3 * numel[cell.workload] * of_one / bandwidth / cell.baseline
        for cell in timed
        if cell.baseline and cell.threads == most
    ]
    return max(bounds, default=None)
