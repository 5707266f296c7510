"""``python -m bench targets``: performance targets, the cost of a step here, and a verdict."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from bench import targets_cpu, targets_gpu
from bench.lib import machine
from bench.lib.implementations import Skipped
from bench.lib.report import console, files, target_table
from bench.lib.targets import TARGETS, Cell, judge

ROUNDS = 20


@dataclasses.dataclass
class TargetsReport:
    """Content of ``*-targets.json``."""

    machine: dict[str, str | int | float | None]
    settings: dict[str, str | int]
    skipped: list[Skipped] = dataclasses.field(default_factory=list)
    cells: list[Cell] = dataclasses.field(default_factory=list)


def missing(gpu: bool | None, device: torch.device) -> str:
    """Why a target has no figure: another device, or it was left out or impossible."""
    on_gpu = device.type == "cuda"
    if gpu is None or gpu == on_gpu:
        return "not measured"
    if gpu and torch.cuda.is_available():
        return "with --device cuda"
    return "no GPU here" if gpu else "with --device cpu"


def run(
    groups: list[str] | None, device: torch.device, rounds: int, names: tuple[str, ...], out: Path
) -> None:
    """Measure the targets of ``device``, print the table and write the report."""
    settings: dict[str, str | int] = {"device": device.type, "rounds": rounds}
    report = TargetsReport(machine.describe(device), settings)
    path = out / f"{files.device_prefix(device)}-targets.json"
    gpu = device.type == "cuda"
    for group in dict.fromkeys(t.group for t in TARGETS if t.applies_to(gpu)):
        if groups is not None and group not in groups:
            continue
        if gpu:
            found = list(targets_gpu.measure_gpu(group, device, rounds))
        else:
            found = list(targets_cpu.measure_cpu(group, rounds, names))
        cells = [item for item in found if isinstance(item, Cell)]
        report.skipped += [item for item in found if isinstance(item, Skipped)]
        report.cells += cells
        if cells:
            target_table.show_cells(group, cells)
        files.write(path, report)
    rows = [judge(target, report.cells, missing(target.gpu, device)) for target in TARGETS]
    target_table.show(rows, report.skipped)
    console.say(f"  results: {path}", style="dim")
