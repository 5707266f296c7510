"""StatsWriter: what an optimizer does to each layer, as a file of JSON lines."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import torch
from torch.optim.optimizer import Optimizer

from adamp_fused._stats import named_parameters
from adamp_fused._version import __version__
from adamp_fused.stats.outside import OutsideStats
from adamp_fused.stats.records import FORMAT, Stats, as_line, drop_unfinished_line, read


class StatsWriter:
    """Appends the statistics of an optimizer to a file as it steps.

    Step 1 is recorded, and every step whose number is a multiple of ``every``; a record reads the
    device once. Each line is written out at once, so that a run that is killed keeps what it has.

    An existing file is appended to. Step numbers go on from the count of the optimizer, where it or
    a checkpoint that was loaded has one, else from the last record. Records of steps that are
    made again take the place of the earlier ones when the file is read.

    An optimizer without ``stats()``, such as ``torch.optim.AdamW``, is looked at from outside: its
    weights are copied before each recorded step, and compared with those after it. The outcome is
    then "none", ``removed`` 0, and ``max_cosine`` and ``bound`` those of a test with delta 0.1.

    In a distributed run one process writes: what FusedAdamP tells is the same in all of them.

    A step inside a CUDA graph that is replayed calls no hook: call :meth:`write` after it.

    Args:
        optimizer: FusedAdamP or FusedSGDP with ``stats=True``, or any optimizer of torch.
        path: the file, ``run.jsonl`` for example; its folder must exist.
        every: how many steps from one record to the next, at least 1.

    Raises:
        TypeError: ``optimizer`` has no step hooks, or ``every`` is no integer.
        ValueError: ``every`` is below 1, or ``path`` is a file of something else.
        RuntimeError: the optimizer was made without ``stats=True``.

    Example:
        >>> with StatsWriter(optimizer, "run.jsonl", every=50):
        ...     train(model, optimizer)
    """

    def __init__(self, optimizer: Optimizer, path: str | os.PathLike[str], every: int = 50) -> None:
        if not hasattr(optimizer, "register_step_post_hook"):
            raise TypeError(
                f"optimizer={optimizer!r} must have register_step_post_hook, as torch's "
                "optimizers do; pass the optimizer itself, not what wraps it"
            )
        if not isinstance(every, int) or isinstance(every, bool):
            raise TypeError(f"every={every!r} must be an integer, for example every=50")
        if every < 1:
            raise ValueError(
                f"every={every!r} must be at least 1; pass every=1 to record each step"
            )
        self._optimizer, self._path, self._every = optimizer, Path(path), every
        self._outside = None if hasattr(optimizer, "stats") else OutsideStats()
        if self._outside is None:
            self._stats()  # the error of an optimizer without statistics comes now
        self._step: int | None = None  # known with the first step: a checkpoint may come yet
        self._last_recorded = self._read_earlier()
        self._file: TextIO | None = self._path.open("a", encoding="utf-8")
        self._write_line(self._meta())
        self._hooks = [
            optimizer.register_step_pre_hook(lambda *_: self._before_step()),
            optimizer.register_step_post_hook(lambda *_: self._after_step()),
        ]

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def write(self, step: int | None = None) -> None:
        """Record the last step now, for an optimizer that has ``stats()``.

        Args:
            step: its number, from which later steps are counted on; None: the steps that were seen.

        Raises:
            RuntimeError: the optimizer has no ``stats()``, the writer is closed, or no step is
                known.
        """
        if self._outside is not None:
            raise RuntimeError(
                f"{type(self._optimizer).__name__} has no stats(), and what a step has done "
                "cannot be seen once it is over; leave recording to the hooks"
            )
        if step is not None:
            self._step = step
        if self._step is None:
            raise RuntimeError("no step was seen so far; pass its number: write(step=1)")
        self._record(self._stats())

    def close(self) -> None:
        """Close the file and leave the optimizer alone; a second call changes nothing."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> StatsWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _before_step(self) -> None:
        if self._step is None:
            self._step = self._steps_made() or self._last_recorded
        if self._outside is not None and self._is_due(self._step + 1):
            self._outside.before(self._optimizer)

    def _after_step(self) -> None:
        if self._step is None:  # hooks were registered within the step
            return
        self._step += 1
        if self._is_due(self._step):
            outside = self._outside
            self._record(self._stats() if outside is None else outside.after(self._optimizer))

    def _is_due(self, step: int) -> bool:
        return step == 1 or step % self._every == 0

    def _steps_made(self) -> int:
        """How many steps the optimizer itself has counted; 0 where it counts none."""
        counts = [int(state["step"]) for state in self._optimizer.state.values() if "step" in state]
        if not counts and self._outside is None:
            counts = [sum(of_param["outcomes"].values()) for of_param in self._stats().values()]
        return max(counts, default=0)

    def _stats(self) -> Stats:
        stats: Stats = self._optimizer.stats()  # type: ignore[attr-defined]
        return stats

    def _record(self, stats: Stats) -> None:
        name = type(self._optimizer).__name__
        self._write_line({"step": self._step, "optimizer": name, "stats": stats})

    def _write_line(self, record: dict[str, Any]) -> None:
        if self._file is None:
            raise RuntimeError(f"the writer of {self._path} is closed; make a new one, it appends")
        self._file.write(as_line(record))
        self._file.flush()

    def _read_earlier(self) -> int:
        """The last step that an earlier session recorded, or 0."""
        if not self._path.exists():
            return 0
        drop_unfinished_line(self._path)
        if b'"step"' not in self._path.read_bytes():
            return 0  # empty, or it ended before its first record
        run = read(self._path)
        step = run.steps[-1]
        if self._outside is not None:
            self._outside.resume(run.records[step])
        return step

    def _meta(self) -> dict[str, Any]:
        groups = [
            {k: _plain(v) for k, v in group.items() if k not in ("params", "param_names")}
            for group in self._optimizer.param_groups
        ]
        params = named_parameters(self._optimizer.param_groups)
        return {
            "format": FORMAT,
            "adamp_fused": __version__,
            "torch": torch.__version__,
            "optimizer": type(self._optimizer).__name__,
            "every": self._every,
            "groups": groups,
            "shapes": {name: list(param.shape) for name, (param, _) in params.items()},
        }


def _plain(value: Any) -> Any:
    """An option as JSON has it; of a tensor or an object, its text."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
