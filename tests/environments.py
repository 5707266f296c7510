"""Python environments that are made once and kept outside the repository, below ``~/.cache``."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Last to be written, so that an interrupted installation is not taken for a whole one.
MARK = "complete"


@contextlib.contextmanager
def own_folder(name: str) -> Iterator[Path]:
    """The folder of an environment and of what is built for it, which no other run uses now."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "adamp_fused" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def short_hash(*parts: str) -> str:
    """A name for what all the parts together decide."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def pinned(requirements: str, names: Sequence[str]) -> list[str]:
    """The lines of a requirements file that pin these packages."""
    lines = [line for line in requirements.splitlines() if re.split("[=;<> ]", line)[0] in names]
    missing = [name for name in names if not any(line.startswith(name) for line in lines)]
    if missing:
        sys.exit(f"requirements-dev.txt pins no version of {', '.join(missing)}: it is needed")
    return lines


def require_space(folder: Path, gigabytes: int) -> None:
    """End with a message where the disk is too full for the environment."""
    free = shutil.disk_usage(folder).free / 1e9
    if free < gigabytes:
        sys.exit(
            f"{folder} has {free:.1f} GB free, and the environment needs {gigabytes} GB while it "
            "is installed: make room, or set XDG_CACHE_HOME to a larger disk"
        )


def prepare(folder: Path, installs: Sequence[Sequence[str]], gigabytes: int) -> Path:
    """The environment's Python; made now unless a complete one is there.

    One environment is kept for each version of Python: one with other requirements makes way first.

    Args:
        folder: where environments are kept.
        installs: what pip is told to install, one list after the other.
        gigabytes: that have to be free.
    """
    prefix = f"env-{sys.implementation.cache_tag}-"
    name = short_hash(sys.version, *(word for install in installs for word in install))
    environment = folder / f"{prefix}{name}"
    python = environment / "bin" / "python"
    if (environment / MARK).exists():
        return python
    for old in folder.glob(f"{prefix}*"):
        shutil.rmtree(old)
    require_space(folder, gigabytes)
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    # Without a word where a package asks for other versions of what was installed before it.
    pip: list[Path | str] = [python, "-m", "pip", "install", "--quiet", "--no-warn-conflicts"]
    for install in installs:
        subprocess.run([*pip, *install], check=True)
    (environment / MARK).touch()
    return python
