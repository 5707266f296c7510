"""Builds the emulation: drivers in several variants, and an extension module for the parity tests.

Objects lie in ``build/emulation`` of the repository, named by a hash of everything that went into
them, so that whatever has not changed is not compiled again.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]
CACHE = "build/emulation"
JOBS = 2

KERNEL = "tests/kernels/emulation/kernel_emulated.cpp"
HOST = ("csrc/cuda/executor.cpp", "tests/kernels/emulation/runtime_emulated.cpp")
MACHINE = tuple(
    f"tests/kernels/emulation/{name}.cpp"
    for name in ("context", "fibers", "memory", "races", "races_hooks")
)
BINDING = tuple(
    f"csrc/binding/{name}.cpp"
    for name in ("module", "plan", "tracker", "tensors", "step_plan", "options")
)
DRIVER = tuple(
    f"tests/kernels/emulation/{name}.cpp"
    for name in ("driver", "world", "parts", "statistics", "gradients", "wide_index", "wide_tables")
)
BASE = ("-std=c++17", "-Wall", "-Wno-unknown-pragmas", '-DADAMP_DEVICE_HEADER="device_emulated.h"')


@dataclass(frozen=True)
class Variant:
    """A way to compile.

    Attributes:
        name: of its folder.
        kernel: flags of the file that holds the device code.
        others: flags of every other file.
        link: flags of the link.
    """

    name: str
    kernel: tuple[str, ...]
    others: tuple[str, ...]
    link: tuple[str, ...] = ()


SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
PLAIN = Variant("plain", ("-O2", "-g1"), ("-O2", "-g1"))
# Every memory access of the device code calls our race detector; see races_hooks.cpp.
RACES = Variant(
    "races",
    ("-O1", "-g1", "-fsanitize=thread", "-DEMULATION_RACES"),
    ("-O2", "-g1", "-DEMULATION_RACES"),
)
# The same for float32 alone: what is compiled again and again takes a quarter of the time.
RACES_FLOAT = Variant(
    "races_float",
    ("-O1", "-fsanitize=thread", "-DEMULATION_RACES", "-DEMULATION_FLOAT_ONLY"),
    ("-O2", "-DEMULATION_RACES", "-DEMULATION_FLOAT_ONLY"),
)
SANITIZED = Variant("sanitized", ("-O1", "-g1", *SANITIZE), ("-O1", "-g1", *SANITIZE), SANITIZE)
# The kernels as ADAMP_FUSED_DEBUG builds them.
DEBUG = Variant(
    "debug",
    ("-O1", "-g1", "-DADAMP_FUSED_DEBUG", "-DEMULATION_FLOAT_ONLY"),
    ("-O2", "-g1", "-DADAMP_FUSED_DEBUG", "-DEMULATION_FLOAT_ONLY"),
)
COVERED = Variant("covered", ("-O0", "--coverage"), ("-O1",), ("--coverage",))
# A namespace of its own: both extension modules live in one process, and pybind11 registers types
# by name. The binding is large and not what takes time, hence -O0.
_OWN_NAMESPACE = ("-fPIC", "-Dadamp=adamp_emulated")
MODULE = Variant(
    "module",
    ("-O2", *_OWN_NAMESPACE),
    ("-O0", "-fvisibility=hidden", *_OWN_NAMESPACE),
    ("-shared",),
)


def compiler() -> str:
    """The C++ compiler; only g++ and clang++ know the flags used here."""
    return os.environ.get("CXX", "g++")


@functools.cache
def missing(flags: tuple[str, ...] = ()) -> str:
    """Why nothing can be compiled and linked with ``flags`` here, or ""."""
    if shutil.which(compiler()) is None:
        return f"no C++ compiler ({compiler()})"
    command = [compiler(), *flags, "-x", "c++", "-", "-o", os.devnull]
    done = subprocess.run(command, input="int main() {}", capture_output=True, text=True)
    return f"{compiler()} cannot build with {' '.join(flags)}" if done.returncode else ""


def _hash_of(parts: Iterable[bytes | str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:16]


def _included(path: Path, root: Path, seen: set[Path]) -> set[Path]:
    """``path`` and the project's files that it includes, directly or not."""
    seen.add(path)
    # The device header is included by a macro.
    names = ["device_emulated.h"] if path.name == "device.cuh" else []
    names += re.findall(r'^#include "(.+)"', path.read_text(), re.MULTILINE)
    for name in names:
        for folder in (path.parent, root / "tests/kernels/emulation"):
            header = (folder / name).resolve()
            if header.exists() and header not in seen:
                _included(header, root, seen)
    return seen


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def _remove_older(path: Path) -> None:
    """Remove what an earlier state of the same sources came to."""
    name = path.stem.rpartition("-")[0]
    for old in path.parent.glob(f"{name}-*"):
        if not old.name.startswith(path.stem):
            old.unlink(missing_ok=True)


