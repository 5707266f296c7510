"""nvcc's PTX of the kernels -> C++ -> the emulation's driver."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
from pathlib import Path

from kernels.emulation import build as emulated
from kernels.ptx.translate import entries
from kernels.real_build.build import find_nvcc

ROOT = emulated.ROOT
SOURCE = "csrc/cuda/runtime.cu"
LAUNCH = "tests/kernels/ptx/kernel_translated.cpp"
# What the package is built with.
FLAGS = ast.literal_eval(
    re.findall(r'flags\["nvcc"\] = (\[.*\])', (ROOT / "setup.py").read_text())[0]
)
NAME = re.compile(
    r"step_kernelINS_(?:\d+(Measured)INS_)?\d+([A-Z]+[A-Za-z]*?)(?(1)EE)ELNS_7TypeSetE(\d)E"
)


def listing(arch: str) -> str:
    """What nvcc makes of the kernels for a compute capability, such as ``90``."""
    compiler = find_nvcc()
    files = sorted((ROOT / "csrc").rglob("*.[hc]*"))
    key = hashlib.sha256(b"\0".join([*(f.read_bytes() for f in files), str(FLAGS).encode()]))
    key.update(subprocess.run([compiler, "--version"], capture_output=True).stdout)
    path = ROOT / emulated.CACHE / "ptx" / f"step_{arch}-{key.hexdigest()[:16]}.ptx"
    with emulated.making(path) as unfinished:
        if unfinished:
            command = [compiler, *FLAGS, "-std=c++17", "-ptx", f"-arch=compute_{arch}"]
            command += [ROOT / SOURCE, "-o", unfinished]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr}")
            for old in path.parent.glob(f"step_{arch}-*.ptx"):
                if not old.name.startswith(path.stem):
                    old.unlink()
    return path.read_text()


def _sources(text: str, name: str, float_only: bool) -> tuple[list[Path], tuple[str, ...]]:
    """Write the kernels of a listing as C++; the files, and what the compiler must know of them.

    Of the kernels that measure, only float32's: the others take minutes to compile.
    """
    files: list[Path] = []
    facts: set[str] = set()
    for mangled, (entry, translate) in entries(text).items():
        found = NAME.search(mangled)
        if found is None:
            raise ValueError(f"an entry that is no step kernel: {mangled}")
        measured, method, types = found.groups("")
        [size] = entry.parameters.values()
        facts |= {f"-DPTX_PARAMETER_BYTES={size}", f"-DPTX_THREADS_{types}={entry.threads}"}
        if (float_only or measured) and types != "0":
            continue
        kernel = f"{measured}{method}_{types}"
        code = (
            f'#include "{ROOT / "tests/kernels/ptx/machine.h"}"\n'
            f"namespace translated {{\n{translate(f'entry_{kernel}')}\n}}\n"
        )
        path = ROOT / emulated.CACHE / "ptx" / f"{name}_{kernel}.cpp"
        if not path.exists() or path.read_text() != code:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(f".{os.getpid()}")  # another process may read it
            unfinished.write_text(code)
            unfinished.rename(path)
        files.append(path)
    if len({fact.split("=")[0] for fact in facts}) != len(facts):
        raise ValueError(f"kernels that are launched alike differ: {sorted(facts)}")
    return files, tuple(sorted(facts))


def driver(text: str, variant: emulated.Variant, name: str) -> Path:
    """The program that explores schedules, running a listing.

    Args:
        text: the listing.
        variant: how everything else is compiled.
        name: of its files.
    """
    float_only = "-DEMULATION_FLOAT_ONLY" in variant.others
    files, facts = _sources(text, name, float_only)
    # Accesses are seen by what machine.h calls, not by what the compiler adds: one does for all.
    plain = emulated.Variant("ptx", ("-O1", "-w"), ("-O1", "-w"))
    kernels = emulated.compile_all(map(str, files), plain)
    own = emulated.Variant(f"{name}_{variant.name}", (), variant.others, variant.link)
    launch = emulated.compile_object(LAUNCH, own, extra=facts)
    others = (*emulated.HOST, *emulated.MACHINE, *emulated.DRIVER)
    return emulated.link([*kernels, launch, *emulated.compile_all(others, variant)], own, name)
