"""Builds the real CUDA extension, imports it without a GPU and reads its machine code.

``make real-build``, or ``python -m kernels.real_build`` with ``tests`` on the path. Needs nvcc, but
no GPU. The first run takes about five minutes and 5 GB, below ``XDG_CACHE_HOME`` (``~/.cache``);
later ones compile what has changed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import environments
from kernels.real_build import build, environment, table

START = time.monotonic()


def say(text: str) -> None:
    """Print a step with the seconds so far."""
    print(f"[{time.monotonic() - START:4.0f} s] {text}", flush=True)


def figures(folder: Path) -> tuple[list[table.Row], list[str]]:
    """Build, and read what was built."""
    say(f"environment with {environment.TORCH} in {folder}")
    python = environment.prepare(folder)
    say("building and importing the extension")
    extension, runtime = build.build(python, folder)
    say("reading the machine code")
    tool = build.output_of(python, "-c", "import triton; print(triton.__path__[0])").strip()
    cuobjdump = Path(tool) / "backends" / "nvidia" / "bin" / "cuobjdump"
    return table.examine(
        build.launches(runtime),
        build.output_of(cuobjdump, "-res-usage", extension),
        build.output_of(cuobjdump, "-sass", extension),
    )


def verdict(worse: list[str], other: list[str], nvcc: str, accepted_nvcc: str) -> int:
    """Print how the figures compare with the table's; the exit status."""
    for text in other:
        print(f"differs: {text}")
    for text in worse:
        print(f"WORSE: {text}")
    if (worse or other) and nvcc != accepted_nvcc:
        print(f"the table was made with nvcc {accepted_nvcc}, this is nvcc {nvcc}")
    if worse or other:
        print(f"where the change is meant, `{table.ACCEPT}` rewrites {table.PATH.name}; commit it")
    return 1 if worse else 0


def main() -> int:
    """Run; the exit status."""
    parser = argparse.ArgumentParser(prog="real_build", description=__doc__.splitlines()[0])
    parser.add_argument("--accept", action="store_true", help="rewrite the table of figures")
    accept = parser.parse_args().accept
    nvcc = build.nvcc_version()
    with environments.own_folder("real_build") as folder:
        rows, faults = figures(folder)
    say(f"built with nvcc {nvcc}, imported without a GPU; {len(rows)} kernels:")
    print(table.markdown(rows))
    for text in faults:
        print(f"FAULT: {text}")
    if accept:
        table.PATH.write_text(table.document(rows, nvcc))
        status = 0
    else:
        before, accepted_nvcc = table.parse(table.PATH.read_text())
        status = verdict(*table.compare(rows, before), nvcc, accepted_nvcc)
    return 1 if faults else status


if __name__ == "__main__":
    sys.exit(main())
