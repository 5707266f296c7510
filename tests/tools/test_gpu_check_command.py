"""``make gpu-check`` without a GPU: limits, stages, and a whole run with tools that pretend."""

import dataclasses
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.lib.workloads import WORKLOADS
from bench.tools.gpu_check import command, needs, process, runner, stages, verdicts
from bench.tools.gpu_check.process import Ended
from bench.tools.gpu_check.stage import Setup, Stage
from bench.tools.gpu_check.verdicts import FAIL, NOT_AVAILABLE, PASS, Verdict

ROOT = Path(__file__).resolve().parents[2]
TEXTS = Path(__file__).parent / "gpu_check_texts"


@pytest.mark.serial
def test_limit_ends_the_whole_group(tmp_path: Path) -> None:
    """A child of a child that ignores requests is gone, and what was printed is kept."""
    script = "trap '' TERM; (trap '' TERM; sleep 60 & echo $!; wait) & wait; sleep 60"
    log = tmp_path / "log.txt"
    done = process.run(["bash", "-c", script], log, 0.5, tmp_path, {})
    assert done.status is None and done.seconds < 20
    pid = int(done.output.split()[0])
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()
    assert str(pid) in log.read_text() and "stopped after" in log.read_text()


def test_command_that_is_not_there(tmp_path: Path) -> None:
    """An end with a status, not an exception."""
    done = process.run(["no-such-program"], tmp_path / "log.txt", 5, tmp_path, {})
    assert done.status == 127 and "no-such-program" in done.output


def stage(name: str, script: str, share: float, judge: object = None) -> Stage:
    """A stage of a shell script."""
    judged = judge or (lambda e: verdicts.failed(e) or Verdict(PASS, e.output.strip()))
    return Stage(name, ["bash", "-c", script], "log.txt", share, judged)


@pytest.mark.serial
def test_runner(tmp_path: Path) -> None:
    """A stage that hangs, fails or cannot be read stops no other and takes only its share."""

    def unreadable(_: Ended) -> Verdict:
        raise KeyError("kernels")

    planned = [
        stage("hangs", "sleep 60", 1),
        stage("fails", "exit 3", 2),
        stage("unreadable", "true", 2, unreadable),
        stage("gets the rest", "sleep 1.5; echo well", 0.5),
    ]
    planned[0] = dataclasses.replace(planned[0], makes=["figures.json"])
    (tmp_path / "figures.json").write_text("of an earlier run")
    start = time.monotonic()
    done = list(runner.run_all(planned, tmp_path, start + 6, ROOT))
    assert not (tmp_path / "figures.json").exists()
    assert time.monotonic() - start < 6
    assert [check.verdict for check in done] == [FAIL, FAIL, FAIL, PASS]
    assert done[0].seconds < 3 and done[3].figure == "well"
    late = list(runner.run_all(planned[3:], tmp_path, time.monotonic() - 1, ROOT))
    assert late[0].verdict == FAIL and "no time" in late[0].figure


def make_setup(out: Path, tools: dict[str, str | None], device: str = "cuda") -> Setup:
    """All stages as on a GPU."""
    return Setup("python3", device, "9.0", 16, out, tools, list(WORKLOADS), 20)


def test_files_stay_small(tmp_path: Path) -> None:
    """A log that ran wild is cut, and what a killed stage half wrote is gone."""
    (tmp_path / "log.txt").write_text("first")
    os.truncate(tmp_path / "log.txt", 40 * 2**20)
    (tmp_path / "gpu-step.tmp").touch()
    command.tidy(tmp_path, [stage("wild", "true", 1)])
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]
    assert (tmp_path / "log.txt").stat().st_size < 16 * 2**20


def test_shares_fit(tmp_path: Path) -> None:
    """All stages at their shares end before the limit, and make at most eight files."""
    planned = stages.all_stages(make_setup(tmp_path, dict.fromkeys(needs.TOOLS, "/tool")))
    assert sum(each.share for each in planned) <= 525
    files = {name for each in planned for name in (each.log, *each.makes)} | {"gpu-check.json"}
    assert len(files) <= 8
    assert len({each.name for each in planned}) == len(planned)


def test_tools_that_are_missing(tmp_path: Path) -> None:
    """Without ncu its rows are not available; without a sanitizer its rows fail."""
    planned = stages.all_stages(make_setup(tmp_path, dict.fromkeys(needs.TOOLS)))
    lacking = {each.name: each.lacking.verdict for each in planned if each.lacking}
    assert {v for k, v in lacking.items() if k.startswith("DRAM")} == {NOT_AVAILABLE}
    assert {v for k, v in lacking.items() if "sanitizer" in k} == {FAIL}
    assert len(lacking) == 8


