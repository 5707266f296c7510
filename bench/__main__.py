"""Command line of the benchmarks."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Collection
from pathlib import Path

import torch

from bench import (
    console,
    contenders,
    growth,
    pictures,
    price,
    readme_tables,
    results,
    roofline_paper,
    step,
    train,
)
from bench.contenders import Skipped
from bench.gradients import OUTCOMES
from bench.price_rows import FIVE, GROUPS
from bench.train_digits import Digits
from bench.train_text import Text
from bench.turns import Settings
from bench.workloads import EXPECTED, GPU_ONLY, WORKLOADS, Workload

DTYPES = ("float32", "float64", "bfloat16", "float16")
TASKS = ("digits", "text")


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    """A parser of comma-separated names out of ``known``."""

    def parse(text: str) -> list[str]:
        names = [part.strip() for part in text.split(",")]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{name!r} is none of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("torch finds no GPU here: use cpu")
    return torch.device(name)


def _epilog() -> str:
    lines = ["workloads (tensors, parameters):"]
    for name, (tensors, numel) in EXPECTED.items():
        remark = "  not on a CPU unless named" if name in GPU_ONLY else ""
        lines.append(f"  {name:<12} {tensors:>5,} {numel:>15,}{remark}")
    found, _ = contenders.contenders(_device("auto"))
    lines += ["", "contenders here:", *(f"  {c.key:<22} {c.label}" for c in found)]
    lines += ["", "outcomes:"]
    lines += ["  natural      as in training: weights before a BatchNorm are projected by channel;"]
    lines += ["               other matrices by layer, by chance, in 2 % of steps"]
    lines += ["  projected    every matrix by channel", "  unprojected  none"]
    lines += ["  alternating  matrices in turn by channel and not at all"]
    lines += ["  mixed        matrices in turn by layer, by channel and not at all"]
    return "\n".join(lines)


COMMANDS = {
    "all": "step, then train (the default)",
    "step": "what one optimizer step costs on real parameter lists",
    "train": "training on real data: quality, and the optimizer's share of the time",
    "price": "what a step may cost at most, what it costs here, and a verdict",
    "growth": "how cost grows with the number of parameters and of tensors",
    "roofline": "write what is to be expected of large GPUs, a calculation",
    "tables": "rewrite the tables of docs/performance.md from the JSON files",
    "pictures": "draw the README's pictures from the JSON files",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Benchmarks of FusedAdamP and FusedSGDP.",
        epilog=_epilog(),
        formatter_class=argparse.RawTextHelpFormatter,
    )
    summaries = "\n".join(f"{name:<8} {summary}" for name, summary in COMMANDS.items())
    option = parser.add_argument
    option("command", nargs="?", choices=COMMANDS, default="all", metavar="COMMAND", help=summaries)
    option(
        "--device", type=_device, default="auto", help="auto (a GPU if there is one), cpu or cuda"
    )
    option("--threads", type=int, help="CPU threads (default: torch's own choice)")
    option("--out", help="folder for results (default: $OUT, else bench/results)")

    option = parser.add_argument_group("step").add_argument
    option("--workloads", type=_names(WORKLOADS), metavar="A,B", help="only these (default: all)")
    option("--contenders", metavar="A,B", help="only these keys or patterns (fused-*)")
    option("--rounds", type=int, help="measured steps of each contender (30; price 20, growth 10)")
    option("--budget", type=float, default=6.0, help="seconds, then a contender gets fewer (6)")
    option("--dtype", choices=DTYPES, default="float32")
    option("--outcome", choices=OUTCOMES, default="natural", help="what the projection test finds")

    option = parser.add_argument_group("price").add_argument
    option("--rows", type=_names(GROUPS), metavar="A,B", help=f"only these of {', '.join(GROUPS)}")

    option = parser.add_argument_group("growth").add_argument
    option("--most", type=float, default=1e9, help="parameters, as memory allows (1e9)")
    option("--most-tensors", type=int, default=10_000, help="tensors (10000)")

    option = parser.add_argument_group("train").add_argument
    option("--tasks", type=_names(TASKS), default=list(TASKS), metavar="A,B", help="digits,text")
    option("--epochs", type=int, default=12, help="on the digits (12)")
    option("--steps", type=int, default=400, help="on the text (400)")
    option("--limit", type=float, default=150.0, help="seconds, then a training stops early (150)")

    option = parser.add_argument_group("tables").add_argument
    option(
        "--readme",
        type=Path,
        default=Path("docs/performance.md"),
        help="file to rewrite (docs/performance.md)",
    )
    option("--results", type=Path, default=results.COMMITTED, help="folder of the JSON files")
    option("--check", action="store_true", help="change nothing, fail if out of date")
    return parser


def _workloads(
    names: list[str] | None, device: torch.device
) -> tuple[list[Workload], list[Skipped]]:
    if names is None:
        left_out = GPU_ONLY if device.type == "cpu" else {}
        skipped = [Skipped(name, reason) for name, reason in left_out.items()]
        return [build() for name, build in WORKLOADS.items() if name not in left_out], skipped
    return [WORKLOADS[name]() for name in names], []


def _tasks(
    options: argparse.Namespace, device: torch.device
) -> tuple[list[train.Task], list[Skipped]]:
    tasks: list[train.Task] = []
    skipped: list[Skipped] = []
    if "digits" in options.tasks:
        if importlib.util.find_spec("sklearn") is None:
            skipped.append(Skipped("digits", "needs scikit-learn (pip install scikit-learn)"))
        else:
            tasks.append(Digits(device, options.epochs))
    if "text" in options.tasks:
        tasks.append(Text(device, options.steps))
    return tasks, skipped


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "tables":
        return readme_tables.run(options.readme, options.results, options.check)
    if options.command == "pictures":
        return pictures.run(options.results)
    if options.command == "roofline":
        return roofline_paper.run()
    device: torch.device = options.device
    patterns = options.contenders.split(",") if options.contenders else None
    try:
        found, missing = contenders.contenders(device, patterns)
    except ValueError as error:
        parser.error(str(error))
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    out = results.folder(options.out)
    try:
        if options.command in ("all", "step"):
            dtype = getattr(torch, options.dtype)
            rounds = options.rounds or 30
            settings = Settings(device, dtype, options.outcome, rounds, options.budget)
            workloads, left_out = _workloads(options.workloads, device)
            step.run(workloads, found, [*left_out, *missing], settings, out)
        if options.command in ("all", "train"):
            train.run(*_tasks(options, device), device, options.limit, out)
        if options.command == "price":
            names = tuple(options.workloads or FIVE)
            price.run(options.rows, device, options.rounds or price.ROUNDS, names, out)
        if options.command == "growth":
            rounds = options.rounds or growth.ROUNDS
            growth.run(device, rounds, int(options.most), options.most_tensors, out)
    except KeyboardInterrupt:
        console.say("interrupted; what was measured so far is on disk")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
