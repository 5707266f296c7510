"""Performance targets: verdicts, noise, counted memory, and the busy core."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from bench import targets_gpu
from bench.lib import busy, memory
from bench.lib.bandwidth import Bandwidth
from bench.lib.bounds import bound_of
from bench.lib.implementations import ADAM, SGD_, control_key
from bench.lib.measure import Row, WorkloadResult
from bench.lib.report import target_table
from bench.lib.targets import CONTROL, TARGETS, Cell, Target
from bench.lib.verdicts import judge, verdicts
from bench.lib.workloads import WORKLOADS

CPU = torch.device("cpu")
STRICT = Target("g", "row", "case", "baseline", 1.0)
NOISY = Target("g", "row", "case", "baseline", 1.0, noise=True)
LEAST = Target("g", "row", "case", "baseline", 0.85, least=True)


def cell(figure: float, name: str = "row", group: str = "g", detail: str = "") -> Cell:
    """One measurement."""
    return Cell(group, name, "workload", detail, "ms", figure, 1.0, figure)


# Target, its figures, the baseline's own ratios, verdict, and why the case is here.
VERDICTS = [
    (STRICT, [0.9, 1.0], [], "met", "the limit itself"),
    (STRICT, [0.9, 1.01], [1.02], "missed", "the worst counts, and no noise"),
    (NOISY, [1.015], [0.99, 0.98, 1.01], "met", "within the baseline's worst distance"),
    (NOISY, [1.025], [0.99, 0.98, 1.01], "missed", "beyond it"),
    (NOISY, [1.025], [1.5], "met", "a noisy run: up to 3 %"),
    (NOISY, [1.035], [1.5], "missed", "a noisy run excuses no more"),
    (NOISY, [1.001], [], "missed", "noise that was not measured allows nothing"),
    (LEAST, [0.86, 0.99], [], "met", "the limit is the least"),
    (LEAST, [0.84, 0.99], [], "missed", "one is below"),
]


@pytest.mark.parametrize(
    ("target", "figures", "baselines", "said"),
    [case[:4] for case in VERDICTS],
    ids=[case[4] for case in VERDICTS],
)
def test_verdict(target: Target, figures: list[float], baselines: list[float], said: str) -> None:
    """A row is met where its worst figure keeps the limit and the noise allowed."""
    cells = [*(cell(f) for f in figures), *(cell(f, CONTROL) for f in baselines)]
    assert judge(target, cells).verdict == said


def test_verdict_of_a_row_without_figures() -> None:
    """Nothing measured is said as such, whatever other rows and groups have."""
    cells = [cell(0.5, "other"), cell(0.5, group="other")]
    verdict = judge(STRICT, cells)
    assert (verdict.verdict, verdict.worst) == ("not measured", None)


def test_noise_is_that_of_the_same_group() -> None:
    """A noisy group does not excuse another one."""
    cells = [cell(1.02), cell(1.05, CONTROL, "other")]
    assert judge(NOISY, cells).verdict == "missed"


def test_where_names_the_worst() -> None:
    """The worst case is told without what the row's name says already."""
    cells = [cell(1.0, detail="row, 1 thread"), cell(2.0, detail="row, 2 threads")]
    assert judge(STRICT, cells).where == "workload, 2 threads"


def test_each_number_of_threads_has_its_worst() -> None:
    """The table shows them side by side; a row that knows no threads has one figure for all."""
    figures = {"none, 1 thread": [1.0, 3.0], "none, 2 threads": [2.0], "": [9.0]}
    cells = [cell(f, detail=detail) for detail, found in figures.items() for f in found]
    verdict = judge(STRICT, cells[:3])
    assert verdict.by_threads == {"1 thread": 3.0, "2 threads": 2.0}
    alone = judge(STRICT, cells[2:3])
    without = judge(STRICT, cells[3:])
    columns, rows = target_table.table([verdict, alone, without])
    assert columns[3:6] == ["bound", "1 thread", "2 threads"]
    shown = [row[3:6] for row in rows]
    assert shown == [["", "3.00", "2.00"], ["", "-", "2.00"], ["", "9.00", "9.00"]]
    columns, rows = target_table.table([without])
    assert (columns[4], rows[0][4], len(columns)) == ("here", "9.00", len(rows[0]))


