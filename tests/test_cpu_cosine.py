"""The CPU's cosine test by squares says what the test itself says, for every number."""

import shutil
import subprocess
from pathlib import Path

import pytest

from emulation import build

FLAGS = ("-O2", "-ffp-contract=off", "-fno-math-errno")
VARIANT = build.Variant("cpu_cosine", (), FLAGS, ())
SOURCE = "tests/cpu_cosine.cpp"

needs_compiler = pytest.mark.skipif(bool(build.missing()), reason=build.missing())


def run(root: Path = build.ROOT) -> subprocess.CompletedProcess[str]:
    """Build the program of the tree at ``root`` and run it."""
    objects = [build.compile_object(SOURCE, VARIANT, root)]
    program = build.link(objects, VARIANT, "cpu_cosine", root=root)
    return subprocess.run([program], capture_output=True, text=True, timeout=300)


@needs_compiler
def test_by_squares_as_by_norms() -> None:
    """Three million rows, half of them within rounding of the bound, and numbers that are none."""
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr


@needs_compiler
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("0.999", "1.0001"),
        ("1.001", "0.9999"),
        (" && s.pp > eps * eps", ""),
        (" && s.gg > eps * eps", ""),
        ("limit > 1e-300 && ", ""),
    ],
    ids=["passes too much", "fails too much", "eps of p", "eps of g", "subnormal numbers"],
)
def test_faults_are_noticed(text: str, fault: str, tmp_path: Path) -> None:
    """Each, planted alone, fails the test above."""
    shutil.copytree(build.ROOT / "csrc", tmp_path / "csrc")
    (tmp_path / "tests").mkdir()
    shutil.copy(build.ROOT / SOURCE, tmp_path / "tests")
    changed = tmp_path / "csrc/cpu/cosine.h"
    assert changed.read_text().count(text) == 1, text
    changed.write_text(changed.read_text().replace(text, fault))
    assert run(tmp_path).returncode == 1
