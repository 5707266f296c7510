"""The whole check: ends within its limit whatever hangs, a table last, all else in files.

The folder named by OUT gets at most eight files.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from bench.lib import machine
from bench.lib.report import check_table, console, files
from bench.lib.workloads import WORKLOADS
from bench.tools.gpu_check import report as reports
from bench.tools.gpu_check import runner, stages
from bench.tools.gpu_check.stage import Setup, Stage

ROOT = Path(__file__).resolve().parents[3]
LARGEST_LOG = 15 * 2**20


def run(options: argparse.Namespace, tools: Mapping[str, str | None]) -> int:
    """Run the stages; 0 if every one was run and none failed, 2 where a pattern matches none."""
    deadline = time.monotonic() + options.limit
    # So that what runs is ended, and the table printed, also where somebody stops this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    device, arch = torch.device(options.device), "cpu"
    if device.type == "cuda":
        arch = ".".join(map(str, torch.cuda.get_device_capability(device)))
    out = files.folder(options.out).resolve()
    setup = Setup(
        python=options.python,
        device=device.type,
        arch=arch,
        cores=len(os.sched_getaffinity(0)),
        out=out,
        tools=tools,
        workloads=options.workloads.split(",") if options.workloads else list(WORKLOADS),
        rounds=options.rounds,
    )
    try:
        planned = stages.chosen(options.stages, setup)
    except ValueError as error:
        console.say(str(error))
        return 2
    report = reports.CheckReport(machine.describe(device), [stage.name for stage in planned])
    try:
        for check in runner.run_all(planned, out, deadline, ROOT):
            report.checks.append(check)
            files.write(out / f"{files.device_prefix(device)}-check.json", report)
    finally:
        tidy(out, planned)
        rows = check_table.rows(dataclasses.asdict(report))
        console.table("gpu-check", check_table.COLUMNS, rows, [f"files: {out}"], bold=set())
    return 0 if report.clean else 1


def tidy(out: Path, planned: Sequence[Stage]) -> None:
    """Cut logs that are too long: the beginning says most. Remove what was half written."""
    for log in {out / stage.log for stage in planned}:
        if log.exists() and log.stat().st_size > LARGEST_LOG:
            os.truncate(log, LARGEST_LOG)
    for partial in out.glob("*.tmp"):
        partial.unlink()
