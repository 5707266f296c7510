"""The figures of each kernel, the checked-in table of them, and what counts as a regression."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from kernels.real_build import machine_code, occupancy
from kernels.real_build.build import Launch
from kernels.real_build.machine_code import Accesses, Resources

PATH = Path(__file__).with_name("table.md")
ACCEPT = "make real-build ARGS=--accept"

# Better or worse than the table: the direction a figure may move in.
NO_MORE = ("registers", "narrow_accesses")
NO_FEWER = ("blocks", "warps", "vectorized_loops", "vectorized_accesses")


@dataclass(frozen=True)
class Row:
    """What the table says of one kernel on one architecture.

    Attributes:
        kernel: the kernel's name for readers.
        arch: the architecture.
        threads: of a block.
        registers: of a thread.
        shared_bytes: shared memory that a block takes.
        blocks: on an SM at a time.
        warps: on an SM at a time.
        vectorized_loops: loops with arithmetic that move 16 bytes at a time.
        vectorized_accesses: accesses of 16 bytes to global memory in loops with arithmetic.
        narrow_accesses: narrower ones.
    """

    kernel: str
    arch: str
    threads: int
    registers: int
    shared_bytes: int
    blocks: int
    warps: int
    vectorized_loops: int
    vectorized_accesses: int
    narrow_accesses: int

    @property
    def key(self) -> tuple[str, str]:
        """What tells rows apart."""
        return self.kernel, self.arch


COLUMNS = tuple(field.name.replace("_", " ") for field in fields(Row))


def row(launch: Launch, arch: str, found: Resources, found_accesses: Accesses) -> Row:
    """Work out one row."""
    if arch not in occupancy.MACHINES:
        sys.exit(f"occupancy.py has no SM for {arch}: add it to MACHINES")
    machine = occupancy.MACHINES[arch]
    shared = occupancy.shared_of_block(machine, found.shared, launch.shared)
    blocks = occupancy.blocks(machine, found.registers, launch.threads, shared)
    return Row(
        launch.name,
        arch,
        launch.threads,
        found.registers,
        shared,
        blocks,
        blocks * -(-launch.threads // occupancy.WARP),
        found_accesses.vectorized_loops,
        found_accesses.vectorized,
        found_accesses.narrow,
    )


def faults(name: str, found: Resources, found_accesses: Accesses) -> list[str]:
    """What no kernel may do, whatever the table says."""
    checks = {
        "bytes of stack": found.stack,
        "bytes of local memory": found.local,
        "loads and stores of local memory (spilled registers)": found_accesses.local,
        "loops that mix 16-byte accesses with narrower ones": found_accesses.mixed_loops,
    }
    wrong = [f"{name}: {value} {what}, must be 0" for what, value in checks.items() if value]
    if found_accesses.vectorized_loops == 0:
        wrong.append(f"{name}: no loop that moves 16 bytes at a time")
    return wrong


def examine(launches: Iterable[Launch], resources: str, sass: str) -> tuple[list[Row], list[str]]:
    """Rows and faults of every kernel.

    Args:
        launches: how each kernel is launched.
        resources: what ``cuobjdump -res-usage`` prints.
        sass: what ``cuobjdump -sass`` prints.
    """
    by_symbol = {launch.symbol: launch for launch in launches}
    code = machine_code.instructions(sass)
    rows, wrong = [], []
    for (arch, symbol), found in machine_code.resources(resources).items():
        launch = by_symbol.get(symbol)
        if launch is None:
            wrong.append(f"{symbol}: resident_blocks() is never asked for it; see launch_probe.cpp")
            continue
        found_accesses = machine_code.accesses(code[arch, symbol])
        rows.append(row(launch, arch, found, found_accesses))
        wrong += faults(f"{launch.name}, {arch}", found, found_accesses)
        if rows[-1].blocks == 0:
            wrong.append(f"{launch.name}, {arch}: no SM can hold a block")
    return sorted(rows, key=lambda row: (row.kernel, int(row.arch[3:]))), sorted(wrong)


def compare(now: Iterable[Row], before: Iterable[Row]) -> tuple[list[str], list[str]]:
    """Figures worse than the table's, and others that differ from it."""
    new, old = ({row.key: row for row in rows} for rows in (now, before))
    worse = [f"{', '.join(key)}: in the table, but not built" for key in old.keys() - new.keys()]
    worse += [f"{', '.join(key)}: built, but not in the table" for key in new.keys() - old.keys()]
    other: list[str] = []
    for key in sorted(new.keys() & old.keys()):
        for name, column in zip((field.name for field in fields(Row)), COLUMNS, strict=True):
            value, accepted = getattr(new[key], name), getattr(old[key], name)
            if value == accepted:
                continue
            text = f"{', '.join(key)}: {value} {column}, {accepted} in the table"
            more = value > accepted
            bad = (more and name in NO_MORE) or (not more and name in NO_FEWER)
            (worse if bad else other).append(text)
    return sorted(worse), other


def markdown(rows: Iterable[Row]) -> str:
    """The rows as a table."""
    lines = [COLUMNS, (":--", ":--", *("--:" for _ in COLUMNS[2:])), *map(astuple, rows)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def document(rows: Iterable[Row], nvcc: str) -> str:
    """The checked-in file."""
    return f"""# Machine code of the CUDA kernels

Written by `{ACCEPT}` from what nvcc {nvcc} made of `csrc/cuda`. `make real-build`
fails where a kernel has more registers or more narrow accesses than here, or fewer blocks, warps,
vectorized loops or vectorized accesses; and, whatever stands here, where one uses local memory.

Blocks and warps are those of one SM. Accesses are instructions for global memory in
innermost loops that compute with floating-point numbers: vectorized ones move 16 bytes, narrow ones
less (arrays that lie differently against 16-byte boundaries; sums of rows).

{markdown(rows)}
"""


def parse(text: str) -> tuple[list[Row], str]:
    """Rows and nvcc's version of a checked-in file."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    version = re.search(r"nvcc ([\d.]*\d)", text)
    if version is None or lines[:1] != [list(COLUMNS)]:
        sys.exit(f"{PATH.name} is not a table of this tool: make it anew with `{ACCEPT}`")
    rows = [Row(cells[0], cells[1], *map(int, cells[2:])) for cells in lines[2:]]
    return rows, version[1]
