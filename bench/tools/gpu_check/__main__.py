"""Command line of ``make gpu-check``."""

from __future__ import annotations

import argparse
import sys

from bench.lib.report import console
from bench.tools.gpu_check import needs


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status, 2 where something is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.tools.gpu_check",
        description="All that needs a GPU: build, tests, sanitizers, counts, benchmark.",
    )
    option = parser.add_argument
    option("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try the command")
    option("--limit", type=float, default=530.0, help="seconds for everything (530)")
    option("--rounds", type=int, default=20, help="measured steps of each implementation (20)")
    option("--workloads", help="comma-separated parameter lists (default: all)")
    option("--stages", default="*", help="comma-separated patterns of their names (default: all)")
    option("--python", default=sys.executable, help="the Python of the stages (this one)")
    option("--out", help="folder for results (default: $OUT, else bench/results)")
    options = parser.parse_args(arguments)
    tools = needs.find_tools()
    lacks = needs.missing(options.device, tools)
    if lacks:
        console.say("make gpu-check needs, and does not find:")
        for lack in lacks:
            console.say(f"  {lack}")
        return 2
    # Imports torch, which is known to be there now.
    from bench.tools.gpu_check import command

    return command.run(options, tools)


if __name__ == "__main__":
    sys.exit(main())
