"""The CPU step's threads under ThreadSanitizer, and faults of their order that it has to notice."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from emulation import build

TSAN = ("-fsanitize=thread",)
FLAGS = ("-O1", "-g1", "-ffp-contract=off", "-fno-math-errno", "-Wno-psabi", *TSAN)
VARIANT = build.Variant("cpu_threads", (), FLAGS, TSAN)
SOURCES = (
    "tests/cpu_threads.cpp",
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
    ("file", "text", "fault"),
    [
        (
            "csrc/cpu/shares.h",
            "      std::lock_guard<std::mutex> lock(share.mutex);\n      if (share.left.empty())",
            "      if (share.left.empty())",
        ),
        ("csrc/cpu/executor.cpp", "std::memory_order_acq_rel", "std::memory_order_relaxed"),
        ("csrc/cpu/shares.h", "items.first + --items.count", "items.first + items.count-- / 2"),
    ],
    ids=["no lock", "relaxed arrival", "the same item twice"],
)
def test_faults_are_noticed(file: str, text: str, fault: str, tmp_path: Path) -> None:
    """Each, planted alone, fails the test above."""
    shutil.copytree(build.ROOT / "csrc", tmp_path / "csrc")
    (tmp_path / "tests").mkdir()
    shutil.copy(build.ROOT / "tests/cpu_threads.cpp", tmp_path / "tests")
    changed = tmp_path / file
    assert changed.read_text().count(text) == 1, text
    changed.write_text(changed.read_text().replace(text, fault))
    objects = build.compile_changed(SOURCES, VARIANT, changed, tmp_path)
    assert run(objects, tmp_path).returncode != 0