def test_only_targets_of_the_device_and_of_measured_groups_are_listed() -> None:
    """What a run did not ask for is not listed; memory, which every device has, always is."""
    cells = [cell(0.1, "step", "small"), cell(0.9, "wall", "gpu")]
    found = {gpu: [v.target for v in verdicts(cells, gpu)] for gpu in (False, True)}
    assert [target.group for target in found[False]] == ["small", "memory"]
    assert {target.group for target in found[True]} == {"gpu", "memory"}
    assert [v.verdict for v in verdicts(cells, gpu=False)] == ["met", "not measured"]


def test_every_row_of_a_gpu_gets_figures() -> None:
    """The rows that need a GPU are found in what is measured there, from the right columns."""
    bandwidth = Bandwidth(3e12, 3e12, 3e12)
    cells: list[Cell] = []
    for name in targets_gpu.NAMES:
        rows = [
            Row(
                *(key, key, family.name, ours, 20, ms, 0.01, ms, 28, 0.9),
                *(ms / 10, ms, ms / 2, ms, 1.0, 0.0, 0.0),
            )
            for family in (ADAM, SGD_)
            for key, ours, ms in (
                (family.baseline, False, 1.0),
                (control_key(family.baseline), False, 1.02),
                (f"fused-{family.title}", True, 0.5),
            )
        ]
        rows.append(dataclasses.replace(rows[0], implementation="adamp", ms=50.0))
        found = targets_gpu.cells(name, WorkloadResult(name, name, 1, 1, bandwidth, 1, rows))
        cells += [item for item in found if isinstance(item, Cell)]
    expected = {
        "wall": 0.5,
        "kernel": 0.5,
        "large": 0.5,
        "sgdp": 0.5,
        "bandwidth": 0.9,
        "host": 0.5,
    }
    expected |= {"official": 0.01, "launches": 1.0, "waits": 0.0}
    for target in TARGETS:
        if target.gpu and target.group == "gpu":
            verdict = judge(target, cells)
            assert verdict.worst == pytest.approx(expected[target.name])
            assert verdict.verdict == ("missed" if target.name == "host" else "met")
    large = {cell.workload for cell in cells if cell.name == "large"}
    assert large == {"gpt2-124m", "llama-1.3b"}
    assert {cell.workload for cell in cells if cell.name == "wall"} == {"resnet50", "vit-b16"}


def test_every_outcome_on_a_gpu_gets_figures() -> None:
    """Kernel times against the baseline's, and an option's against those of "auto"."""
    bandwidth = Bandwidth(3e12, 3e12, 3e12)
    cells: list[Cell] = []
    for outcome, kinds in targets_gpu.FIXED.items():
        rows = [
            Row(*(key, key, family.name, ours, 20, 9, 0, 1, 28, 0.9), *(1, 9, ms, 1, 1, 0, 0))
            for family in (ADAM, SGD_)
            for key, ours, ms in (
                (family.baseline, False, 1.0),
                (control_key(family.baseline), False, 1.01),
                ("fused", True, 0.9),
                *((f"fused-{kind}", True, 0.72) for kind in kinds),
            )
        ]
        found = targets_gpu.outcome_cells(
            outcome, WorkloadResult("resnet50", "ResNet-50", 1, 1, bandwidth, 1, rows)
        )
        cells += [item for item in found if isinstance(item, Cell)]
    rows_of_outcomes = [target for target in TARGETS if target.group == "outcomes"]
    assert len(rows_of_outcomes) == 10
    for target in rows_of_outcomes:
        verdict = judge(target, cells)
        against_auto = target.baseline == '"auto"'
        assert verdict.worst == pytest.approx(0.8 if against_auto else 0.9)
        assert verdict.noise == pytest.approx(0.01) and "ResNet-50" in verdict.where


def test_every_row_has_a_name_of_its_own() -> None:
    """Two rows of one name would share their cells."""
    assert len({(target.group, target.name) for target in TARGETS}) == len(TARGETS)


@pytest.mark.skipif(not memory.countable(), reason="the C library does not count its heap")
@pytest.mark.parametrize("numel", [1_000, 10_000_000])
def test_memory_is_counted(numel: int) -> None:
    """A tensor's bytes are found, in the heap and in a mapping of its own; and gone when freed."""
    before = memory.in_use(CPU)
    tensor = torch.empty(numel)  # filling it would start threads
    taken = memory.in_use(CPU) - before
    assert tensor.nbytes <= taken <= tensor.nbytes + 8192
    del tensor
    assert abs(memory.in_use(CPU) - before) <= 8192


