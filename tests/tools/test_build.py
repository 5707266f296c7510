"""What the build does with each ADAMP_FUSED_BUILD, and the package without its extension."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what an installation needs, without anything compiled."""
    for name in ("adamp_fused", "csrc"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def run(tree: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the tree; CUDA toolkits are out of sight unless the test names one."""
    env = {k: v for k, v in os.environ.items() if k not in ("CXX", "CUDA_HOME", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=env | environment,
        capture_output=True,
        text=True,
    )


def test_unknown_choice(tree: Path) -> None:
    """A misspelt choice is an error that lists the choices."""
    done = run(tree, "setup.py", "build_ext", ADAMP_FUSED_BUILD="gpu")
    assert done.returncode != 0
    assert "ADAMP_FUSED_BUILD='gpu'" in done.stderr and "auto, cpu, cuda, none" in done.stderr


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is a CUDA build")
def test_cuda_asked_for_and_impossible(tree: Path) -> None:
    """Asking for CUDA with a CPU build of torch is an error, not a CPU build."""
    done = run(tree, "setup.py", "build_ext", ADAMP_FUSED_BUILD="cuda")
    assert done.returncode != 0
    assert "needs a CUDA build of torch" in done.stderr and "ADAMP_FUSED_BUILD=cpu" in done.stderr


@pytest.mark.parametrize("choice", ["auto", "cpu"])
def test_failing_compiler_is_an_error(tree: Path, choice: str) -> None:
    """A compiler that is there and fails ends the build."""
    done = run(tree, "setup.py", "build_ext", "--inplace", ADAMP_FUSED_BUILD=choice, CXX="false")
    assert done.returncode != 0


def test_build_says_for_which_torch(tree: Path) -> None:
    """With build isolation it is not the one that is installed."""
    done = run(tree, "setup.py", "build_ext", ADAMP_FUSED_BUILD="cpu", CXX="false")
    assert f"building CPU kernels for torch {torch.__version__}\n" in done.stderr


@pytest.mark.parametrize(
    "environment",
    [{"ADAMP_FUSED_BUILD": "none"}, {"ADAMP_FUSED_BUILD": "auto", "CXX": "no-such-compiler"}],
    ids=["none", "no compiler"],
)
def test_without_extension(tree: Path, environment: dict[str, str]) -> None:
    """Nothing is compiled; the package says so once and steps on the reference."""
    built = run(tree, "setup.py", "build_ext", "--inplace", **environment)
    assert built.returncode == 0, built.stderr
    assert not list(tree.glob("adamp_fused/*.so"))
    program = (
        "import torch, adamp_fused\n"
        "for _ in range(2):\n"
        "    p = torch.nn.Parameter(torch.ones(3, 4)); p.grad = torch.ones(3, 4)\n"
        "    adamp_fused.FusedAdamP([p]).step()\n"
        "    adamp_fused.FusedSGDP([p]).step()\n"
    )
    done = run(tree, "-c", program, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("with the reference backend") == 1
    assert "pip install --no-build-isolation" in done.stderr
    info = json.loads(run(tree, "-m", "adamp_fused", "info", "--json").stdout)
    assert info["devices"]["cpu"]["backend"] == "reference"
    why = info["devices"]["cpu"]["why not better"]["cpu"]
    assert "not built (No module named 'adamp_fused._C')" in why
    # Whoever has installed the package and is still in the clone has to be told.
    assert f"start Python elsewhere, since in {tree} it imports the sources" in why


def test_type_hints_are_installed(tree: Path) -> None:
    """The mark by which type checkers read the hints of an installed package goes with it."""
    built = run(tree, "setup.py", "build_py", "--build-lib", "lib", ADAMP_FUSED_BUILD="none")
    assert built.returncode == 0, built.stderr
    assert (tree / "lib/adamp_fused/py.typed").exists()


def test_info_names_what_was_built() -> None:
    """In this tree the CPU kernels are there, and the text says the same as the JSON."""
    info = json.loads(run(ROOT, "-m", "adamp_fused", "info", "--json").stdout)
    assert "cpu" in info["built"]["kernels"]
    assert info["devices"]["cpu"]["backend"] == "cpu"
    text = run(ROOT, "-m", "adamp_fused", "info").stdout
    assert torch.__version__ in text and info["built"]["CPU level"] in text
