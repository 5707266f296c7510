"""What `make real-build` reads in machine code, and what it calls a regression."""

import dataclasses
import re

import pytest

from environments import ROOT
from kernels.real_build import machine_code, occupancy, table
from kernels.real_build.build import Launch
from kernels.real_build.machine_code import Accesses, Resources

SAMPLES = ROOT / "tests" / "kernels" / "real_build"
# In the form of cuobjdump's output, cut down. The loops of _Z1a in turn: vectorized, inside an
# outer loop that does not count; narrow; without arithmetic; without accesses; waiting for another
# block; and the end of every kernel. _Z1b mixes widths, and spills.
RESOURCES = (SAMPLES / "sample_resources.txt").read_text()
SASS = (SAMPLES / "sample_sass.txt").read_text()

LAUNCHES = [Launch("first", "_Z1a", 384, 75196), Launch("second", "_Z1b", 384, 1024)]
CLEAN = Resources(registers=80, stack=0, local=0, shared=0)
GOOD = Accesses(local=0, vectorized_loops=6, mixed_loops=0, vectorized=32, narrow=76)


def test_resources() -> None:
    """Figures are found under their architecture and kernel."""
    assert machine_code.resources(RESOURCES) == {
        ("sm_80", "_Z1a"): Resources(77, 0, 0, 0),
        ("sm_80", "_Z1b"): Resources(80, 40, 8, 16),
        ("sm_120", "_Z1a"): Resources(78, 0, 0, 1024),
    }


def test_accesses() -> None:
    """Accesses count in innermost loops with arithmetic, spills anywhere."""
    code = machine_code.instructions(SASS)
    assert {key: machine_code.accesses(each) for key, each in code.items()} == {
        ("sm_80", "_Z1a"): Accesses(
            local=0, vectorized_loops=1, mixed_loops=0, vectorized=2, narrow=2
        ),
        ("sm_80", "_Z1b"): Accesses(
            local=2, vectorized_loops=1, mixed_loops=1, vectorized=1, narrow=1
        ),
        ("sm_120", "_Z1a"): Accesses(
            local=0, vectorized_loops=1, mixed_loops=0, vectorized=1, narrow=0
        ),
    }


@pytest.mark.parametrize(
    ("arch", "registers", "threads", "shared", "expected"),
    [
        ("sm_80", 80, 384, 75196, 2),  # registers: 24 warps
        ("sm_80", 88, 384, 75196, 1),  # registers: 20 warps
        ("sm_90", 40, 384, 75196, 3),  # shared memory
        ("sm_80", 40, 384, 83072, 1),  # shared memory: 82.0 KiB and the reserved one
        ("sm_80", 40, 384, 82944, 2),  # shared memory: just fits twice
        ("sm_120", 80, 384, 75196, 1),  # shared memory: less of it
        ("sm_90", 32, 512, 0, 4),  # warps
        ("sm_120", 32, 512, 0, 3),  # warps: fewer of them
        ("sm_100", 16, 32, 0, 32),  # blocks
        ("sm_120", 16, 32, 0, 24),  # blocks: fewer of them
        ("sm_80", 72, 928, 0, 0),  # registers: 28 warps, and a block has 29
    ],
)
def test_occupancy(arch: str, registers: int, threads: int, shared: int, expected: int) -> None:
    """As cuda_occupancy.h of CUDA 13.0 has it, each limit in turn."""
    machine = occupancy.MACHINES[arch]
    # Machine code counts what the system takes from 9.0 on.
    taken = occupancy.shared_of_block(machine, 0 if arch == "sm_80" else 1024, shared)
    assert occupancy.blocks(machine, registers, threads, taken) == expected


def test_examine() -> None:
    """Rows have the figures of their own kernel; faults are listed."""
    rows, faults = table.examine(LAUNCHES, RESOURCES, SASS)
    assert rows == [
        table.Row("first", "sm_80", 384, 77, 76288, 2, 24, 1, 2, 2),
        table.Row("first", "sm_120", 384, 78, 76288, 1, 12, 1, 1, 0),
        table.Row("second", "sm_80", 384, 80, 2176, 2, 24, 1, 1, 1),
    ]
    assert len(faults) == 4 and all(fault.startswith("second, sm_80: ") for fault in faults)


def test_unknown_kernel() -> None:
    """A kernel of which nobody knows how it is launched is a fault, not left out."""
    _, faults = table.examine(LAUNCHES[:1], RESOURCES, SASS)
    assert any("_Z1b" in fault and "launch_probe.cpp" in fault for fault in faults)


