"""``python -m adamp_fused stats`` and ``explain``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from typing import Any

from torch import nn

from adamp_fused.stats.invariance import explain
from adamp_fused.stats.records import writable


def add_stats(commands: Any) -> None:
    """Add ``stats RUN.jsonl [OTHER.jsonl] -o run.png`` to a command line."""
    parser = commands.add_parser("stats", help="draw what StatsWriter has recorded of a run")
    parser.add_argument("run", metavar="RUN.jsonl", help="a file of StatsWriter")
    parser.add_argument("other", metavar="OTHER.jsonl", nargs="?", help="a second run, beside it")
    parser.add_argument("-o", "--output", default="run.png", help="the picture (png, pdf, svg)")
    parser.add_argument(
        "--all", action="store_true", help="parameters of fewer than two dimensions as well"
    )
    parser.set_defaults(command_function=_stats)


def _stats(arguments: argparse.Namespace) -> None:
    from adamp_fused.stats import pictures, records

    paths = [path for path in (arguments.run, arguments.other) if path is not None]
    drawn = pictures.draw([records.read(p) for p in paths], arguments.output, arguments.all)
    print(f"{arguments.output}: {drawn['layers']} layers, {drawn['steps']} recorded steps")


def add_explain(commands: Any) -> None:
    """Add ``explain module:factory`` to a command line."""
    parser = commands.add_parser("explain", help="which weights of a model are scale-invariant")
    parser.add_argument(
        "factory",
        metavar="module:factory",
        help="a function without arguments that returns (model, inputs), (model, inputs, loss), or "
        "a model with an attribute example_input_array",
    )
    parser.add_argument("--delta", type=float, default=0.1, help="of the test (0.1)")
    parser.add_argument("--losses", type=int, default=8, help="how many random losses (8)")
    parser.add_argument("--tolerance", type=float, default=0.02, help="see explain() (0.02)")
    parser.add_argument("--json", action="store_true", help="print it for a program")
    parser.set_defaults(command_function=_explain)


def _explain(arguments: argparse.Namespace) -> None:
    model, inputs, loss = _made(arguments.factory)
    report = explain(
        model,
        inputs,
        loss=loss,
        delta=arguments.delta,
        losses=arguments.losses,
        tolerance=arguments.tolerance,
    )
    print(json.dumps(writable(report.as_dict()), indent=2) if arguments.json else report)


def _made(path: str) -> tuple[nn.Module, Any, Any]:
    """Model, inputs and loss (or None) of a factory named as ``module:function``."""
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise ValueError(
            f"{path!r} must name a function as module:function, for example mymodels:resnet"
        )
    sys.path.insert(0, os.getcwd())  # as python -m does
    factory = getattr(importlib.import_module(module_name), name, None)
    if not callable(factory):
        raise ValueError(
            f"{name!r} of {module_name} must be a function without arguments, and is {factory!r}"
        )
    made = factory()
    if isinstance(made, nn.Module):
        made = (made, getattr(made, "example_input_array", None))
    if not isinstance(made, tuple) or len(made) not in (2, 3) or made[1] is None:
        raise ValueError(
            f"{path} returned {type(made).__name__} and must return (model, inputs) or (model, "
            "inputs, loss), or a model with an attribute example_input_array"
        )
    return made if len(made) == 3 else (*made, None)
