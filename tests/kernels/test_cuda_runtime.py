"""Errors of the CUDA runtime: csrc/cuda/runtime.cu, with a runtime in which any call can fail."""

import subprocess

import pytest

from kernels.emulation import build

# The kernels are compiled for the emulation's device, and none of them runs.
FLAGS = ("-O0", "-g1", f"-I{build.ROOT / 'tests/kernels/cuda_runtime'}")
PROGRAM = "tests/kernels/cuda_runtime/check.cpp"


@pytest.mark.skipif(bool(build.missing()), reason=build.missing())
def test_errors_are_reported_and_leave_nothing() -> None:
    """A launch reports its own status; buffers outlive their copies, and nothing leaks."""
    variant = build.Variant("cuda_runtime", (), (*FLAGS, *build.SANITIZE), build.SANITIZE)
    if build.missing(build.SANITIZE):
        variant = build.Variant("cuda_runtime", (), FLAGS)
    own = build.compile_object(PROGRAM, variant)
    program = build.link([own, *build.compile_all(build.MACHINE, variant)], variant, "check")
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout, done.stdout + done.stderr
