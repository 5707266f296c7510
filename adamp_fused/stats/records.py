"""The file of a run: JSON lines that are written as the run goes, and read when it may be broken.

The first line of each session of a run has what does not change (``format``, versions, the
optimizer's class and options, shapes); every other line is one record: ``step`` (counted from 1),
``optimizer`` and ``stats``, a dictionary for each parameter. JSON knows no infinity: values that
are not finite are the strings "NaN", "Infinity" and "-Infinity".
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adamp_fused._stats import OUTCOMES

#: What the statistics of a parameter are, as ``optimizer.stats()`` and the files have them.
Stats = dict[str, dict[str, Any]]

FORMAT = 1
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


@dataclass
class Run:
    """What was recorded of a run.

    Attributes:
        path: the file.
        optimizer: name of the optimizer's class.
        meta: the first line of the last session.
        records: statistics of each recorded step, steps ascending.
    """

    path: Path
    optimizer: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    records: dict[int, Stats] = field(default_factory=dict)

    @property
    def steps(self) -> list[int]:
        """The steps that were recorded, ascending."""
        return list(self.records)

    def names(self, all_parameters: bool = False) -> list[str]:
        """Parameters in the order of the model; without those known to have under 2 dimensions."""
        shapes = self.meta.get("shapes", {})
        found = dict.fromkeys(name for stats in self.records.values() for name in stats)
        ordered = [name for name in shapes if name in found]
        ordered += [name for name in found if name not in shapes]
        if all_parameters:
            return ordered
        return [name for name in ordered if len(shapes.get(name, (0, 0))) >= 2]


def as_line(record: dict[str, Any]) -> str:
    """One line of strict JSON."""
    return json.dumps(writable(record), allow_nan=False, separators=(",", ":")) + "\n"


def read(path: str | os.PathLike[str]) -> Run:
    """Read the file of a run.

    A run that was killed leaves a last line without an end, which is left out. One that was
    resumed from an earlier step records steps again: the later record holds, and what the earlier
    session recorded beyond is left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line before the last is no record, or there is no record at all.
    """
    run = Run(Path(path))
    if not run.path.is_file():
        raise FileNotFoundError(
            f"{str(path)!r} must be a file of StatsWriter and does not exist; check the path"
        )
    lines = run.path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = _checked(json.loads(line, object_hook=_restored))
        except ValueError as error:  # of JSON, and of UTF-8
            if number == len(lines):  # no end of line: the run was killed while it wrote
                continue
            raise ValueError(
                f"line {number} of {run.path} is {line[:60]!r} and must be a record of StatsWriter "
                f"({error}); remove the line, or pass a file that StatsWriter has written"
            ) from error
        run.optimizer = str(record.get("optimizer", run.optimizer))
        if "format" in record:
            run.meta = record
        else:
            step = record["step"]
            run.records = {s: stats for s, stats in run.records.items() if s < step}
            run.records[step] = record["stats"]
    if not run.records:
        raise ValueError(
            f"{run.path} has no record and must have at least one; StatsWriter writes the "
            "first one after the first step of its optimizer"
        )
    return run


def drop_unfinished_line(path: Path) -> None:
    """Cut off what a killed run left of a line, so that the next line is one.

    Raises:
        ValueError: the file is none of StatsWriter; it is left as it is.
    """
    with path.open("rb") as opened:
        first = opened.readline(4096)
    if first and not first.startswith(b'{"format":'):
        raise ValueError(
            f"path={str(path)!r} begins with {first[:40]!r} and must be a new file or one of "
            "StatsWriter, which is appended to; pass another path"
        )
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                file.truncate(start + found + 1)
                return
            end = start
        file.truncate(0)


def _checked(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError("not an object")
    if "format" in record:
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']!r}, while this version reads {FORMAT}")
        return record
    if not isinstance(record.get("step"), int) or not isinstance(record.get("stats"), dict):
        raise ValueError("without step and stats")
    return record


def writable(value: Any) -> Any:
    """``value`` with numbers that JSON does not know as strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(key): writable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [writable(item) for item in value]
    return value


def _restored(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        k: float(v) if isinstance(v, str) and v in _NOT_FINITE else v for k, v in fields.items()
    }


def margin(values: dict[str, Any]) -> float:
    """``max_cosine / bound``: below 1, every row passes the channel-wise test.

    NaN where there is no bound, and infinite where the bound is 0.
    """
    cosine, bound = values.get("max_cosine", math.nan), values.get("bound", math.nan)
    if cosine is None or bound is None:
        return math.nan
    return float(cosine / bound) if bound else math.inf


def series(run: Run, names: Iterable[str], key: str) -> list[list[float]]:
    """A number of each parameter (rows) at each recorded step (columns); NaN where there is none.

    ``key``: a key of the statistics, or "margin". Outcomes are 0 none, 1 channel, 2 layer.
    """
    rows = []
    for name in names:
        row = []
        for stats in run.records.values():
            values = stats.get(name)
            if values is None:
                row.append(math.nan)
            elif key == "margin":
                row.append(margin(values))
            elif key == "outcome":
                row.append(float(OUTCOMES.index(values[key])))
            else:
                row.append(float(values.get(key, math.nan)))
        rows.append(row)
    return rows
