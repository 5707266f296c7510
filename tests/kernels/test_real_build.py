"""How `make real-build` prepares its environment and its tree; the build itself takes minutes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kernels.real_build import build, environment


def test_requirements() -> None:
    """The build's tools as pinned, and nothing else."""
    pinned = (
        "# tools\nmypy==1\nninja==2\npybind11==3\nsetuptools==4; python_version > '3'\nwheel==5"
    )
    assert environment.requirements(pinned) == [
        environment.TORCH,
        "ninja==2",
        "pybind11==3",
        "setuptools==4; python_version > '3'",
    ]
    with pytest.raises(SystemExit, match="no version of pybind11"):
        environment.requirements(pinned.replace("pybind11", "nanobind"))


def test_interrupted_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment counts only once it is complete, and makes way for the next."""
    fails_at: list[str] = ["pip"]
    ran: list[str] = []

    def run(command: list[object], check: bool) -> None:
        ran.append(str(command[2]))
        if command[2] in fails_at:
            raise KeyboardInterrupt
        if command[2] == "venv":
            Path(str(command[-1])).mkdir()

    monkeypatch.setattr(environment.subprocess, "run", run)
    monkeypatch.setattr(environment, "GIGABYTES", 0)
    with pytest.raises(KeyboardInterrupt):
        environment.prepare(tmp_path)
    fails_at.clear()
    python = environment.prepare(tmp_path)  # mkdir fails unless the rest was removed
    assert ran == ["venv", "pip", "venv", "pip", "pip"]
    assert environment.prepare(tmp_path) == python and len(ran) == 5
    monkeypatch.setattr(environment, "TORCH", "torch==0")
    assert environment.prepare(tmp_path) != python
    assert len(list(tmp_path.glob("env-*"))) == 1


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little space is an error with a remedy, before anything is installed."""
    usage = shutil.disk_usage(tmp_path)._replace(free=7_900_000_000)
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(SystemExit, match=r"7\.9 GB free.*8 GB.*XDG_CACHE_HOME"):
        environment.prepare(tmp_path)
    assert not list(tmp_path.iterdir())


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
    source = environment.ROOT / build.PROBE
    subprocess.run(["c++", "-std=c++17", "-Wall", "-Werror", "-fsyntax-only", source], check=True)
