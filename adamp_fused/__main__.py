"""``python -m adamp_fused``: ``info``, ``stats`` and ``explain``.

``info [--json]``: what was built, each device's backend. ``stats RUN.jsonl [OTHER.jsonl]``: draws
what StatsWriter has recorded. ``explain module:factory``: which weights are scale-invariant.
"""

from __future__ import annotations

import argparse
import json

from adamp_fused import _info
from adamp_fused.stats import commands as stats_commands


def main() -> None:
    """Parse the command line and run what it asks for; errors of the input are one line."""
    parser = argparse.ArgumentParser(prog="python -m adamp_fused")
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="versions, what was built, the backend of each device")
    info.add_argument("--json", action="store_true", help="print it for a program")
    info.set_defaults(command_function=_print_info)
    stats_commands.add_stats(commands)
    stats_commands.add_explain(commands)
    arguments = parser.parse_args()
    try:
        arguments.command_function(arguments)
    except (TypeError, ValueError, RuntimeError, ImportError, OSError) as error:
        parser.exit(1, f"{parser.prog} {arguments.command}: {error}\n")


def _print_info(arguments: argparse.Namespace) -> None:
    collected = _info.collect()
    print(json.dumps(collected, indent=2) if arguments.json else _info.as_text(collected))


main()
