"""An extension that was built for another torch is not loaded, and what is said then."""

import importlib.machinery
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adamp_fused import _built_for
from adamp_fused._built_for import BuiltFor
from adamp_fused.backends import native

ROOT = Path(__file__).resolve().parents[2]

# Built for (torch, CUDA), running (torch, CUDA): see the table in _built_for.
SERVES = {
    "the same": (("2.13.0+cpu", None), ("2.13.0+cpu", None)),
    "a later patch": (("2.13.0", None), ("2.13.1", None)),
    "without the patch": (("2.13", None), ("2.13.0", None)),
    "CPU kernels, CUDA torch": (("2.13.0+cpu", None), ("2.13.0+cu130", "13.0")),
    "CPU kernels, CPU torch": (("2.13.0+cu130", None), ("2.13.0+cpu", None)),
    "a later minor CUDA": (("2.13.0+cu130", "13.0"), ("2.13.1+cu132", "13.2")),
    "the same nightly": (("2.13.0.dev20260101+cpu", None), ("2.13.0.dev20260101+cpu", None)),
}
# And what the reason says.
DOES_NOT = {
    "another minor": (("2.11.0+cpu", None), ("2.13.0+cpu", None), "torch 2.11.0+cpu, "),
    "another major": (("2.13.0", None), ("3.13.0", None), "this is torch 3.13.0"),
    "a longer minor": (("2.1.0", None), ("2.13.0", None), "torch 2.1.0, "),
    "CUDA kernels, CPU torch": (
        ("2.13.0+cu130", "13.0"),
        ("2.13.0+cpu", None),
        "CUDA 13.0, and this torch, 2.13.0+cpu, has no CUDA",
    ),
    "another major CUDA": (
        ("2.13.0+cu128", "12.8"),
        ("2.13.0+cu130", "13.0"),
        "CUDA 12.8, and this torch has CUDA 13.0",
    ),
    "another nightly": (("2.13.0.dev20260101", None), ("2.13.0.dev20260102", None), "0102"),
    "a candidate": (("2.13.0rc1", None), ("2.13.0", None), "torch 2.13.0rc1, "),
    "a build of one's own": (("2.13.0a0+git012", None), ("2.13.0a0+git654", None), "git654"),
}


@pytest.mark.parametrize("name", SERVES)
def test_differences_that_do_not_matter(name: str) -> None:
    """The module is loaded."""
    built, running = SERVES[name]
    assert BuiltFor(*built).why_not(*running) is None


@pytest.mark.parametrize("name", DOES_NOT)
def test_differences_that_matter(name: str) -> None:
    """The reason names both sides."""
    built, running, words = DOES_NOT[name]
    why_not = BuiltFor(*built).why_not(*running)
    assert why_not is not None and words in why_not


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("cuda", [None, "13.0"])
def test_line_is_found_in_a_file(tmp_path: Path, cuda: str | None, debug: bool) -> None:
    """Wherever it stands, also beside words like its own."""
    built_for = BuiltFor("2.13.0a0+git12.nv25", cuda, debug)
    path = tmp_path / "module"
    for before in (b"", b"\0;" * 5000):
        path.write_bytes(before + built_for.line().encode() + b"\0torch 1.0, CUDA none, debug no;")
        assert _built_for.read(path) == built_for
    path.write_bytes(b"\x7fELF" + _built_for.MARK.encode() + b"\xff\0")
    assert _built_for.read(path) is None
    path.write_bytes(b"\x7fELF" + bytes(5000))
    assert _built_for.read(path) is None
    path.write_bytes(b"")
    assert _built_for.read(path) is None


def test_extension_of_this_tree_says_what_it_was_built_for() -> None:
    """The file and the loaded module agree, with the torch that runs this test."""
    extension = native.extension
    if extension is None:
        pytest.skip(f"no extension: {native.missing}")
    built_for = _built_for.read(Path(extension.__file__))
    assert built_for is not None and built_for == native.built_for
    assert extension.built_for == built_for.line()
    assert built_for.torch.split(".")[:2] == torch.__version__.split(".")[:2]


