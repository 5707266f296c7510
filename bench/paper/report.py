"""Content of ``paper.json``, and how it is read and written."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from bench.paper.experiment import Experiment, Gate, Record
from bench.paper.registry import EXPERIMENTS

FILE = "paper.json"

Report = dict[str, Any]

# Numbers, and pairs of numbers, of a list on one line.
_NUMBERS = re.compile(r"\[\s+((?:-?[\d.]+(?:e[-+]?\d+)?,?\s+)+)\]")


def outcome(
    experiment: Experiment,
    records: list[Record],
    seconds: float,
    machine: dict[str, str | int | float | None],
) -> Report:
    """One experiment as the report has it: gates, and all records.

    ``seconds``: of one core.
    """
    gates = experiment.gates(records)
    return {
        "name": experiment.name,
        "passed": all(gate.passed for gate in gates),
        "seconds": round(seconds, 1),
        "machine": machine,
        "gates": [dataclasses.asdict(gate) | {"passed": gate.passed} for gate in gates],
        "records": records,
    }


def judge(report: Report) -> None:
    """Compute the gates of every experiment anew from its records."""
    for entry in report["experiments"]:
        experiment = EXPERIMENTS[entry["name"]]
        entry |= outcome(experiment, entry["records"], entry["seconds"], entry["machine"])


def gates_of(entry: Report) -> list[Gate]:
    """The gates that an entry holds."""
    names = [field.name for field in dataclasses.fields(Gate)]
    return [Gate(**{name: gate[name] for name in names}) for gate in entry["gates"]]


def read(folder: Path) -> Report | None:
    """The report in a folder, or None where there is none."""
    path = folder / FILE
    if not path.exists():
        return None
    report: Report = json.loads(path.read_text(encoding="utf-8"))
    return report


def write(report: Report, folder: Path) -> Path:
    """Write the report, whole or not at all; a list of numbers takes one line."""
    text = json.dumps(report, indent=1, ensure_ascii=False)
    text = _NUMBERS.sub(lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"
    path = folder / FILE
    partial = path.with_suffix(".tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def merge(report: Report, old: Report | None, order: list[str]) -> Report:
    """``report`` with the experiments of an older one of the same form that it lacks."""
    entries = {entry["name"]: entry for entry in report["experiments"]}
    if old is not None and old["settings"] == report["settings"]:
        entries = {entry["name"]: entry for entry in old["experiments"]} | entries
    return report | {"experiments": [entries[name] for name in order if name in entries]}
