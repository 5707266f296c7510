"""64-bit indices of the CPU step and of every work list, on tensors that need no memory.

The CUDA kernels' own are in tests/kernels/emulation/wide_index.cpp.
"""

import shutil
import subprocess

import pytest

from kernels.emulation import build

# A folder of its own: objects are named by their file alone.
VARIANT = build.Variant("cpu", (), ("-O1", "-g1"))


@pytest.mark.skipif(
    shutil.which(build.compiler()) is None, reason=f"no C++ compiler ({build.compiler()})"
)
def test_every_element_once() -> None:
    """Tensors of 3 * 2^31 elements are walked once, at the right addresses."""
    sources = (
        "tests/kernels/cpu/wide_index.cpp",
        "csrc/cpu/executor.cpp",
        "csrc/cpu/tensor_work.cpp",
    )
    program = build.link(build.compile_all(sources, VARIANT), VARIANT, "cpu_wide_index")
    done = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
