"""The benchmark's parameter lists are the published models', and its commands run."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench import workloads

ROOT = Path(__file__).parent.parent


def test_workloads_have_the_published_sizes() -> None:
    """Every list's number of tensors and parameters is the model's."""
    workloads.check()


@pytest.mark.parametrize("command", ["step", "train"])
def test_smallest_run(command: str, tmp_path: Path) -> None:
    """A run of a few steps writes its results."""
    sizes = ["--workloads", "1000x16x16", "--rounds", "2", "--epochs", "1", "--steps", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", command, *sizes, "--device", "cpu", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / f"cpu-{command}.json").exists()