@contextlib.contextmanager
def making(path: Path) -> Iterator[Path | None]:
    """Where to write a file before it gets its name, or None where it is there already.

    Another process or thread that wants the same file waits, instead of making it as well. The file
    gets its name when the block ends without an error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            yield None
            return
        unfinished = path.with_suffix(f".unfinished{path.suffix}")
        yield unfinished
        unfinished.rename(path)


def compile_object(
    source: str, variant: Variant, root: Path = ROOT, extra: tuple[str, ...] = ()
) -> Path:
    """Compile one file of a tree; the object's path."""
    flags = variant.kernel if source == KERNEL else variant.others
    command = [compiler(), *BASE, *flags, *extra, f"-I{root / 'tests/kernels/emulation'}"]
    files = sorted(_included((root / source).resolve(), root.resolve(), set()))
    parts = [*command[:-1], *(file.read_bytes() for file in files)]
    path = root / CACHE / variant.name / f"{Path(source).stem}-{_hash_of(parts)}.o"
    with making(path) as unfinished:
        if unfinished:
            if "--coverage" in flags:  # names what is counted after the final object
                command += ["-dumpdir", f"{path.parent}/", "-dumpbase", path.stem]
            _run([*command, "-c", str(root / source), "-o", str(unfinished)])
            _remove_older(path)
    return path


def compile_all(
    sources: Iterable[str], variant: Variant, extra: tuple[str, ...] = ()
) -> list[Path]:
    """Compile files of this tree, two at a time."""
    with ThreadPoolExecutor(JOBS) as pool:
        return list(pool.map(lambda source: compile_object(source, variant, extra=extra), sources))


def changed_tree(file: str, text: str, others: str, folder: Path) -> Path:
    """Copy csrc and ``others``, a file or folder, to ``folder``; the path of csrc's changed file.

    Args:
        file: in csrc, the one that differs.
        text: its contents.
        others: what is built with csrc.
        folder: for the copy; the one of an earlier call does, if that changed the same file.
    """
    for name in ("csrc", others):
        if (folder / name).exists():
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.py")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    path = folder / "csrc" / file
    path.write_text(text)
    return path


def compile_changed(
    sources: Iterable[str], variant: Variant, changed: Path, root: Path
) -> list[Path]:
    """Compile the files that include ``changed`` in its tree at ``root``, all others in ours."""
    objects = []
    for source in sources:
        affected = changed in _included(root / source, root, set())
        objects.append(compile_object(source, variant, root if affected else ROOT))
    return objects


def link(
    objects: Iterable[Path],
    variant: Variant,
    name: str,
    libraries: tuple[str, ...] = (),
    root: Path = ROOT,
) -> Path:
    """Link objects under a name that follows from them; the path."""
    objects = list(objects)
    path = root / CACHE / variant.name / f"{name}-{_hash_of(str(o) for o in objects)}"
    with making(path) as unfinished:
        if unfinished:
            files = [*map(str, objects), *variant.link, *libraries, "-ldl"]
            _run([compiler(), *files, "-o", str(unfinished)])
            _remove_older(path)
    return path


def driver(variant: Variant, changed: Path | None = None) -> Path:
    """The program that explores schedules.

    Args:
        variant: how it is compiled.
        changed: a file of a copy of the tree that differs from ours; only what includes it is
            compiled anew, in that copy.
    """
    sources = (KERNEL, *HOST, *MACHINE, *DRIVER)
    if changed is None:
        return link(compile_all(sources, variant), variant, "explore")
    root = next(folder for folder in changed.parents if (folder / KERNEL).exists())
    return link(compile_changed(sources, variant, changed, root), variant, "explore", root=root)


def corrupted(variant: Variant) -> Path:
    """The program that launches with corrupted counters."""
    world = (name for name in DRIVER if not name.endswith("/driver.cpp"))
    sources = (KERNEL, *HOST, *MACHINE, *world, "tests/kernels/emulation/corrupted.cpp")
    return link(compile_all(sources, variant), variant, "corrupted")


def selftest(variant: Variant) -> Path:
    """The program that tests the emulation itself."""
    # Its own kernels are instrumented as the real ones are.
    own = compile_object("tests/kernels/emulation/selftest.cpp", variant, extra=variant.kernel)
    return link([own, *compile_all(MACHINE, variant)], variant, "check")


def extension() -> ModuleType:
    """An extension module like ``adamp_fused._C`` whose executor "cuda" runs on CPU tensors."""
    import torch
    from torch.utils import cpp_extension

    from adamp_fused._built_for import BuiltFor

    name = "adamp_fused_emulated"
    flags = [
        *(f"-isystem{path}" for path in cpp_extension.include_paths()),
        f"-isystem{sysconfig.get_path('include')}",
        f"-DTORCH_EXTENSION_NAME={name}",
        "-DADAMP_FUSED_WITH_CUDA",
        '-DADAMP_FUSED_CUDA_ARCHS="emulated"',
        f'-DADAMP_FUSED_BUILT_FOR="{BuiltFor(torch.__version__, None).line()}"',
    ]
    own = (*HOST, "tests/kernels/emulation/module_parts.cpp")
    objects = [
        *compile_all(BINDING, MODULE, tuple(flags)),
        *compile_all((KERNEL, *own), MODULE),
        *compile_all(MACHINE, MODULE, ("-O2",)),
    ]
    libraries = tuple(f"-L{path}" for path in cpp_extension.library_paths())
    path = link(objects, MODULE, name, (*libraries, "-lc10", "-ltorch_cpu", "-ltorch_python"))
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
