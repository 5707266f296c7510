"""Builds the variants, lets them alternate, and prints which is fastest where."""

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

from bench.lib import machine
from bench.lib.bytes import step_bytes
from bench.lib.report import console, files
from bench.lib.workloads import WORKLOADS, Workload
from bench.tools.tune.build import Built, build
from bench.tools.tune.report import Timing, TuneReport, show
from bench.tools.tune.variants import DEFAULT, VARIANTS, Variant

METHODS = {"adamp": 2, "sgdp": 1}
"""The methods, and the states that each keeps."""

KINDS: dict[str, Callable[[bool], str]] = {
    "natural": lambda scale_invariant: "channel" if scale_invariant else "none",
    "layer": lambda _: "layer",
}
"""The outcomes of matrices: as in training with BatchNorm; layer-wise, as with GroupNorm."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A method on a workload with one kind of outcomes."""

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


def time_once(program: Path, case: Case, batches: int, steps: int) -> tuple[float, list[float]]:
    """Run the program once: memcpy bandwidth in GB/s, and a step's microseconds by batch.

    Raises:
        RuntimeError: it failed, or a tensor had another outcome.
    """
    command = [str(program), case.method, str(batches), str(steps)]
    done = subprocess.run(command, input=case.spec(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"time_step ended with {done.returncode}")
    bandwidth, *times = map(float, done.stdout.split())
    return bandwidth, times


def alternate(
    built: list[Built], case: Case, rounds: int, batches: int, steps: int, report: TuneReport
) -> None:
    """Time all variants on one case, in alternating runs."""
    found: dict[str, list[float]] = {each.variant.name: [] for each in built}
    bandwidths = []
    for _ in range(rounds):
        for each in built:
            name = each.variant.name
            try:
                bandwidth, times = time_once(each.program, case, batches, steps)
            except RuntimeError as error:
                report.failed[f"{name}, {case.title}"] = str(error)
                continue
            bandwidths.append(bandwidth)
            found[name] += times
    if not bandwidths:
        return
    report.memcpy_gbs = statistics.median(bandwidths)
    medians = {name: statistics.median(times) for name, times in found.items() if times}
    base = medians.get(DEFAULT.name, float("nan"))
    moved = step_bytes(case.workload.numel, METHODS[case.method], torch.float32)
    for name, us in medians.items():
        share = moved / us / 1e3 / report.memcpy_gbs
        report.timings.append(Timing(name, case.title, us, us / base, share, len(found[name])))


def chosen(names: str | None) -> tuple[Variant, ...]:
    """The variants with these names, and always the default.

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
    return tuple(known[name] for name in dict.fromkeys([DEFAULT.name, *wanted]))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status, 2 where something is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.tools.tune", description=__doc__)
    option = parser.add_argument
    option("--workloads", default="resnet50,gpt2-124m", help="(resnet50,gpt2-124m)")
    option("--methods", default="adamp,sgdp", help="(adamp,sgdp)")
    option("--kinds", default="natural,layer", help="(natural,layer)")
    option("--variants", help="comma-separated names (default: all)")
    option("--rounds", type=int, default=3, help="alternating runs of all variants (3)")
    option("--batches", type=int, default=10, help="timed in each run (10)")
    option("--steps", type=int, default=10, help="in a batch (10)")
    option("--arch", default="native", help="of nvcc (native: the GPU here)")
    option("--out", help="folder for results (default: $OUT, else bench/results)")
    options = parser.parse_args(arguments)
    nvcc = shutil.which("nvcc")
    if nvcc is None or not torch.cuda.is_available():
        lacks = "nvcc on PATH" if nvcc is None else "a GPU that torch can use"
        console.say(f"python -m bench.tools.tune needs {lacks}; it measures nothing without")
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
    path = files.folder(options.out) / "gpu-tune.json"
    with tempfile.TemporaryDirectory() as folder:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            ended = pool.map(lambda v: build(v, Path(folder), nvcc, options.arch), variants)
            pairs = list(zip(variants, ended, strict=True))
        built = [one for _, one in pairs if isinstance(one, Built)]
        report.failed |= {variant.name: one for variant, one in pairs if isinstance(one, str)}
        report.registers = {one.variant.name: one.registers for one in built}
        report.spilled_bytes = {one.variant.name: one.spilled for one in built}
        for case in cases:
            alternate(built, case, options.rounds, options.batches, options.steps, report)
            files.write(path, report)  # what comes after may run out of time
            console.say(f"  measured: {case.title}", console.DIM)
    show(report, variants)
    console.say(f"  results: {path}", console.DIM)
    return 1 if report.failed or not report.timings else 0


if __name__ == "__main__":
    sys.exit(main())
