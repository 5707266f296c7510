"""Builds the variants, lets them take turns, and prints which is fastest where."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from bench import console, machine, results
from bench.harness import step_bytes
from bench.tune.build import Built, build
from bench.tune.variants import AS_IS, VARIANTS, Variant
from bench.workloads import WORKLOADS, Workload

METHODS = {"adamp": 2, "sgdp": 1}
"""The methods, and the states that each keeps."""

KINDS: dict[str, Callable[[bool], str]] = {
    "natural": lambda scale_invariant: "channel" if scale_invariant else "none",
    "layer": lambda _: "layer",
}
"""What matrices come out as: as in training with BatchNorm; as with GroupNorm, by layer."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A method on a workload, whose matrices come out in one way."""

    method: str
    workload: Workload
    kind: str

    @property
    def title(self) -> str:
        """In a table."""
        return f"{self.workload.title}, {self.method}, {self.kind}"

    def spec(self) -> str:
        """The list that ``time_step`` reads."""
        lines = []
        for weight in self.workload.weights:
            rows = weight.shape[0] if len(weight.shape) > 1 else 1
            outcome = KINDS[self.kind](weight.scale_invariant) if len(weight.shape) > 1 else "off"
            numel = torch.Size(weight.shape).numel()
            lines.append(f"{rows} {numel // rows} {outcome}\n")
        return "".join(lines)


@dataclasses.dataclass(frozen=True)
class Timing:
    """One variant on one case: the median step, and its bytes over the copy rate."""

    variant: str
    case: str
    microseconds: float
    ratio: float
    copy_share: float
    batches: int


@dataclasses.dataclass
class TuneReport:
    """The content of a JSON file; ``ratio`` is to the kernels as they are."""

    machine: dict[str, str | int | float | None]
    copy_rate_gbs: float = 0.0
    registers: dict[str, int] = dataclasses.field(default_factory=dict)
    spilled_bytes: dict[str, int] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    timings: list[Timing] = dataclasses.field(default_factory=list)


def time_once(program: Path, case: Case, batches: int, steps: int) -> tuple[float, list[float]]:
    """Run the program once: the copy rate in GB/s, and a step's microseconds for each batch.

    Raises:
        RuntimeError: it failed, or a tensor came out as something else.
    """
    command = [str(program), case.method, str(batches), str(steps)]
    done = subprocess.run(command, input=case.spec(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"time_step ended with {done.returncode}")
    rate, *times = map(float, done.stdout.split())
    return rate, times


def take_turns(
    built: list[Built], case: Case, rounds: int, batches: int, steps: int, report: TuneReport
) -> None:
    """Time all variants on one case, one after the other, several times round."""
    found: dict[str, list[float]] = {each.variant.name: [] for each in built}
    rates = []
    for _ in range(rounds):
        for each in built:
            name = each.variant.name
            try:
                rate, times = time_once(each.program, case, batches, steps)
            except RuntimeError as error:
                report.failed[f"{name}, {case.title}"] = str(error)
                continue
            rates.append(rate)
            found[name] += times
    if not rates:
        return
    report.copy_rate_gbs = statistics.median(rates)
    medians = {name: statistics.median(times) for name, times in found.items() if times}
    base = medians.get(AS_IS.name, float("nan"))
    moved = step_bytes(case.workload.numel, METHODS[case.method], torch.float32)
    for name, us in medians.items():
        share = moved / us / 1e3 / report.copy_rate_gbs
        report.timings.append(Timing(name, case.title, us, us / base, share, len(found[name])))


def show(report: TuneReport, variants: tuple[Variant, ...]) -> None:
    """Print a table: variants down, cases across."""
    cases = list(dict.fromkeys(timing.case for timing in report.timings))
    cells = {(timing.variant, timing.case): timing for timing in report.timings}
    best = {case: min(t.microseconds for t in report.timings if t.case == case) for case in cases}
    rows: list[list[str]] = []
    bold: set[int] = set()
    for variant in variants:
        row = [variant.name, str(report.registers.get(variant.name, "-"))]
        row.append(str(report.spilled_bytes.get(variant.name, "-")))
        for case in cases:
            timing = cells.get((variant.name, case))
            if timing is None:
                row.append("-")
                continue
            row.append(f"{timing.microseconds:,.0f} {timing.ratio:.3f} {timing.copy_share:.0%}")
            if timing.microseconds == best[case]:
                bold.add(len(rows))
        rows.append(row)
    notes = [
        f"microseconds a step, ratio to the first row, share of {report.copy_rate_gbs:,.0f} GB/s"
    ]
    notes += [f"{what}: {why.splitlines()[-1]}" for what, why in report.failed.items()]
    console.table("Variants", ["variant", "registers", "spilled", *cases], rows, notes, bold)


def chosen(names: str | None) -> tuple[Variant, ...]:
    """The variants with these names, and always the kernels as they are.

    Raises:
        ValueError: a name is not known.
    """
    if names is None:
        return VARIANTS
    known = {variant.name: variant for variant in VARIANTS}
    wanted = [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"no variant {unknown[0]!r}; there are: {', '.join(known)}")
    return tuple(dict.fromkeys((AS_IS, *(known[name] for name in wanted))))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status, 2 where something is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.tune", description=__doc__)
    option = parser.add_argument
    option("--workloads", default="resnet50,gpt2-124m", help="(resnet50,gpt2-124m)")
    option("--methods", default="adamp,sgdp", help="(adamp,sgdp)")
    option("--kinds", default="natural,layer", help="(natural,layer)")
    option("--variants", help="comma-separated names (default: all)")
    option("--rounds", type=int, default=3, help="times round all variants (3)")
    option("--batches", type=int, default=10, help="timed in each run (10)")
    option("--steps", type=int, default=10, help="in a batch (10)")
    option("--arch", default="native", help="of nvcc (native: the GPU here)")
    option("--out", help="folder for results (default: $OUT, else bench/results)")
    options = parser.parse_args(arguments)
    nvcc = shutil.which("nvcc")
    if nvcc is None or not torch.cuda.is_available():
        lacks = "nvcc on PATH" if nvcc is None else "a GPU that torch can use"
        console.say(f"python -m bench.tune needs {lacks}; it measures nothing without")
        return 2
    try:
        variants = chosen(options.variants)
    except ValueError as error:
        parser.error(str(error))
    cases = [
        Case(method, WORKLOADS[name](), kind)
        for name in options.workloads.split(",")
        for method in options.methods.split(",")
        for kind in options.kinds.split(",")
    ]
    report = TuneReport(machine.describe(torch.device("cuda")))
    path = results.folder(options.out) / "gpu-tune.json"
    with tempfile.TemporaryDirectory() as folder:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            ended = pool.map(lambda v: build(v, Path(folder), nvcc, options.arch), variants)
            pairs = list(zip(variants, ended, strict=True))
        built = [one for _, one in pairs if isinstance(one, Built)]
        report.failed |= {variant.name: one for variant, one in pairs if isinstance(one, str)}
        report.registers = {one.variant.name: one.registers for one in built}
        report.spilled_bytes = {one.variant.name: one.spilled for one in built}
        for case in cases:
            take_turns(built, case, options.rounds, options.batches, options.steps, report)
            results.write(path, report)  # what comes after may run out of time
            console.say(f"  measured: {case.title}", style="dim")
    show(report, variants)
    console.say(f"  results: {path}", style="dim")
    return 1 if report.failed or not report.timings else 0


if __name__ == "__main__":
    sys.exit(main())
