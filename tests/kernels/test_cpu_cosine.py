"""The CPU's cosine test by squares says what the test itself says, for every number."""

import subprocess
from pathlib import Path

import pytest

from kernels.emulation import build
from kernels.emulation.mutations import Mutation

FLAGS = ("-O2", "-ffp-contract=off", "-fno-math-errno")
VARIANT = build.Variant("cpu_cosine", (), FLAGS, ())
SOURCE, FILE = "tests/kernels/cpu/cosine.cpp", "cpu/cosine.h"

needs_compiler = pytest.mark.skipif(bool(build.missing()), reason=build.missing())


def run(root: Path = build.ROOT) -> subprocess.CompletedProcess[str]:
    """Build the program of the tree at ``root`` and run it."""
    objects = [build.compile_object(SOURCE, VARIANT, root)]
    program = build.link(objects, VARIANT, "cpu_cosine", root=root)
    return subprocess.run([program], capture_output=True, text=True, timeout=300)


@needs_compiler
def test_by_squares_as_by_norms() -> None:
    """Three million rows, three quarters of them near the bound, and numbers that are none."""
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr


@needs_compiler
@pytest.mark.parametrize(
    "fault",
    [
        Mutation("passes too much", FILE, "0.999", "1.0001"),
        Mutation("fails too much", FILE, "1.001", "0.9999"),
        Mutation("eps of p", FILE, "s.pp > least ? s.pp : least", "s.pp"),
        Mutation("eps of g", FILE, "s.gg > least ? s.gg : least", "s.gg"),
        Mutation("subnormal numbers", FILE, "(limit > 1e-300) &", ""),
    ],
    ids=lambda fault: fault.name,
)
def test_faults_are_noticed(fault: Mutation, tmp_path: Path) -> None:
    """Each, planted alone, fails the test above."""
    text = fault.apply((build.ROOT / "csrc" / FILE).read_text())
    build.changed_tree(FILE, text, SOURCE, tmp_path)
    assert run(tmp_path).returncode == 1
