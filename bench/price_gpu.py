"""The price table's measurements on a GPU."""

from __future__ import annotations

import torch

from bench.contenders import ADAM, SGD_, Contender, Skipped, contenders, ours
from bench.measure import Row, WorkloadResult, measure
from bench.price_cpu import Found, again, memory_beyond
from bench.price_rows import AGAIN, Cell
from bench.turns import Settings
from bench.workloads import WORKLOADS

NAMES = ("resnet50", "vit-b16", "gpt2-124m", "llama-1.3b")
LARGE = ("gpt2-124m", "llama-1.3b")
# A step of the authors' package takes up to a second here; twenty are wanted all the same.
SECONDS = 60.0


def _contenders(device: torch.device, name: str) -> list[Contender]:
    known = {contender.key: contender for contender in contenders(device)[0]}
    chosen: list[Contender] = []
    for family in (ADAM, SGD_):
        anchor = known[family.anchor]
        chosen += [anchor, again(anchor), ours(device, family)]
    return [*chosen, known["adamp"]] if name == "resnet50" and "adamp" in known else chosen


def _kernel_cells(name: str, where: tuple[str, str], row: Row, anchor: Row) -> list[Cell]:
    if row.kernel_ms is None or row.kernel_ratio is None:
        return []
    detail = f"{where[1]}kernel time"
    return [
        Cell("gpu", name, where[0], detail, "ms", row.kernel_ms, anchor.kernel_ms, row.kernel_ratio)
    ]


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
        yield from _kernel_cells(AGAIN, (title, ""), second, anchor)
        kernel = "sgdp" if family is SGD_ else "large" if name in LARGE else "kernel"
        if family is SGD_ or name != "vit-b16":
            yield from _kernel_cells(kernel, (title, ""), own, anchor)
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


def measure_gpu(group: str, device: torch.device, rounds: int) -> Found:
    """Everything that a group of rows needs on a GPU."""
    if group == "memory":
        torch.cuda.empty_cache()  # for the process that counts
        yield from memory_beyond(device, NAMES)
        return
    settings = Settings(device, rounds=rounds, budget=SECONDS, profiles=rounds)
    for name in NAMES:
        found = measure(WORKLOADS[name](), _contenders(device, name), settings)
        if isinstance(found, Skipped):
            yield found
        else:
            yield from cells(name, found)
