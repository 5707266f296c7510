"""What is checked, in order: each stage's command, its share of the time and its judge."""

from __future__ import annotations

import fnmatch
import functools
import statistics

import torch

from bench.lib.bytes import step_bytes
from bench.lib.implementations import ADAM
from bench.lib.report import files
from bench.lib.workloads import EXPECTED
from bench.tools.gpu_check import counts, verdicts
from bench.tools.gpu_check.process import Ended
from bench.tools.gpu_check.stage import Setup, Stage
from bench.tools.gpu_check.verdicts import FAIL, NOT_AVAILABLE, PASS, Verdict

SANITIZERS = {"memcheck": 30, "racecheck": 30, "synccheck": 12, "initcheck": 12}
"""compute-sanitizer's tools and their shares in seconds."""

ONE_KERNEL = ("--kernel-name", "kernel_substring=step_kernel")
PROFILED = ("resnet50", "gpt2-124m")
SLACK = 1.1
"""How much more memory traffic than the byte model still counts as one pass."""


def build(setup: Setup) -> Stage:
    """In place, for this device's architecture only."""

    def judge(ended: Ended) -> Verdict:
        return verdicts.failed(ended) or Verdict(PASS, f"{setup.arch}, {ended.seconds:.0f} s")

    environment = {
        "ADAMP_FUSED_BUILD": setup.device,
        "TORCH_CUDA_ARCH_LIST": setup.arch,
        "MAX_JOBS": str(setup.cores),
    }
    command = [setup.python, "setup.py", "build_ext", "--inplace"]
    return Stage("build", command, "build.txt", 80, judge, environment)


def launches(setup: Setup) -> Stage:
    """Launches and waits of a step."""
    chosen = [name for name in counts.LISTS if name in setup.workloads]
    program = [setup.python, "-m", "bench.tools.gpu_check.counts"]
    command = [*program, *chosen, "--device", setup.device]
    return Stage("launches, waits a step", command, "profile.txt", 60, counts.judge)


def sanitizer(setup: Setup, tool: str, share: float) -> Stage:
    """One tool of compute-sanitizer on the small plan."""
    name, program = f"compute-sanitizer {tool}", setup.tools["compute-sanitizer"]
    command = [
        *(str(program), "--tool", tool, "--error-exitcode", "99"),
        # torch asks the driver for functions that may not be there; that is no error of a kernel.
        *("--report-api-errors", "no"),
        # Memory that a kernel fills which initcheck does not watch counts as never written.
        *(ONE_KERNEL if tool not in ("memcheck", "initcheck") else ()),
        *(setup.python, "-m", "kernels.small_plan", setup.backend),
    ]
    # Each tensor an allocation of its own: what lies behind it belongs to nobody.
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    lacking = None if program else Verdict(FAIL, "compute-sanitizer is not installed")
    judge = verdicts.judge_sanitizer
    return Stage(name, command, "sanitizer.txt", share, judge, environment, lacking)


