"""The CUDA kernels on the CPU under AddressSanitizer and UndefinedBehaviorSanitizer.

Allocations end where tensors, tables and shared memory end; their contents start as NaNs.
"""

import os
import shutil
import subprocess
from functools import cache

import pytest

from emulation import build


@cache
def missing() -> str:
    """Why sanitizers cannot be used here, or ""."""
    if shutil.which(build.compiler()) is None:
        return f"no C++ compiler ({build.compiler()})"
    command = [build.compiler(), *build.SANITIZE, "-x", "c++", "-", "-o", os.devnull]
    done = subprocess.run(command, input="int main() {}", capture_output=True, text=True)
    return f"{build.compiler()} has no sanitizers" if done.returncode else ""


def test_sanitizers() -> None:
    """No access outside an allocation, no leak, no undefined behaviour in any case."""
    if missing():
        pytest.skip(missing())
    program = build.driver(build.SANITIZED)
    done = subprocess.run([program, "--schedules", "1"], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
