"""The CPU step asks for memory before it changes anything, and for enough."""

import subprocess

import pytest

from kernels.emulation import build

# The library's vectors tell the sanitizer where they end.
FLAGS = ("-O1", "-g1", "-Wno-psabi", "-D_GLIBCXX_SANITIZE_VECTOR", "-D_GLIBCXX_ASSERTIONS")
VARIANT = build.Variant("cpu_scratch", (), (*FLAGS, *build.SANITIZE), build.SANITIZE)
SOURCES = ("tests/kernels/cpu/scratch.cpp", "csrc/cpu/executor.cpp", "csrc/cpu/tensor_work.cpp")


@pytest.mark.skipif(bool(build.missing(build.SANITIZE)), reason=build.missing(build.SANITIZE))
def test_no_thread_allocates() -> None:
    """Every type and outcome, predicted or not: an allocation that failed there would be fatal."""
    program = build.link(build.compile_all(SOURCES, VARIANT), VARIANT, "cpu_scratch")
    done = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stdout, done.stdout[:2000] + done.stderr[:4000]
