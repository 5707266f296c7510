"""What Triton compiles and loads, and when: all of it before the first launch, and each once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adamp_fused.backends import native


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    """What the program prints, without the interpreter."""
    pytest.importorskip("triton", reason="Triton is not installed")
    if native.extension is None:
        pytest.skip(native.not_built())
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_")}
    environment |= {"TRITON_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    program = Path(__file__).with_name("triton_load.py")
    done = subprocess.run(
        [sys.executable, program, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_loaded_when_planned(tmp_path: Path) -> None:
    """A launch finds what the plan has compiled and loaded, and loads nothing."""
    found = run(tmp_path)
    assert found["events"] == ["load", "load", "planned", *["launch"] * 4]
    assert found["steps"] == [2, 2]
    # Out of Triton's cache, where a plan before has left it.
    found = run(tmp_path, "fails")
    assert found["events"] == ["load", "load", "out of resource"]
    assert found["steps"] == [0, 0]


def test_both_halves_loaded_when_planned(tmp_path: Path) -> None:
    """So do both halves of a step of tensors in parts; the second is one more launch."""
    found = run(tmp_path, "parts")
    step = ["launch", "launch", "added up", "launch", "launch"]
    assert found["events"] == [*["load"] * 4, "planned", *step, *step]
    assert found["steps"] == [2, 2]
