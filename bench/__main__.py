"""Command line of the benchmarks: one subcommand per question."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

from bench import growth, layer, sharding, step, targets, train
from bench.lib.gradients import OUTCOMES
from bench.lib.implementations import Skipped, implementations
from bench.lib.report import console, files, pictures, tables
from bench.lib.runners import Settings as StepSettings
from bench.lib.targets import GROUPS
from bench.lib.task_digits import Digits
from bench.lib.task_text import Text
from bench.lib.training import Task
from bench.lib.workloads import EXPECTED, GPU_ONLY, WORKLOADS, Workload
from bench.paper import command as paper
from bench.paper.experiment import Settings
from bench.paper.registry import EXPERIMENTS
from bench.study import command as study
from bench.targets_cpu import FIVE

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
    found, _ = implementations(_device("auto"))
    lines += ["", "implementations here:", *(f"  {each.key:<22} {each.label}" for each in found)]
    lines += ["", "outcomes of the projection test:"]
    lines += [f"  {outcome:<12} {meaning}" for outcome, meaning in OUTCOMES.items()]
    return "\n".join(lines)


def _step_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("--workloads", type=_names(WORKLOADS), metavar="A,B", help="only these (default: all)")
    option("--implementations", metavar="A,B", help="only these keys or patterns (fused-*)")
    option("--rounds", type=int, default=30, help="measured steps of each implementation (30)")
    option("--budget", type=float, default=6.0, help="seconds, then fewer rounds (6)")
    option("--dtype", choices=DTYPES, default="float32")
    option("--outcome", choices=OUTCOMES, default="natural", help="of the projection test")


def _train_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("--tasks", type=_names(TASKS), default=list(TASKS), metavar="A,B", help="digits,text")
    option("--epochs", type=int, default=12, help="on the digits (12)")
    option("--steps", type=int, default=400, help="on the text (400)")
    option("--limit", type=float, default=150.0, help="seconds of one training (150)")


def _targets_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option(
        "--groups", type=_names(GROUPS), metavar="A,B", help=f"only these of {', '.join(GROUPS)}"
    )
    option("--workloads", type=_names(WORKLOADS), metavar="A,B", help=f"({','.join(FIVE)})")
    option("--rounds", type=int, default=targets.ROUNDS, help=f"measured steps ({targets.ROUNDS})")


def _growth_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("--most", type=float, default=1e9, help="parameters, as memory allows (1e9)")
    option("--most-tensors", type=int, default=10_000, help="tensors (10000)")
    option("--rounds", type=int, default=growth.ROUNDS, help=f"measured steps ({growth.ROUNDS})")


def _sharding_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("--rounds", type=int, default=sharding.ROUNDS, help=f"measured ({sharding.ROUNDS})")


def _paper_command(commands: Any) -> None:
    summary = "what the AdamP paper says, measured with these optimizers, and a verdict"
    names = "\n".join(f"  {each.name:<12} {each.title}" for each in EXPERIMENTS.values())
    command = commands.add_parser(
        "paper",
        help=summary,
        description=summary,
        epilog=f"experiments:\n{names}",
        formatter_class=argparse.RawTextHelpFormatter,
    )
    option = command.add_argument
    option("--only", type=_names(EXPERIMENTS), metavar="A,B", help="only these (default: all)")
    option("--quick", action="store_true", help="fewer seeds and steps, the same pass marks")
    option("--redraw", action="store_true", help="only pictures and page, from the JSON file")
    option("--backend", choices=("cpu", "reference"), default="cpu", help="of these optimizers")
    option("--workers", type=int, default=2, help="trainings side by side, a thread each (2)")
    option("--out", help="folder for results (default: $OUT, else bench/results; quick: build)")


def _run_paper(options: argparse.Namespace) -> int:
    out = options.out
    if out is None and options.quick:
        # The committed results are those of the full form.
        out = os.environ.get("OUT") or "build/paper"
    folder = files.folder(out)
    if options.redraw:
        paper.draw(folder)
        return 0
    settings = Settings(options.quick, options.backend)
    return paper.run(options.only or list(EXPERIMENTS), settings, options.workers, folder)


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m bench", description="Benchmarks of FusedAdamP and FusedSGDP."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    measured: dict[str, tuple[str, list[Callable[[argparse.ArgumentParser], None]]]] = {
        "all": ("step, then train (the default)", [_step_options, _train_options]),
        "step": ("what one optimizer step costs on real parameter lists", [_step_options]),
        "targets": ("performance targets, the cost here, and a verdict", [_targets_options]),
        "train": ("quality on real data, and the optimizer's share of time", [_train_options]),
        "growth": ("cost by the number of parameters and of tensors", [_growth_options]),
        "sharding": ("the step of DTensors on two processes of this machine", [_sharding_options]),
    }
    epilog = _epilog()
    for name, (summary, options) in measured.items():
        command = commands.add_parser(
            name, help=summary, description=summary, epilog=epilog, formatter_class=layout
        )
        option = command.add_argument
        option("--device", type=_device, default="auto", help="auto, cpu or cuda (auto)")
        option("--threads", type=int, help="CPU threads (default: torch's own choice)")
        option("--out", help="folder for results (default: $OUT, else bench/results)")
        for add in options:
            add(command)
    summary = "one layer under AdamW and under AdamP, for the README's picture"
    command = commands.add_parser("layer", help=summary, description=summary)
    command.add_argument("--out", help="folder for results (default: $OUT, else bench/results)")
    summary = "AdamP against AdamW on a small GPT, both tuned; goes on where it was interrupted"
    command = commands.add_parser("study", help=summary, description=summary)
    command.add_argument("--quick", action="store_true", help="a few steps, as a smoke test")
    command.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    command.add_argument("--out", help="folder for results (default: bench/results)")
    _paper_command(commands)
    drawn = {
        "tables": "rewrite the tables of docs/performance.md from the JSON files",
        "pictures": "draw the README's pictures from the JSON files",
    }
    for name, summary in drawn.items():
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument("--results", type=Path, default=files.COMMITTED, help="their folder")
    return parser


def _workloads(
    names: list[str] | None, device: torch.device
) -> tuple[list[Workload], list[Skipped]]:
    if names is None:
        left_out = GPU_ONLY if device.type == "cpu" else {}
        skipped = [Skipped(name, reason) for name, reason in left_out.items()]
        return [build() for name, build in WORKLOADS.items() if name not in left_out], skipped
    return [WORKLOADS[name]() for name in names], []


def _run_step(options: argparse.Namespace, parser: argparse.ArgumentParser, out: Path) -> None:
    patterns = options.implementations.split(",") if options.implementations else None
    try:
        found, missing = implementations(options.device, patterns)
    except ValueError as error:
        parser.error(str(error))
    dtype = getattr(torch, options.dtype)
    settings = StepSettings(options.device, dtype, options.outcome, options.rounds, options.budget)
    workloads, left_out = _workloads(options.workloads, options.device)
    step.run(workloads, found, [*left_out, *missing], settings, out)


def _run_train(options: argparse.Namespace, out: Path) -> None:
    tasks: list[Task] = []
    skipped: list[Skipped] = []
    if "digits" in options.tasks:
        if importlib.util.find_spec("sklearn") is None:
            skipped.append(Skipped("digits", "needs scikit-learn (pip install scikit-learn)"))
        else:
            tasks.append(Digits(options.device, options.epochs))
    if "text" in options.tasks:
        tasks.append(Text(options.device, options.steps))
    train.run(tasks, skipped, options.device, options.limit, out)


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["all", *arguments]
    options = parser.parse_args(arguments)
    if options.command == "tables":
        return tables.run(options.results)
    if options.command == "pictures":
        return pictures.run(options.results)
    if options.command == "paper":
        return _run_paper(options)
    if options.command == "layer":
        layer.run(files.folder(options.out))
        return 0
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        if options.command == "study":
            study.run(options.quick, options.out)
            return 0
        out = files.folder(options.out)
        if options.command in ("all", "step"):
            _run_step(options, parser, out)
        if options.command in ("all", "train"):
            _run_train(options, out)
        if options.command == "targets":
            names = tuple(options.workloads or FIVE)
            targets.run(options.groups, options.device, options.rounds, names, out)
        if options.command == "sharding":
            sharding.run(options.rounds, out)
        if options.command == "growth":
            limits = int(options.most), options.most_tensors
            growth.run(options.device, options.rounds, *limits, out)
    except KeyboardInterrupt:
        console.say("interrupted; what was measured so far is on disk")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