@pytest.mark.skipif(not busy.enough_cores(), reason="needs two cores to choose from")
def test_busy_process_is_ended_and_cores_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process runs on one of two cores, and is gone even after an error."""
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def keep(*arguments: object, **options: object) -> subprocess.Popen[str]:
        started.append(popen(*arguments, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", keep)
    before = os.sched_getaffinity(0)
    moves: list[set[int]] = []
    monkeypatch.setattr(busy, "_move_threads", moves.append)
    with pytest.raises(KeyError), busy.one_of_two_cores():
        (other,) = started
        assert other.poll() is None
        taken = os.sched_getaffinity(other.pid)
        assert len(taken) == 1
        (two,) = moves
        assert len(two) == 2
        assert taken < two <= before
        raise KeyError
    assert other.poll() is not None
    assert moves == [two, before]


@pytest.mark.skipif(not busy.enough_cores(), reason="needs two cores to choose from")
def test_every_thread_is_moved() -> None:
    """Threads that run already are confined as well, and freed again."""
    before, done = os.sched_getaffinity(0), threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        busy._move_threads({min(before)})
        assert os.sched_getaffinity(thread.native_id or 0) == {min(before)}
    finally:
        busy._move_threads(before)
        done.set()
        thread.join()
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(not busy.enough_cores(), reason="needs two cores to choose from")
def test_busy_process_ends_with_its_parent() -> None:
    """A killed benchmark leaves nothing running."""
    code = (
        "import os, subprocess, sys;"
        "core = str(min(os.sched_getaffinity(0)));"
        "command = [sys.executable, '-m', 'bench.lib.busy', core];"
        "options = {'stdout': subprocess.PIPE, 'stderr': subprocess.DEVNULL};"
        "other = subprocess.Popen(command, **options);"
        "other.stdout.readline(); print(other.pid, flush=True); os._exit(0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pid, deadline = int(found.stdout), time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    alive = Path(f"/proc/{pid}").exists()
    if alive:
        os.kill(pid, signal.SIGKILL)
    assert not alive


def _timed(target: Target, baseline: float, bandwidth: float | None, ours: float = 3.0) -> Cell:
    where = WORKLOADS["resnet18"]().title, "natural, 2 threads"
    return Cell.ratio(target.group, target.name, where, ours, baseline, bandwidth=bandwidth)


def test_bound_of_bytes() -> None:
    """28 bytes per parameter; a third layer-wise steps of 40; not in cache; not where unknown."""
    target = next(t for t in TARGETS if (t.group, t.name) == ("adamp", "natural"))
    mixed = next(t for t in TARGETS if (t.group, t.name) == ("adamp", "mixed"))
    small = next(t for t in TARGETS if t.group == "small")
    bandwidth = 28e3 * WORKLOADS["resnet18"]().numel  # one pass takes 1 ms
    assert bound_of(target, _timed(target, 2.0, bandwidth)) == pytest.approx(0.5)
    assert bound_of(mixed, _timed(mixed, 2.0, bandwidth)) == pytest.approx(0.5 * 32 / 28)
    assert bound_of(small, _timed(small, 2.0, bandwidth)) is None
    assert bound_of(target, _timed(target, 2.0, None)) is None


def test_out_of_reach_is_not_missed() -> None:
    """A figure whose bound is above the limit is not missed; one beside it may be."""
    target = next(t for t in TARGETS if t.group == "official" and not t.gpu)
    slow, fast = (28e3 * WORKLOADS["resnet18"]().numel / ms for ms in (1.0, 0.1))
    beyond, missed = _timed(target, 10.0, slow, 2.0), _timed(target, 10.0, fast, 1.0)
    met = _timed(target, 10.0, fast, 0.4)
    assert judge(target, [beyond]).verdict == "out of reach"
    assert judge(target, [missed]).verdict == "missed"
    assert judge(target, [met]).verdict == "met"
    both = judge(target, [beyond, missed, met])
    assert (both.verdict, both.worst) == ("missed", pytest.approx(0.1))
    assert judge(target, [beyond, met]).verdict == "out of reach"
    assert judge(target, [_timed(target, 10.0, None)]).verdict == "missed"
