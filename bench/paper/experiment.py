"""What an experiment is: cases that are measured, and gates computed from their records."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Record = dict[str, Any]
"""What one case measured, under the options that name the case; plain JSON."""

Case = Callable[[], Record]
"""Module-level functions and partials of them alone: cases are sent to other processes."""

Table = list[list[str]]
"""A header and rows."""


@dataclass(frozen=True)
class Settings:
    """How experiments are run.

    Attributes:
        quick: fewer seeds and steps; the gates are the same.
        backend: of the optimizers of this package.
    """

    quick: bool = False
    backend: str = "cpu"

    @property
    def seeds(self) -> range:
        """Seeds of the initial weights and of the order of the batches."""
        return range(3 if self.quick else 5)


@dataclass(frozen=True)
class Gate:
    """A pass mark and the value that it is held to; a NaN never passes.

    Attributes:
        what: the value in words.
        relation: ``"<="``, ``"<"``, ``">"`` or ``">="``.
    """

    what: str
    value: float
    relation: str
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the value keeps to the pass mark."""
        if not math.isfinite(self.value):
            return False
        if self.relation == "<=":
            return self.value <= self.limit
        if self.relation == "<":
            return self.value < self.limit
        if self.relation == ">":
            return self.value > self.limit
        if self.relation == ">=":
            return self.value >= self.limit
        raise ValueError(f"relation {self.relation!r} is none of <=, <, >, >=")


@dataclass(frozen=True)
class Experiment:
    """One statement of the paper.

    Attributes:
        name: of the command line.
        title: heading of its section in docs/paper.md.
        section: where in the paper the statement is.
        statement: what the paper says.
        setup: what is run here.
        mark: all pass marks in words.
        cases: what is to be measured.
        gates: the pass marks, from the records alone.
        table: what is published, from the records alone.
        remark: what a reader has to know to judge the outcome.
        picture: file in docs/images, and its alternative text.
        alone: no other case runs meanwhile, because it is timed.
    """

    name: str
    title: str
    section: str
    statement: str
    setup: str
    mark: str
    cases: Callable[[Settings], list[Case]]
    gates: Callable[[list[Record]], list[Gate]]
    table: Callable[[list[Record]], Table]
    remark: str = ""
    picture: tuple[str, str] | None = None
    alone: bool = False


def select(records: list[Record], **case: Any) -> list[Record]:
    """The records of the cases with these options."""
    return [
        record
        for record in records
        if all(record[option] == value for option, value in case.items())
    ]


def values(records: list[Record], key: str, **case: Any) -> list[float]:
    """One measured value of each seed.

    Raises:
        ValueError: no record has these options.
    """
    found = [float(record[key]) for record in select(records, **case)]
    if not found:
        raise ValueError(f"no record has {case}")
    return found


def mean(records: list[Record], key: str, **case: Any) -> float:
    """Mean over seeds."""
    return statistics.fmean(values(records, key, **case))


def pooled_deviation(first: Sequence[float], second: Sequence[float]) -> float:
    """Standard deviation over seeds, of two optimizers together."""
    variances = [statistics.variance(sample) for sample in (first, second)]
    return math.sqrt(statistics.fmean(variances))


def deviations_apart(first: Sequence[float], second: Sequence[float]) -> float:
    """Difference of two means, ``first - second``, in pooled standard deviations.

    Without any spread, 0 for equal means and otherwise infinite.
    """
    difference = statistics.fmean(first) - statistics.fmean(second)
    spread = pooled_deviation(first, second)
    if spread == 0:
        return 0.0 if difference == 0 else math.copysign(math.inf, difference)
    return difference / spread


def mean_and_deviation(sample: Sequence[float], digits: int, scale: float = 1.0) -> str:
    """``mean ± SD`` for a table."""
    deviation = scale * statistics.stdev(sample)
    return f"{scale * statistics.fmean(sample):.{digits}f} ± {deviation:.{digits}f}"