def test_initcheck_sees_every_kernel(tmp_path: Path) -> None:
    """Memory that a kernel left out has filled, as torch fills the moments, would count as not."""
    planned = stages.all_stages(make_setup(tmp_path, dict.fromkeys(needs.TOOLS, "/tool")))
    filtered = {stage.name.split()[-1] for stage in planned if "--kernel-name" in stage.command}
    assert filtered == {"racecheck", "synccheck"}


def test_some_stages(tmp_path: Path) -> None:
    """Patterns choose among them, in the order of all; one that matches none is refused."""
    setup = make_setup(tmp_path, dict.fromkeys(needs.TOOLS, "/tool"))
    assert len(stages.chosen("*", setup)) == len(stages.all_stages(setup))
    some = stages.chosen("DRAM? resnet50*, compute-sanitizer *,build", setup)
    names = [stage.name for stage in some]
    assert names[0] == "build" and names[1].endswith("memcheck") and len(names) == 7
    with pytest.raises(ValueError, match="no stage matches 'sanitizer'; there are: build;"):
        stages.chosen("build,sanitizer", setup)


def executable(path: Path, script: str) -> None:
    """A shell script as a program."""
    path.write_text(f"#!/usr/bin/env bash\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder of programs that say what the real ones say, and run what they are given."""
    folder = tmp_path / "tools"
    folder.mkdir()
    executable(folder / "nvcc", "true")
    executable(
        folder / "compute-sanitizer",
        "while [[ $1 == --* ]]; do [[ $1 == --tool ]] && tool=$2; shift 2; done\n"
        '"$@" || exit\n'
        f"case $tool in racecheck) cat {TEXTS}/racecheck_clean.txt ;;\n"
        f"*) cat {TEXTS}/memcheck_clean.txt ;; esac",
    )
    executable(folder / "ncu", f"cat {TEXTS}/ncu_base.txt")
    # Building and testing would take minutes; the rest is really run, the small plan once.
    executable(
        folder / "python",
        f'case "$*" in setup.py*) echo built ;; "-m pytest"*) cat {TEXTS}/pytest_passed.txt ;;\n'
        f'"-m kernels.small_plan"*) mkdir {folder}/ran || exit 0; exec {sys.executable} "$@" ;;\n'
        f'*) exec {sys.executable} "$@" ;; esac',
    )
    return folder


def gpu_check(tools: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The command, with these tools first on the PATH."""
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "bench.tools.gpu_check", *options],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )


def test_whole_command(tools: Path, tmp_path: Path) -> None:
    """Every stage runs on a CPU; the table comes last, all else is in files."""
    out = tmp_path / "out"
    options = ["--workloads", "resnet50", "--rounds", "2", "--out", str(out)]
    done = gpu_check(tools, "--device", "cpu", "--python", str(tools / "python"), *options)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = json.loads((out / "cpu-check.json").read_text())
    found = {check["name"]: check["verdict"] for check in checks["checks"]}
    assert list(found) == checks["planned"] and len(found) == 11
    assert found.pop("launches, waits a step") == NOT_AVAILABLE
    assert set(found.values()) == {PASS}
    table = done.stdout[done.stdout.rindex("gpu-check") :]
    assert all(name in table for name in found)
    assert "20 steps agree with the oracle on cpu" in (out / "sanitizer.txt").read_text()
    assert len(list(out.iterdir())) <= 8 and (out / "cpu-step.json").exists()


def test_failing_stage_fails_the_command(tools: Path, tmp_path: Path) -> None:
    """The others run, and the exit status says it."""
    executable(tools / "python", f"cat {TEXTS}/pytest_failed.txt; exit 1")
    options = ["--device", "cpu", "--python", str(tools / "python"), "--out", str(tmp_path)]
    done = gpu_check(tools, *options, "--workloads", "resnet50")
    assert done.returncode == 1
    checks = json.loads((tmp_path / "cpu-check.json").read_text())
    assert len(checks["checks"]) == len(checks["planned"])


def test_missing_gpu_and_toolkit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named, and nothing is run."""
    lacks = needs.missing("cuda", {"nvcc": None})
    assert any("nvcc" in lack and "CUDA_HOME" in lack for lack in lacks)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for build, lack in ((None, "CUDA build of torch"), ("13.0", "GPU that torch can use")):
        monkeypatch.setattr("torch.version.cuda", build)
        (found,) = needs.missing("cuda", {"nvcc": "/nvcc"})
        assert lack in found
    assert needs.missing("cpu", {"nvcc": "/nvcc"}) == []


def test_marked_step() -> None:
    """The program that ncu looks at runs."""
    command = [sys.executable, "-m", "bench.tools.gpu_check.marked_step", "1000x16x16"]
    subprocess.run([*command, "fused-adamp-cpu", "--device", "cpu"], cwd=ROOT, check=True)
