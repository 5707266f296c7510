"""The CPU step's threads under ThreadSanitizer, and faults of their order that it has to notice."""

import os
import shutil
import subprocess
from functools import cache
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


@cache
def missing() -> str:
    """Why the sanitizer cannot be used here, or ""."""
    if shutil.which(build.compiler()) is None:
        return f"no C++ compiler ({build.compiler()})"
    command = [build.compiler(), *TSAN, "-x", "c++", "-", "-o", os.devnull]
    done = subprocess.run(command, input="int main() {}", capture_output=True, text=True)
    return f"{build.compiler()} has no ThreadSanitizer" if done.returncode else ""


def run(root: Path = build.ROOT, changed: str = "") -> subprocess.CompletedProcess[str]:
    """Build the program, ``changed`` and what includes it from the tree at ``root``; run it."""
    objects = []
    for source in SOURCES:
        affected = changed and root / changed in build.included(root / source, root, set())
        objects.append(build.compile_object(source, VARIANT, root if affected else build.ROOT))
    program = build.link(objects, VARIANT, "cpu_threads", root=root)
    env = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    return subprocess.run([program], capture_output=True, text=True, timeout=300, env=env)


def test_no_race_and_the_same_bits() -> None:
    """2, 3 and 8 threads, all of which may be late, and one thread in the place of all."""
    if missing():
        pytest.skip(missing())
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr


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
    if missing():
        pytest.skip(missing())
    shutil.copytree(build.ROOT / "csrc", tmp_path / "csrc")
    (tmp_path / "tests").mkdir()
    shutil.copy(build.ROOT / "tests/cpu_threads.cpp", tmp_path / "tests")
    changed = tmp_path / file
    assert changed.read_text().count(text) == 1, text
    changed.write_text(changed.read_text().replace(text, fault))
    assert run(tmp_path, file).returncode != 0
