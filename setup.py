"""The extension module; everything else about the package is in pyproject.toml.

``ADAMP_FUSED_BUILD`` says what to build: ``auto`` (the default: CPU, and CUDA where torch is a
CUDA build and a CUDA toolkit is found; nothing, with a word about it, where there is no C++
compiler), ``cpu``, ``cuda`` (CPU and CUDA, or an error), ``none``. Whether a GPU is present plays
no part.

``ADAMP_FUSED_DEBUG=1`` makes CUDA kernels that check how their blocks agree: where a counter is
wrong, or a wait takes longer than any step, they print which tensor, tile and counters, and the
launch ends in an error instead of a hang or a wrong decision.

The module contains what it was built for, by which the package knows before it loads it whether the
torch at hand is another one. With build isolation (a plain ``pip install .``) the torch that pip
fetched for the build is the one that counts; it may be newer than the one that is installed.
"""

from __future__ import annotations

import os
import runpy
import shutil
import sys
from pathlib import Path

from setuptools import setup

CHOICES = ("auto", "cpu", "cuda", "none")
# Machine code for each generation since Ampere (8.0 also runs on 8.6 and 8.9), PTX for what comes
# after.
DEFAULT_ARCHS = "8.0 9.0 10.0 12.0+PTX"

# The file alone: the package imports torch, which is not there where nothing is to be built.
BUILT_FOR = runpy.run_path(str(Path(__file__).parent / "adamp_fused" / "_built_for.py"))

CPP_FLAGS = [
    "-O3",
    # Every product rounded: the compiler fused another one where u is computed again than where it
    # was first, and then bits hang on whether there was a buffer to keep it in.
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fopenmp",
    "-fvisibility=hidden",
    "-Wall",
    "-Wno-psabi",
    "-Wno-maybe-uninitialized",
]


def say(text: str) -> None:
    """Print where pip's output does not hide it."""
    print(f"adamp_fused: {text}", file=sys.stderr)


def find_toolkit() -> None:
    """Name the CUDA toolkit in ``CUDA_HOME``, where torch's build tools look first.

    They would take the folder above ``nvcc``; where that is a wrapper, the toolkit is elsewhere.
    """
    nvcc = shutil.which("nvcc")
    places = [Path(nvcc).resolve().parent.parent] if nvcc else []
    for place in [*places, Path("/usr/local/cuda")]:
        if (place / "include" / "cuda_runtime.h").exists():
            os.environ.setdefault("CUDA_HOME", str(place))


def wanted() -> tuple[bool, bool]:
    """Whether to build the CPU and the CUDA part."""
    choice = os.environ.get("ADAMP_FUSED_BUILD", "auto")
    if choice not in CHOICES:
        sys.exit(f"ADAMP_FUSED_BUILD={choice!r} is not known; use one of {', '.join(CHOICES)}")
    if choice == "none":
        return False, False
    find_toolkit()
    try:
        import torch
        from torch.utils import cpp_extension
    except ImportError:
        sys.exit(
            "adamp_fused is compiled against the installed torch: install torch first, then run "
            "`pip install --no-build-isolation .` (or set ADAMP_FUSED_BUILD=none)"
        )
    compiler = os.environ.get("CXX", "c++").split()[0]
    if choice == "auto" and shutil.which(compiler) is None:
        say(f"no C++ compiler ({compiler}): installing without native kernels")
        return False, False
    toolkit = cpp_extension.CUDA_HOME is not None and torch.version.cuda is not None
    if choice == "cuda" and not toolkit:
        sys.exit(
            f"ADAMP_FUSED_BUILD=cuda needs a CUDA build of torch (this one: {torch.__version__}) "
            f"and a CUDA toolkit (CUDA_HOME: {cpp_extension.CUDA_HOME}); install both, or build "
            "with ADAMP_FUSED_BUILD=cpu"
        )
    return True, toolkit if choice == "auto" else choice == "cuda"


def extension(cuda: bool) -> dict[str, object]:
    """The arguments of ``setup`` that build ``adamp_fused._C``."""
    import torch
    from torch.utils import cpp_extension

    # ninja from the environment that runs this, whether or not that is activated.
    os.environ["PATH"] += os.pathsep + str(Path(sys.executable).parent)
    sources = [
        *map(str, sorted(Path("csrc/binding").glob("*.cpp"))),
        *map(str, sorted(Path("csrc/cpu").glob("*.cpp"))),
    ]
    debug = os.environ.get("ADAMP_FUSED_DEBUG", "0") not in ("", "0")
    built_for = BUILT_FOR["BuiltFor"](
        torch.__version__, torch.version.cuda if cuda else None, debug
    )
    say(f"building {'CPU and CUDA' if cuda else 'CPU'} kernels for torch {torch.__version__}")
    macros = [("ADAMP_FUSED_BUILT_FOR", f'"{built_for.line()}"')]
    if debug:
        macros.append(("ADAMP_FUSED_DEBUG", None))
    flags = {"cxx": CPP_FLAGS}
    kind = cpp_extension.CppExtension
    if cuda:
        archs = os.environ.setdefault("TORCH_CUDA_ARCH_LIST", DEFAULT_ARCHS)
        macros += [("ADAMP_FUSED_WITH_CUDA", None), ("ADAMP_FUSED_CUDA_ARCHS", f'"{archs}"')]
        sources += ["csrc/cuda/executor.cpp", "csrc/cuda/runtime.cu"]
        # As above; nvcc fused another product in vectorized loops than in single ones.
        flags["nvcc"] = ["-O3", "--expt-relaxed-constexpr", "-fmad=false"]
        kind = cpp_extension.CUDAExtension
    module = kind(
        "adamp_fused._C",
        sources,
        define_macros=macros,
        extra_compile_args=flags,
        depends=[str(path) for path in Path("csrc").rglob("*.[hc]*")],
    )
    # -fopenmp is a compile flag only: the symbols then resolve to the OpenMP runtime that torch has
    # loaded, and its threads are ours (torch.set_num_threads).
    build = cpp_extension.BuildExtension.with_options(use_ninja=shutil.which("ninja") is not None)
    # Only ninja knows that what was built for another torch is to be built anew, though no source
    # has changed; without it everything is.
    options = {"build_ext": {"force": True}}
    return {"ext_modules": [module], "cmdclass": {"build_ext": build}, "options": options}


def main() -> None:
    """Decide and build."""
    cpu, cuda = wanted()
    if not cpu:
        say("building no kernels")
    setup(**(extension(cuda) if cpu else {}))


main()
