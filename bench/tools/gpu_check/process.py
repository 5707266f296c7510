"""One command of a stage: its output to a file as it comes, its time limited, nothing left behind.

A command gets a process group of its own, so that its children (test workers, a program under a
sanitizer) end with it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GRACE = 3.0
"""Seconds between asking a group to end and ending it."""


@dataclass(frozen=True)
class Ended:
    """How a command ended; ``status`` is None where it was stopped at its limit."""

    status: int | None
    seconds: float
    output: str


def run(
    command: Sequence[str], log: Path, limit: float, cwd: Path, environment: Mapping[str, str]
) -> Ended:
    """Run a command for at most ``limit`` seconds, appending what it prints to ``log``."""
    start = time.monotonic()
    with log.open("ab") as file:
        file.write(f"$ {shlex.join(command)}\n".encode())
        file.flush()
        begin = file.tell()
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        except OSError as error:
            file.write(f"{error}\n".encode())
            return Ended(127, 0.0, str(error))
        status: int | None = None
        try:
            status = child.wait(max(0.0, limit))
        except subprocess.TimeoutExpired:
            file.write(f"\nstopped after {limit:.0f} s\n".encode())
        finally:
            _end_group(child)
    with log.open("rb") as written:
        written.seek(begin)
        output = written.read().decode(errors="replace")
    return Ended(status, time.monotonic() - start, output)


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """End whatever of the group still runs, also when the command itself has ended."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GRACE)
    child.wait()
