"""The native CPU kernel in each instruction set: as wide as it says, and right."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from adamp_fused.backends.native import extension

ROOT = Path(__file__).resolve().parents[2]
VALUES = ROOT / "tests" / "parity"

pytestmark = pytest.mark.skipif(
    extension is None, reason="the package was built without native kernels"
)


def level(asked: str) -> str:
    """What a process uses that was asked for an instruction set; less where the CPU has less."""
    program = "from adamp_fused import _C; print(_C.cpu_capability())"
    env = os.environ | {"ADAMP_FUSED_CPU_CAPABILITY": asked}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump to read machine code with")
def test_width() -> None:
    """The loops of each instruction set work on whole vectors of it."""
    assert extension is not None
    if extension.cpu_capability() == "baseline":
        pytest.skip("this build, or this processor, has no AVX2")
    code = subprocess.run(
        ["objdump", "--disassemble", "--no-show-raw-insn", str(extension.__file__)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    roots = Counter(re.findall(r"\b(v?sqrtp[sd]) .*%([xyz]mm)", code))
    for name in ("sqrtps", "sqrtpd"):
        wide = {register: roots[f"v{name}", register] for register in ("xmm", "ymm", "zmm")}
        assert wide["xmm"] == 0 and wide["ymm"] > 0 and wide["zmm"] > 0, roots
        assert roots[name, "xmm"] > 0, roots


@pytest.mark.parametrize("asked", ["baseline", "avx2"])
def test_values(asked: str) -> None:
    """Values of the lower instruction sets; the other tests use the highest that there is."""
    if level(asked) != asked:
        pytest.skip(f"this processor has no {asked}")
    names = ("values", "thin_rows", "rounding", "layouts", "nan", "speculation")
    files = [str(VALUES / f"test_{name}.py") for name in names]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "cpu and not emulated", *files],
        cwd=ROOT,
        env=os.environ | {"ADAMP_FUSED_CPU_CAPABILITY": asked},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 100, done.stdout[-1000:]
