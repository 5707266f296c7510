"""Makes the environment of the frameworks, and runs their tests in it.

``make test-frameworks``, or ``python -m frameworks --torch 2.13.0`` with ``tests`` on the path. The
environment lies below ``XDG_CACHE_HOME`` (``~/.cache``) and is made anew where a version changes.
The tests step with the extension in this tree, so with the torch that it was built for.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import environments

FOLDER = Path(__file__).parent
FROM_DEV = ("adamp", "numpy", "pytest")
# 1.4 GB once installed, where torch is a build for CPUs.
GIGABYTES = 3


def packages(file: str) -> list[str]:
    """The lines of a requirements file here, without comments."""
    lines = (line.split("#")[0].strip() for line in (FOLDER / file).read_text().splitlines())
    return [line for line in lines if line]


def main() -> int:
    """Run; the exit status of the tests."""
    parser = argparse.ArgumentParser(prog="frameworks", description=__doc__.splitlines()[0])
    parser.add_argument("--torch", required=True, help="the version that the extension is made for")
    known, arguments = parser.parse_known_args()
    dev = (environments.ROOT / "requirements-dev.txt").read_text()
    torch = f"torch=={known.torch}"
    installs = (
        [torch],
        # Named again, so that no package brings another one.
        [torch, *environments.pinned(dev, FROM_DEV), *packages("requirements.txt")],
        ["--no-deps", *packages("torchtitan.txt")],
    )
    with environments.own_folder("frameworks") as folder:
        start = time.monotonic()
        python = environments.prepare(folder, installs, GIGABYTES)
        print(f"[{time.monotonic() - start:4.0f} s] environment in {python.parent}", flush=True)
        # What the frameworks warn of are their own affairs, a page of them.
        tests = [python, "-m", "pytest", "--disable-warnings", FOLDER, *arguments]
        return subprocess.run(tests, cwd=environments.ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
