"""Runs the stages one after the other within one limit; a failure stops none that follow."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.lib.report import console
from bench.tools.gpu_check import process
from bench.tools.gpu_check.report import Check
from bench.tools.gpu_check.stage import Stage
from bench.tools.gpu_check.verdicts import FAIL, Verdict


def run_all(stages: Sequence[Stage], out: Path, deadline: float, root: Path) -> Iterator[Check]:
    """Run every stage, yielding each result as it comes.

    A stage may take all that is left before ``deadline`` (of ``time.monotonic``) but the shares of
    those that follow.
    """
    # What an earlier run left must not pass for this one's.
    for stage in stages:
        for name in (stage.log, *stage.makes):
            (out / name).unlink(missing_ok=True)
    common = {
        "PYTHONPATH": os.pathsep.join((str(root), str(root / "tests"))),
        "PYTHONUNBUFFERED": "1",
        "TRITON_CACHE_DIR": str(root / "build" / "triton"),
    }
    for index, stage in enumerate(stages):
        kept = sum(other.share for other in stages[index + 1 :])
        limit = max(stage.share, deadline - time.monotonic() - kept)
        limit = min(limit, deadline - time.monotonic())
        seconds = 0.0
        if stage.lacking is not None:
            found = stage.lacking
        elif limit <= 0:
            found = Verdict(FAIL, "no time was left")
        else:
            console.say(f"{stage.name} (at most {limit:.0f} s)")
            environment = {**common, **stage.environment}
            ended = process.run(stage.command, out / stage.log, limit, root, environment)
            found, seconds = _judged(stage, ended), ended.seconds
            console.say(f"  {found.verdict}: {found.figure} ({seconds:.0f} s)")
        yield Check(stage.name, found.verdict, found.figure, round(seconds, 1))


def _judged(stage: Stage, ended: process.Ended) -> Verdict:
    """The stage's own verdict; output that its judge cannot read fails it and nothing else."""
    try:
        return stage.judge(ended)
    except Exception as error:
        return Verdict(FAIL, f"unreadable output: {error!r}")