def tree_with(tmp_path: Path, contents: bytes, clone: bool) -> Path:
    """A copy of the package whose extension module crashes what loads it."""
    shutil.copytree(
        ROOT / "adamp_fused", tmp_path / "adamp_fused", ignore=shutil.ignore_patterns("*.so")
    )
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    (tmp_path / "adamp_fused" / f"_C{suffix}").write_bytes(contents)
    if clone:
        shutil.copy(ROOT / "setup.py", tmp_path)
    return tmp_path


def crashing_module(tmp_path: Path, built_for: BuiltFor | None) -> bytes:
    """A shared library that ends the process as soon as it is loaded."""
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    line = built_for.line() if built_for is not None else "nothing"
    source = (
        "#include <cstdlib>\n"
        "struct Crash { Crash() { std::abort(); } } crash;\n"
        f'__attribute__((used)) static const char kLine[] = "{line}";\n'
    )
    path = tmp_path / "crash.so"
    command = ["c++", "-shared", "-fPIC", "-x", "c++", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True)
    return path.read_bytes()


def run(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the tree, without a GPU."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "TRITON_INTERPRET")}
    env["CUDA_VISIBLE_DEVICES"] = ""
    return subprocess.run(
        [sys.executable, *arguments], cwd=tree, env=env, capture_output=True, text=True
    )


# Steps on whatever serves; prints an error, then what `python -m adamp_fused info` does.
PROGRAM = (
    "import json, torch, adamp_fused\n"
    "from adamp_fused import _info\n"
    "p = torch.nn.Parameter(torch.ones(3, 4)); p.grad = torch.ones(3, 4)\n"
    "adamp_fused.FusedAdamP([p]).step()\n"
    "adamp_fused.FusedSGDP([p]).step()\n"
    "try: adamp_fused.FusedAdamP([p], backend='cpu')\n"
    "except RuntimeError as error: print(error)\n"
    "info = _info.collect()\n"
    "print(json.dumps(info))\n"
    "print(_info.as_text(info))\n"
)


@pytest.mark.parametrize("clone", [True, False], ids=["clone", "installed"])
@pytest.mark.parametrize(
    "built_for", [BuiltFor("2.0.1+cpu", None), None], ids=["another torch", "unknown"]
)
def test_not_loaded(tmp_path: Path, built_for: BuiltFor | None, clone: bool) -> None:
    """The package steps on the reference, and everybody says why and what to do."""
    tree = tree_with(tmp_path, crashing_module(tmp_path, built_for), clone)
    done = run(tree, "-c", PROGRAM)
    assert done.returncode == 0, done.stderr
    error, printed, as_text = done.stdout.split("\n", 2)
    info = json.loads(printed)
    assert info["devices"]["cpu"]["backend"] == "reference"
    if clone:
        mend = f"run `python setup.py build_ext --inplace` in {tree}"
    else:
        mend = "pip install --no-build-isolation ."
    why = "torch 2.0.1+cpu, and this is torch" if built_for else "does not say which torch"
    of_device = info["devices"]["cpu"]["why not better"]["cpu"]
    for text in (done.stderr, error, as_text, of_device):
        assert why in text and mend in text
    assert why in info["built"]["kernels"]
    assert info["built"].get("for torch") == (built_for and built_for.torch)


def test_crash_is_what_loading_would_be(tmp_path: Path) -> None:
    """The test above can fail: the same module, said to be built for this torch, crashes."""
    built_for = BuiltFor(torch.__version__, None)
    tree = tree_with(tmp_path, crashing_module(tmp_path, built_for), clone=False)
    assert run(tree, "-c", "import adamp_fused").returncode < 0


def test_file_that_does_not_load(tmp_path: Path) -> None:
    """Built for this torch and broken in another way: the loader's own words."""
    line = BuiltFor(torch.__version__, None).line()
    tree = tree_with(tmp_path, b"no library\0" + line.encode(), clone=False)
    info = json.loads(run(tree, "-m", "adamp_fused", "info", "--json").stdout)
    why = info["devices"]["cpu"]["why not better"]["cpu"]
    assert "the native kernels cannot be loaded (" in why and "_C." in why
    assert info["devices"]["cpu"]["backend"] == "reference"