def test_too_large_a_block() -> None:
    """A kernel that could not be launched is a fault."""
    large = [dataclasses.replace(LAUNCHES[0], shared=160 * 1024), LAUNCHES[1]]
    _, faults = table.examine(large, RESOURCES, SASS)
    assert [fault for fault in faults if "no SM can hold" in fault] == [
        "first, sm_120: no SM can hold a block"
    ]


@pytest.mark.parametrize(
    ("found", "found_accesses", "word"),
    [
        (CLEAN._replace(stack=8), GOOD, "8 bytes of stack"),
        (CLEAN._replace(local=8), GOOD, "8 bytes of local memory"),
        (CLEAN, dataclasses.replace(GOOD, local=3), "3 loads and stores of local memory"),
        (CLEAN, dataclasses.replace(GOOD, mixed_loops=1), "1 loops that mix"),
        (CLEAN, dataclasses.replace(GOOD, vectorized_loops=0), "no loop that moves 16 bytes"),
    ],
)
def test_faults(found: Resources, found_accesses: Accesses, word: str) -> None:
    """What the table cannot excuse."""
    assert table.faults("kernel", CLEAN, GOOD) == []
    [fault] = table.faults("kernel", found, found_accesses)
    assert word in fault


ACCEPTED = table.Row("first", "sm_80", 384, 77, 76288, 2, 24, 6, 32, 76)


@pytest.mark.parametrize("step", [-1, 1])
@pytest.mark.parametrize(
    ("column", "worse_step"),
    [
        ("threads", None),
        ("registers", 1),
        ("shared_bytes", None),
        ("blocks", -1),
        ("warps", -1),
        ("vectorized_loops", -1),
        ("vectorized_accesses", -1),
        ("narrow_accesses", 1),
    ],
)
def test_regression(column: str, worse_step: int | None, step: int) -> None:
    """Each figure may move in one direction only; the message has both values."""
    value = getattr(ACCEPTED, column)
    now = dataclasses.replace(ACCEPTED, **{column: value + step})
    worse, other = table.compare([now], [ACCEPTED])
    [message] = worse + other
    assert bool(worse) == (step == worse_step)
    words = column.replace("_", " ")
    assert message == f"first, sm_80: {value + step} {words}, {value} in the table"


def test_missing_and_added_kernels() -> None:
    """A kernel that only one side knows is a regression."""
    assert table.compare([ACCEPTED], [ACCEPTED]) == ([], [])
    assert table.compare([], [ACCEPTED]) == (["first, sm_80: in the table, but not built"], [])
    assert table.compare([ACCEPTED], []) == (["first, sm_80: built, but not in the table"], [])


def test_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit status, how to accept, and a word about another compiler."""
    from kernels.real_build.__main__ import verdict

    assert verdict([], [], "13.1", "13.0") == 0
    assert capsys.readouterr().out == ""
    assert verdict([], ["fewer registers"], "13.0", "13.0") == 0
    said = capsys.readouterr().out
    assert "--accept" in said and "nvcc" not in said
    assert verdict(["more registers"], [], "13.1.2", "13.0.88") == 1
    said = capsys.readouterr().out
    assert "WORSE: more registers" in said and "--accept" in said
    assert "nvcc 13.0.88" in said and "nvcc 13.1.2" in said


def test_table_is_read_as_written() -> None:
    """What `--accept` writes is what the next run compares with."""
    rows, _ = table.examine(LAUNCHES, RESOURCES, SASS)
    assert table.parse(table.document(rows, "13.0.88")) == (rows, "13.0.88")
    with pytest.raises(SystemExit, match="--accept"):
        table.parse("# nvcc 13.0.88\n\n| kernel | arch |\n")


def test_checked_in_table() -> None:
    """Every kernel stands there once for each architecture of setup.py."""
    rows, _ = table.parse(table.PATH.read_text())
    archs = re.search(r'DEFAULT_ARCHS = "(.+)"', (ROOT / "setup.py").read_text())
    assert archs is not None
    wanted = {f"sm_{arch.replace('.', '').removesuffix('+PTX')}" for arch in archs[1].split()}
    kernels = {row.kernel for row in rows}
    assert kernels
    assert sorted(row.key for row in rows) == sorted((k, arch) for k in kernels for arch in wanted)