def tests(setup: Setup, name: str, which: str, share: float) -> Stage:
    """The test suite on the device, without what is long work for the CPU alone."""
    workers = max(1, min(12, setup.cores - 2))
    command = [
        *(setup.python, "-m", "pytest", "-q", "-rfEs", "--tb=short", "-p", "no:cacheprovider"),
        *("-n", str(workers), "--dist", "worksteal"),
        # Compiling for other devices, and the kernels on the CPU, need no GPU.
        *(
            f"--ignore-glob=*/test_{name}*"
            for name in ("emulation_", "ptx", "triton_ahead", "instruction_sets", "cpu_")
        ),
        *("-k", f"not emulated and {which}"),
        # A kernel that hangs costs its own test, not the rest.
        *("-o", "faulthandler_timeout=120", "-o", "faulthandler_exit_on_timeout=true"),
    ]
    needed = ("reference", "cpu", *(("triton", "cuda") if setup.device == "cuda" else ()))
    environment = {
        "ADAMP_FUSED_TEST_REQUIRE": ",".join(needed),
        "OMP_NUM_THREADS": str(max(1, setup.cores // workers)),
    }
    return Stage(name, command, "tests.txt", share, verdicts.judge_tests, environment)


def benchmark(setup: Setup) -> Stage:
    """Step times against torch's fused optimizers."""
    ours = "fused-*-cuda,fused-*-triton" if setup.device == "cuda" else f"fused-*-{setup.backend}"
    command = [
        *(setup.python, "-m", "bench", "step", "--device", setup.device),
        *("--workloads", ",".join(setup.workloads), "--implementations", f"torch-*,{ours}"),
        *("--rounds", str(setup.rounds), "--budget", "2", "--out", str(setup.out)),
    ]
    prefix = files.device_prefix(torch.device(setup.device))
    path = setup.out / f"{prefix}-step.json"

    def judge(ended: Ended) -> Verdict:
        report = files.read(path) or {"workloads": []}
        rows = [row for workload in report["workloads"] for row in workload["rows"]]
        key = f"fused-adamp-{setup.backend}"
        ratios = [
            row["kernel_ratio"] or row["ratio"] for row in rows if row["implementation"] == key
        ]
        missing = len(setup.workloads) - len(ratios)
        figure = (
            f"{key} at {min(ratios):.2f} to {max(ratios):.2f}x of {ADAM.baseline}, median "
            f"{statistics.median(ratios):.2f}x, {len(ratios)} lists"
            if ratios
            else "nothing measured"
        )
        badly = verdicts.failed(ended)
        if badly is not None:
            return Verdict(FAIL, f"{figure}; {badly.figure}")
        return Verdict(FAIL if missing else PASS, figure)

    makes = (path.name, path.with_suffix(".png").name)
    return Stage("benchmark", command, "bench.txt", 95, judge, makes=makes)


def dram(setup: Setup, workload: str, implementation: str, ours: bool) -> Stage:
    """Bytes through the device's memory in one step, by its own counters."""
    parameters = EXPECTED[workload][1]
    most = SLACK * step_bytes(1, ADAM.states, torch.float32) if ours else None
    program = setup.tools["ncu"]
    command = [
        *(str(program), "--csv", "--page", "raw", "--print-units", "base"),
        *("--metrics", f"{verdicts.READ},{verdicts.WRITTEN}"),
        # The clocks stay as they are, and only the marked step is looked at.
        *("--clock-control", "none", "--profile-from-start", "off"),
        *(setup.python, "-m", "bench.tools.gpu_check.marked_step", workload, implementation),
        *("--device", setup.device),
    ]
    name = f"DRAM, {workload}, {implementation}"
    judge = functools.partial(verdicts.judge_dram, parameters=parameters, most=most)
    lacking = None if program else Verdict(NOT_AVAILABLE, "ncu is not installed")
    return Stage(name, command, "profile.txt", 14, judge, lacking=lacking)


def all_stages(setup: Setup) -> list[Stage]:
    """Every stage; the quick ones that say most come first."""
    ours = f"fused-adamp-{setup.backend}"
    profiled = [name for name in PROFILED if name in setup.workloads]
    return [
        build(setup),
        launches(setup),
        *(sanitizer(setup, tool, share) for tool, share in SANITIZERS.items()),
        tests(setup, "tests on the device", "not triton", 90),
        # By itself, since most of its time goes to compiling one kernel for many shapes.
        tests(setup, "tests on the device, triton", "triton", 60),
        benchmark(setup),
        *(dram(setup, name, ours, ours=True) for name in profiled),
        *(dram(setup, name, ADAM.baseline, ours=False) for name in profiled),
    ]


def chosen(patterns: str, setup: Setup) -> list[Stage]:
    """The stages whose names match one of the comma-separated patterns, as a shell would.

    Raises:
        ValueError: a pattern matches none.
    """
    found = all_stages(setup)
    wanted: set[str] = set()
    for pattern in patterns.split(","):
        names = fnmatch.filter([stage.name for stage in found], pattern.strip())
        if not names:
            there = "; ".join(stage.name for stage in found)
            raise ValueError(f"no stage matches {pattern.strip()!r}; there are: {there}")
        wanted.update(names)
    return [stage for stage in found if stage.name in wanted]
