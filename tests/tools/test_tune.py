"""The variants fit the sources, the timing program runs, and the table says what was timed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.tune import __main__ as tune
from bench.tune.build import PROGRAM, Built, copy_of_tree
from bench.tune.variants import AS_IS, VARIANTS, Edit, Variant, apply
from bench.workloads import Weight, Workload
from kernels.emulation import build

ROOT = Path(__file__).resolve().parents[2]
SMALL = Workload("small", "small", "", (Weight((4, 3, 3, 3), True), Weight((6, 5)), Weight((6,))))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_edits_fit_the_sources(variant: Variant, tmp_path: Path) -> None:
    """Each edit finds its text, and changes it."""
    tree = copy_of_tree(variant, tmp_path)
    for edit in variant.edits:
        text = (tree / edit.file).read_text()
        assert edit.new in text
        assert edit.old not in text or edit.old in edit.new


def test_an_edit_that_no_longer_fits_is_an_error(tmp_path: Path) -> None:
    """Sources that have changed are not timed as what they no longer are."""
    (tmp_path / "file").write_text("b b")
    for old, times in (("a", 0), ("b", 2)):
        with pytest.raises(ValueError, match=f"is {times} times in file"):
            apply((Edit("file", old, "c"),), tmp_path)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The timing program on the emulated device."""
    path = tmp_path_factory.mktemp("tune") / "time_step"
    objects = build.compile_all((build.KERNEL, *build.HOST, *build.MACHINE), build.PLAIN)
    include = f"-I{ROOT / 'tests/kernels/emulation'}"
    command = [build.compiler(), "-std=c++17", "-O1", include, str(ROOT / PROGRAM)]
    subprocess.run([*command, *map(str, objects), "-ldl", "-o", str(path)], check=True)
    return path


@pytest.mark.parametrize("method", tune.METHODS)
@pytest.mark.parametrize("kind", tune.KINDS)
def test_emulated_program_times_what_it_is_asked_for(
    program: Path, method: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It steps the whole list, finds the outcomes it was given, and says a time for each batch."""
    monkeypatch.setenv("COPY_BYTES", "4096")
    rate, times = tune.time_once(program, tune.Case(method, SMALL, kind), batches=3, steps=2)
    assert rate > 0
    assert len(times) == 3
    assert all(time > 0 for time in times)


def test_emulated_program_says_what_is_wrong(program: Path) -> None:
    """An outcome that it does not know is named."""
    done = subprocess.run(
        [program, "adamp", "1", "1"], input="4 4 often\n", capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "no outcome: often" in done.stderr


def test_report_holds_each_variant_against_the_kernels_as_they_are(tmp_path: Path) -> None:
    """Medians, ratios, shares of the copy rate; one that fails is named and costs no other."""
    numbers = {AS_IS.name: "1000\n2\n4\n3\n", "quick": "1000\n1\n2\n1.5\n"}
    built = []
    for name, said in numbers.items():
        script = tmp_path / name
        script.write_text(f"#!{shutil.which('sh')}\ncat >/dev/null\nprintf '{said}'\n")
        script.chmod(0o755)
        built.append(Built(Variant(name, ""), script, 64, 0))
    broken = tmp_path / "broken"
    broken.write_text(f"#!{shutil.which('sh')}\ncat >/dev/null\necho no luck >&2\nexit 1\n")
    broken.chmod(0o755)
    built.append(Built(Variant("broken", ""), broken, 64, 0))
    report = tune.TuneReport({})
    case = tune.Case("sgdp", SMALL, "natural")
    tune.take_turns(built, case, rounds=2, batches=3, steps=1, report=report)
    found = {timing.variant: timing for timing in report.timings}
    assert {name: t.microseconds for name, t in found.items()} == {AS_IS.name: 3, "quick": 1.5}
    assert found["quick"].ratio == 0.5
    assert found["quick"].batches == 6
    moved = 20 * SMALL.numel
    assert found["quick"].copy_share == pytest.approx(moved / 1.5e-6 / 1e12)
    assert report.failed == {f"broken, {case.title}": "no luck"}


def test_unknown_variant_is_named() -> None:
    """The message lists those there are."""
    assert tune.chosen("no cache hints") == (AS_IS, VARIANTS[-1])
    with pytest.raises(ValueError, match=r"no variant 'fast'; there are: as it is, .*"):
        tune.chosen("fast")


def test_without_a_gpu_it_says_so() -> None:
    """Nothing is measured, and the exit status says that."""
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "bench.tune"], cwd=ROOT, env=hidden, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "python -m bench.tune needs" in done.stdout
