"""Measures the experiments in processes side by side, judges them and writes the results."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import torch

from bench.lib import machine
from bench.lib.report import console, files
from bench.paper import page, pictures, report
from bench.paper.experiment import Case, Experiment, Record, Settings
from bench.paper.registry import EXPERIMENTS


def measure(case: Case) -> tuple[Record, float]:
    """A case's record, and the seconds of its core; on one thread, so that bits repeat."""
    torch.set_num_threads(1)
    start = time.process_time()
    record = case()
    return record, time.process_time() - start


def records(
    experiments: list[Experiment], settings: Settings, workers: int
) -> Iterator[tuple[Experiment, list[Record], float]]:
    """The records of each experiment; with one worker in this process, and none is started."""
    side_by_side = [each for each in experiments if not each.alone and workers > 1]
    if side_by_side:
        # Not forked: torch's threads do not survive that.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context) as pool:
            futures: list[tuple[Experiment, list[Future[tuple[Record, float]]]]] = [
                (each, [pool.submit(measure, case) for case in each.cases(settings)])
                for each in side_by_side
            ]
            for each, pending in futures:
                yield _joined(each, [future.result() for future in pending])
    for each in experiments:
        if each not in side_by_side:
            yield _joined(each, [measure(case) for case in each.cases(settings)])


def _joined(
    experiment: Experiment, measured: list[tuple[Record, float]]
) -> tuple[Experiment, list[Record], float]:
    return experiment, [record for record, _ in measured], sum(part for _, part in measured)


def show(experiment: Experiment, entry: report.Report) -> None:
    """Statement, pass mark, what was measured, and the verdict of each gate."""
    console.say(f"\n{experiment.title} ({experiment.section})", console.BOLD)
    console.say(f"  the paper: {experiment.statement}")
    console.say(f"  pass mark: {experiment.mark}")
    header, *rows = experiment.table(entry["records"])
    console.table(f"  {entry['seconds']:.0f} s", header, rows, [], set())
    for gate in report.gates_of(entry):
        verdict = "PASS" if gate.passed else "FAIL"
        console.say(f"  {verdict}  {gate.what}: {gate.value:.4g} {gate.relation} {gate.limit:g}")


def run(names: list[str], settings: Settings, workers: int, out: Path) -> int:
    """Measure, print, and write JSON, pictures and page into ``out``; an exit status."""
    start = time.perf_counter()
    about = machine.describe(torch.device("cpu"))
    content: report.Report = {
        "settings": {"quick": settings.quick, "backend": settings.backend},
        "experiments": [],
    }
    found = [EXPERIMENTS[name] for name in names]
    failed = []
    for experiment, measured, seconds in records(found, settings, workers):
        entry = report.outcome(experiment, measured, seconds, about)
        show(experiment, entry)
        if not entry["passed"]:
            failed.append(experiment.name)
        content["experiments"] = [entry]
        content = report.merge(content, report.read(out), list(EXPERIMENTS))
        report.write(content, out)
    draw(out)
    minutes = (time.perf_counter() - start) / 60
    console.say(f"\n{minutes:.1f} minutes; results: {out / report.FILE}", console.DIM)
    console.say(f"FAIL: {', '.join(failed)}" if failed else "PASS", console.BOLD)
    return 1 if failed else 0


def draw(out: Path) -> None:
    """Gates, pictures and page from the records in ``out``; the committed ones go to docs."""
    content = report.read(out)
    if content is None:
        raise FileNotFoundError(f"there is no {out / report.FILE}; run python -m bench paper")
    report.judge(content)
    report.write(content, out)
    is_committed = out.resolve() == files.COMMITTED.resolve()
    docs = page.DOCS if is_committed else out
    (docs / "images").mkdir(exist_ok=True)
    pictures.draw(content, docs / "images")
    (docs / page.FILE).write_text(page.text(content), encoding="utf-8")
    console.say(f"  page: {docs / page.FILE}", console.DIM)
