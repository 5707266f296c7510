"""``make gpu-check`` without a GPU: what the tools print, and the verdicts on it."""

import json
from pathlib import Path

import pytest

from bench.lib.report import check_table, console
from bench.lib.report.markdown import NOT_MEASURED
from bench.tools.gpu_check import counts, report, verdicts
from bench.tools.gpu_check.process import Ended
from bench.tools.gpu_check.verdicts import FAIL, NOT_AVAILABLE, PASS, Unreadable, Verdict

TEXTS = Path(__file__).parent / "gpu_check_texts"


def text(name: str) -> str:
    """What a tool printed."""
    return (TEXTS / f"{name}.txt").read_text()


def ended(output: str, status: int | None = 0) -> Ended:
    """A command that printed this."""
    return Ended(status, 12.0, output)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("pytest_passed", {"passed": 812, "skipped": 40, "warnings": 3}),
        ("pytest_failed", {"failed": 1, "passed": 5, "error": 1}),
    ],
)
def test_pytest_counts(name: str, counts: dict[str, int]) -> None:
    """The last line is read, plain or between rules."""
    assert verdicts.pytest_counts(text(name)) == counts


def test_judge_tests() -> None:
    """Only an end with something passed and nothing failed is a pass."""
    assert verdicts.judge_tests(ended(text("pytest_passed"))).verdict == PASS
    assert verdicts.judge_tests(ended(text("pytest_passed"), 1)).verdict == FAIL
    assert verdicts.judge_tests(ended(text("pytest_failed"), 1)).verdict == FAIL
    assert verdicts.judge_tests(ended("3 skipped in 0.10s")).verdict == FAIL
    killed = verdicts.judge_tests(ended("....\nbringing up nodes", None))
    assert killed == Verdict(FAIL, "stopped after 12 s: bringing up nodes")


@pytest.mark.parametrize(
    ("name", "status", "want"),
    [
        ("memcheck_clean", 0, Verdict(PASS, "0 found")),
        ("memcheck_error", 99, Verdict(FAIL, "1 found")),
        ("racecheck_clean", 0, Verdict(PASS, "0 found")),
        ("racecheck_hazard", 99, Verdict(FAIL, "2 found")),
        # Clean, but the program itself failed, or was stopped.
        ("memcheck_clean", 1, None),
        ("memcheck_clean", None, None),
        ("device_refused", 1, None),
    ],
)
def test_judge_sanitizer(name: str, status: int | None, want: Verdict | None) -> None:
    """Findings, and ends that prove nothing, fail."""
    found = verdicts.judge_sanitizer(ended(text(name), status))
    assert found == want if want else found.verdict == FAIL


def test_sanitizer_without_summary() -> None:
    """No summary is no proof."""
    with pytest.raises(Unreadable):
        verdicts.sanitizer_findings("========= COMPUTE-SANITIZER\nall well")


def test_dram_bytes() -> None:
    """All kernels of the step are added up, whatever the unit."""
    assert verdicts.dram_bytes(text("ncu_base")) == (1_000_000 + 24_000, 750_000 + 6_000)
    assert verdicts.dram_bytes(text("ncu_scaled")) == (1.5e6, 640e3)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ncu_no_permission", "ERR_NVGPUCTRPERM"),
        ("ncu_not_loaded", "LibraryNotLoaded"),
        ("ncu_no_kernels", "No kernels were profiled"),
    ],
)
def test_dram_not_available(name: str, reason: str) -> None:
    """The reason is ncu's own."""
    found = verdicts.judge_dram(ended(text(name), 1), 1000, None)
    assert found.verdict == NOT_AVAILABLE and reason in found.figure


def test_judge_dram() -> None:
    """More bytes than the model allows fail, and so does a program that crashed."""
    output = text("ncu_base")
    assert verdicts.judge_dram(ended(output), 100_000, 17.9) == Verdict(
        PASS, "17.8 bytes a parameter (10.2 read, 7.6 written)"
    )
    assert verdicts.judge_dram(ended(output), 100_000, 17.7).verdict == FAIL
    crash = "Traceback (most recent call last):\n==WARNING== No kernels were profiled."
    assert verdicts.judge_dram(ended(crash, 1), 1000, None).verdict == FAIL
    assert verdicts.judge_dram(ended(text("ncu_crash"), 1), 1000, None).verdict == FAIL


def count_line(launches: float, waits: float, ours: bool = True) -> str:
    """A line as the counting program prints it."""
    kernels = {"launches": launches, "copies": 0, "synchronisations": waits, "milliseconds": 1.0}
    line = {"workload": "resnet50", "implementation": "c", "label": "L" * (1 + ours), "ours": ours}
    return json.dumps({**line, "kernels": kernels})


@pytest.mark.parametrize(
    ("lines", "want"),
    [
        ([count_line(1, 0), count_line(7, 0, ours=False)], PASS),
        ([count_line(2, 0)], FAIL),
        ([count_line(1, 1 / 3)], FAIL),
        ([count_line(7, 0, ours=False)], FAIL),
        ([], NOT_AVAILABLE),
    ],
)
def test_judge_counts(lines: list[str], want: str) -> None:
    """One launch and no wait in each step of ours; others may do as they like."""
    assert counts.judge(ended("\n".join(["a warning", *lines]))).verdict == want


def test_report() -> None:
    """What was planned and not run is seen, and is not clean."""
    one = report.Check("build", PASS, "9.0 | 40 s", 40.0)
    whole = report.CheckReport({}, ["build", "tests"], [one])
    assert not whole.clean
    shown = {"checks": [vars(one)], "planned": ["build", "tests"], "machine": MACHINE}
    block = check_table.check_block(shown)
    assert "| build | pass | 9.0 \\| 40 s |" in block and "| tests | not run |  |" in block
    assert "commit" not in block and check_table.check_block(None) == NOT_MEASURED
    assert report.CheckReport({}, ["build"], [one]).clean
    assert not report.CheckReport({}, ["build"], [report.Check("build", FAIL, "", 1.0)]).clean


MACHINE = {
    **{"cpu": "a CPU", "cpu_capability": "AVX2", "threads": 1, "cores": 2, "system": "Linux"},
    **{"python": "3.12.3", "gpu": None, "torch": "2.11.0", "date": "today", "commit": None},
}


def test_table_shows_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    """A reason is printed as it is."""
    console.table("title", ["check", "figure"], [["tests", "at [/x] [100%] [red]"]], [], set())
    assert "at [/x] [100%] [red]" in capsys.readouterr().out
