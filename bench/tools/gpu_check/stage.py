"""A stage of the check, and what stages are made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.tools.gpu_check.process import Ended
from bench.tools.gpu_check.verdicts import Verdict


@dataclasses.dataclass(frozen=True)
class Setup:
    """Where and with what the stages run; ``tools`` maps a tool's name to its path, if found."""

    python: str
    device: str
    arch: str
    cores: int
    out: Path
    tools: Mapping[str, str | None]
    workloads: Sequence[str]
    rounds: int

    @property
    def backend(self) -> str:
        """The native backend of the device."""
        return self.device


@dataclasses.dataclass(frozen=True)
class Stage:
    """One row of the table.

    share: seconds kept for it, whatever came before; it also gets what those before left over.
    lacking: the verdict where its tool is missing, and the command cannot be run. makes: files
    beside the log.
    """

    name: str
    command: Sequence[str]
    log: str
    share: float
    judge: Callable[[Ended], Verdict]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    lacking: Verdict | None = None
    makes: Sequence[str] = ()
