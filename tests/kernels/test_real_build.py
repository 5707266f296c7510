"""How `make real-build` prepares its tree; the build itself takes minutes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from environments import ROOT
from kernels.real_build import build


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing nvcc is an error that says what to install."""
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(SystemExit, match=r"install the CUDA toolkit 13\.0"):
        build.find_nvcc()


def test_failing_command() -> None:
    """What a command wrote is shown, and the command."""
    with pytest.raises(SystemExit, match=r"(?s)words.*failed \(3\): sh"):
        build.output_of("sh", "-c", "echo words; exit 3")


def test_synchronise(tmp_path: Path) -> None:
    """A copy follows its source; what has not changed is not touched."""
    root, tree = tmp_path / "root", tmp_path / "tree"
    for name in ("setup.py", "pyproject.toml", "README.md", "csrc/a.h", "csrc/cuda/b.cu"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    build.synchronise(root, tree)
    built = tree / "adamp_fused" / "_C.so"
    built.parent.mkdir()
    built.touch()
    os.utime(tree / "csrc/a.h", (1, 1))
    (root / "csrc/cuda/b.cu").write_text("changed")
    (root / "csrc/a.h").touch()
    build.synchronise(root, tree)
    assert (tree / "csrc/cuda/b.cu").read_text() == "changed"
    assert (tree / "csrc/a.h").stat().st_mtime == 1 and built.exists()
    (root / "csrc/a.h").unlink()
    build.synchronise(root, tree)
    assert not (tree / "csrc/a.h").exists() and (tree / "csrc/cuda/b.cu").exists()


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_launch_probe_compiles() -> None:
    """The probe knows today's runtime.h; it is linked where the kernels are built."""
    source = ROOT / build.PROBE
    subprocess.run(["c++", "-std=c++17", "-Wall", "-Werror", "-fsyntax-only", source], check=True)
