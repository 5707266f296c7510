"""The CPU step's threads under ThreadSanitizer, and faults of their order that it has to notice."""

import os
import subprocess
from pathlib import Path

import pytest

from kernels.emulation import build
from kernels.emulation.mutations import Mutation

TSAN = ("-fsanitize=thread",)
FLAGS = ("-O1", "-g1", "-ffp-contract=off", "-fno-math-errno", "-Wno-psabi", *TSAN)
VARIANT = build.Variant("cpu_threads", (), FLAGS, TSAN)
PROGRAM = "tests/kernels/cpu/threads.cpp"
SOURCES = (
    PROGRAM,
    *(f"csrc/cpu/{name}.cpp" for name in ("executor", "tensor_work", "row_loops_baseline")),
)

needs_sanitizer = pytest.mark.skipif(bool(build.missing(TSAN)), reason=build.missing(TSAN))


def run(objects: list[Path], root: Path = build.ROOT) -> subprocess.CompletedProcess[str]:
    """Link the program and run it until it finds something."""
    program = build.link(objects, VARIANT, "cpu_threads", root=root)
    env = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run([program], capture_output=True, text=True, timeout=300, env=env)


@needs_sanitizer
def test_no_race_and_the_same_bits() -> None:
    """2, 3 and 8 threads, all of which may be late, and one thread in the place of all."""
    done = run(build.compile_all(SOURCES, VARIANT))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_sanitizer
@pytest.mark.parametrize(
    "fault",
    [
        Mutation(
            "no lock",
            "cpu/shares.h",
            "std::lock_guard<std::mutex> lock(share.mutex); if (share.left.empty())",
            "if (share.left.empty())",
        ),
        Mutation(
            "relaxed arrival",
            "cpu/executor.cpp",
            "std::memory_order_acq_rel",
            "std::memory_order_relaxed",
        ),
        Mutation(
            "the same tile twice",
            "cpu/shares.h",
            "tiles.first + --tiles.count",
            "tiles.first + tiles.count-- / 2",
        ),
    ],
    ids=lambda fault: fault.name,
)
def test_faults_are_noticed(fault: Mutation, tmp_path: Path) -> None:
    """Each, planted alone, fails the test above."""
    text = fault.apply((build.ROOT / "csrc" / fault.file).read_text())
    changed = build.changed_tree(fault.file, text, PROGRAM, tmp_path)
    objects = build.compile_changed(SOURCES, VARIANT, changed, tmp_path)
    assert run(objects, tmp_path).returncode != 0
