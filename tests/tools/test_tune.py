"""The variants are those of the sources, the timing program runs, and what the table says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.lib.workloads import Weight, Workload
from bench.tools.tune import __main__ as tune
from bench.tools.tune.build import PROGRAM, Built, resources
from bench.tools.tune.report import TuneReport
from bench.tools.tune.variants import DEFAULT, VARIANTS, Variant
from kernels.emulation import build

ROOT = Path(__file__).resolve().parents[2]
TUNING = ROOT / "csrc/cuda/tuning.h"
CONSTANTS = {
    "ADAMP_CONSUMERS_FLOAT32": "consumers(TypeSet::kFloat32)",
    "ADAMP_CONSUMERS": "consumers(TypeSet::kAll)",
    "ADAMP_BLOCKS_PER_SM": "kMostBlocksPerSM",
    "ADAMP_TILE_ELEMENTS": "tile_elements(DType::kFloat32)",
    "ADAMP_TILE_ELEMENTS_FLOAT64": "tile_elements(DType::kFloat64)",
    "ADAMP_TILE_ROWS": "max_rows(DType::kFloat32)",
    "ADAMP_TILE_ROWS_FLOAT64": "max_rows(DType::kFloat64)",
    "ADAMP_MAX_THIN_COLS": "kMaxThinCols",
    "ADAMP_TILES_PER_FIXUP": "kTilesPerFixUp",
    "ADAMP_INLINE_CAPACITY": "kInlineCapacity",
}
SMALL = Workload("small", "small", "", (Weight((4, 3, 3, 3), True), Weight((6, 5)), Weight((6,))))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_macros_are_those_of_the_sources(variant: Variant) -> None:
    """Each macro can be overridden, and its value is another than the default of at least one."""
    text = TUNING.read_text()
    defaults = dict(re.findall(r"#ifndef (\w+)\n#define \1 (\d+)\n#endif", text))
    assert len(defaults) == text.count("#define")
    assert set(variant.macros) <= set(defaults)
    same = all(str(value) == defaults[name] for name, value in variant.macros.items())
    assert same == (variant is DEFAULT)


def test_macros_reach_the_kernels(tmp_path: Path) -> None:
    """What is overridden is what the sources use."""
    macros = {name: 2 * i + 8 for i, name in enumerate(CONSTANTS)}
    lines = [f"static_assert({CONSTANTS[name]} == {value});" for name, value in macros.items()]
    source = tmp_path / "constants.cpp"
    source.write_text(
        "\n".join(['#include "cuda/kernel_args.h"', "using namespace adamp;", *lines])
    )
    flags = [*Variant("", "", macros).flags, f"-I{ROOT / 'csrc'}"]
    subprocess.run([build.compiler(), "-std=c++17", "-fsyntax-only", *flags, source], check=True)
    elsewhere = "".join(path.read_text() for path in (ROOT / "csrc/cuda").glob("*.c*"))
    assert all(name in elsewhere for name in {m for v in VARIANTS for m in v.macros} - set(macros))


def test_registers_of_the_float32_kernels() -> None:
    """The other kernels, which nothing here times, may take more."""
    said = "".join(
        f"ptxas info    : Compiling entry function '_ZN5adamp11step_kernelINS_{method}"
        f"ELNS_7TypeSetE{types}EEEvNS_10KernelArgsE' for 'sm_90'\n"
        f"ptxas info    : Function properties for _ZN5adamp11step_kernel\n"
        f"    0 bytes stack frame, {spilled} bytes spill stores, 0 bytes spill loads\n"
        f"ptxas info    : Used {registers} registers, used 2 barriers\n"
        for method, types, registers, spilled in (
            ("5AdamP", 0, 70, 0),
            ("5AdamP", 1, 96, 8),
            ("5AdamP", 2, 96, 88),
            ("4SGDP", 0, 68, 4),
            ("4SGDP", 1, 90, 0),
            ("8MeasuredINS_4SGDPEE", 0, 72, 16),
        )
    )
    assert resources(said) == (70, 4)
    assert resources("") == (0, 0)


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
    bandwidth, times = tune.time_once(program, tune.Case(method, SMALL, kind), batches=3, steps=2)
    assert bandwidth > 0
    assert len(times) == 3
    assert all(time > 0 for time in times)


def test_emulated_program_says_what_is_wrong(program: Path) -> None:
    """An outcome that it does not know is named."""
    done = subprocess.run(
        [program, "adamp", "1", "1"], input="4 4 often\n", capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "no outcome: often" in done.stderr


def test_report_compares_each_variant_with_the_default(tmp_path: Path) -> None:
    """Medians, ratios, shares of the bandwidth; one that fails is named and stops no other."""
    numbers = {DEFAULT.name: "1000\n2\n4\n3\n", "quick": "1000\n1\n2\n1.5\n"}
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
    report = TuneReport({})
    case = tune.Case("sgdp", SMALL, "natural")
    tune.alternate(built, case, rounds=2, batches=3, steps=1, report=report)
    found = {timing.variant: timing for timing in report.timings}
    assert {name: t.microseconds for name, t in found.items()} == {DEFAULT.name: 3, "quick": 1.5}
    assert found["quick"].ratio == 0.5
    assert found["quick"].batches == 6
    moved = 20 * SMALL.numel
    assert found["quick"].memcpy_share == pytest.approx(moved / 1.5e-6 / 1e12)
    assert report.failed == {f"broken, {case.title}": "no luck"}


def test_unknown_variant_is_named() -> None:
    """The message lists those there are."""
    (lag,) = (variant for variant in VARIANTS if variant.name == "fix-up lag 4")
    assert tune.chosen("fix-up lag 4") == (DEFAULT, lag)
    with pytest.raises(ValueError, match=r"no variant 'fast'; there are: default, .*"):
        tune.chosen("fast")


def test_without_a_gpu_it_says_so() -> None:
    """Nothing is measured, and the exit status says that."""
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", "bench.tools.tune"],
        cwd=ROOT,
        env=hidden,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "python -m bench.tools.tune needs" in done.stdout
