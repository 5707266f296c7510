"""Branches, barriers and what a warp does together, from PTX to C++.

Source: the PTX ISA reference manual, chapter 9.
"""

from __future__ import annotations

from kernels.ptx.listing import Instruction
from kernels.ptx.operands import Operands, Unknown


def label(name: str) -> str:
    """A label's name in C++."""
    return name.replace("$", "L")


def _shuffle(o: Operands, i: Instruction) -> str:
    if i.opcode[1:] != ("sync", "bfly", "b32"):
        raise Unknown(i, "another shuffle")
    to, value, mask, clamp, members = i.operands
    register, _, valid = to.partition("|")
    numbers = ", ".join(o.read(operand, "u32") for operand in (mask, clamp, members))
    call = f"exchange({o.read(value, 'b32')}, {numbers}, {i.line})"
    also = o.write(valid, "true") if valid else ""
    return f"{o.write(register, call)} {also}"


def _reduce(o: Operands, i: Instruction) -> str:
    if i.opcode[1:3] != ("sync", "add") or i.opcode[3] not in ("u32", "s32"):
        raise Unknown(i, "another reduction")
    to, value, members = i.operands
    call = f"sum_of_warp({o.read(value, 'b32')}, {o.read(members, 'u32')}, {i.line})"
    return o.write(to, call)


def _barrier(o: Operands, i: Instruction) -> str:
    number, *count = i.operands
    if i.opcode[1:] != ("sync",) or o.is_register(number):
        raise Unknown(i, "another barrier")
    if int(number, 0) == 0 and not count:
        return "barrier();"
    if int(number, 0) != 0 and count:
        return f"barrier_of({number}, {o.read(count[0], 'u32')});"
    raise Unknown(i, "a barrier of other threads")


def _branch(o: Operands, i: Instruction) -> str:
    if set(i.opcode[1:]) - {"uni"}:
        raise Unknown(i, "a modifier")
    return f"goto {label(i.operands[0])};"


def _end(o: Operands, i: Instruction) -> str:
    return "return;"


def _sleep(o: Operands, i: Instruction) -> str:
    return "emulation::pause();"


CONTROL = {
    "shfl": _shuffle,
    "redux": _reduce,
    "bar": _barrier,
    "bra": _branch,
    "ret": _end,
    "nanosleep": _sleep,
}
