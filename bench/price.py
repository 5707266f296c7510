"""``python -m bench price``: what a step may cost at most, what it costs here, and a verdict."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from bench import console, machine, price_cpu, price_gpu, price_table, results
from bench.contenders import Skipped
from bench.price_rows import TARGETS, Cell, Verdict, judge

ROUNDS = 20


@dataclasses.dataclass
class PriceReport:
    """What ``*-price.json`` holds."""

    machine: dict[str, str | int | float | None]
    settings: dict[str, str | int]
    skipped: list[Skipped] = dataclasses.field(default_factory=list)
    rows: list[Verdict] = dataclasses.field(default_factory=list)
    cells: list[Cell] = dataclasses.field(default_factory=list)


def missing(gpu: bool | None, device: torch.device) -> str:
    """Why a row has no figure: its device is not this run's, or it was left out or impossible."""
    on_gpu = device.type == "cuda"
    if gpu is None or gpu == on_gpu:
        return "not measured"
    if gpu and torch.cuda.is_available():
        return "with --device cuda"
    return "no GPU here" if gpu else "with --device cpu"


def groups_on(device: torch.device) -> list[str]:
    """The groups of rows that a device can fill."""
    gpu = device.type == "cuda"
    return list(dict.fromkeys(t.group for t in TARGETS if t.gpu is None or t.gpu == gpu))


def run(
    groups: list[str] | None, device: torch.device, rounds: int, names: tuple[str, ...], out: Path
) -> None:
    """Measure the rows that ``device`` can fill, print the table and write it."""
    settings: dict[str, str | int] = {"device": device.type, "rounds": rounds}
    report = PriceReport(machine.describe(device), settings)
    path = out / f"{results.device_prefix(device)}-price.json"
    for group in groups_on(device):
        if groups is not None and group not in groups:
            continue
        if device.type == "cuda":
            found = list(price_gpu.measure_gpu(group, device, rounds))
        else:
            found = list(price_cpu.measure(group, rounds, names))
        cells = [item for item in found if isinstance(item, Cell)]
        report.skipped += [item for item in found if isinstance(item, Skipped)]
        report.cells += cells
        if cells:
            price_table.show_cells(group, cells)
        report.rows = [judge(t, report.cells, missing(t.gpu, device)) for t in TARGETS]
        results.write(path, report)
    price_table.show(report.rows, report.skipped)
    console.say(f"  results: {path}", style="dim")
