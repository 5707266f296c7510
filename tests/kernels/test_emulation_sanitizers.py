"""The CUDA kernels on the CPU under AddressSanitizer and UndefinedBehaviorSanitizer.

Allocations end where tensors, tables and shared memory end; their contents start as NaNs.
"""

import subprocess

import pytest

from kernels.emulation import build


@pytest.mark.proof
def test_sanitizers() -> None:
    """No access outside an allocation, no leak, no undefined behaviour in any case."""
    if build.missing(build.SANITIZE):
        pytest.skip(build.missing(build.SANITIZE))
    program = build.driver(build.SANITIZED)
    done = subprocess.run([program, "--schedules", "1"], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
