"""``python -m adamp_fused info [--json]``: what was built, each device's backend."""

from __future__ import annotations

import argparse
import json

from adamp_fused import _info


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(prog="python -m adamp_fused")
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="versions, what was built, the backend of each device")
    info.add_argument("--json", action="store_true", help="print it for a program")
    arguments = parser.parse_args()
    collected = _info.collect()
    print(json.dumps(collected, indent=2) if arguments.json else _info.as_text(collected))


main()
