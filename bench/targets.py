"""``python -m bench targets``: performance targets, the cost of a step here, and a verdict."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from bench import targets_cpu, targets_gpu
from bench.lib import machine
from bench.lib.implementations import Skipped
from bench.lib.report import console, files, target_table
from bench.lib.targets import TARGETS, Cell
from bench.lib.verdicts import verdicts

ROUNDS = 20


@dataclasses.dataclass
class TargetsReport:
    """Content of ``*-targets.json``."""

    machine: dict[str, str | int | float | None]
    settings: dict[str, str | int]
    skipped: list[Skipped] = dataclasses.field(default_factory=list)
    cells: list[Cell] = dataclasses.field(default_factory=list)


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
    target_table.show(verdicts(report.cells, gpu))
    console.finish(report.skipped, path)
