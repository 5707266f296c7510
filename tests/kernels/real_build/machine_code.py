"""What the machine code of the kernels says: registers, local memory, accesses to global memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

Key = tuple[str, str]  # architecture, symbol


class Resources(NamedTuple):
    """Of one kernel, in bytes but for the registers."""

    registers: int
    stack: int
    local: int
    shared: int


class Instruction(NamedTuple):
    """One instruction: where it stands, the operation with its modifiers, the rest."""

    address: int
    operation: str
    operands: str

    @property
    def is_arithmetic(self) -> bool:
        """Whether it computes with floating-point numbers."""
        return re.match(r"[FDH](FMA|MUL|ADD)|MUFU", self.operation) is not None

    @property
    def is_data_access(self) -> bool:
        """Whether it loads or stores global memory, in no order with other blocks."""
        # LD and ST take an address of any space; shared memory's own are LDS and STS.
        return re.match(r"(LD|ST)G?(\.(?!.*STRONG)|$)", self.operation) is not None

    @property
    def is_vectorized(self) -> bool:
        """Whether it moves 16 bytes."""
        return self.operation.endswith(".128")

    @property
    def is_local_access(self) -> bool:
        """Whether it loads or stores local memory, as spilled registers do."""
        return re.match(r"(LD|ST)L(\.|$)", self.operation) is not None


@dataclass(frozen=True)
class Accesses:
    """How a kernel accesses memory.

    Attributes:
        local: instructions that load or store local memory.
        vectorized_loops: loops with arithmetic that move 16 bytes of global memory at a time.
        mixed_loops: those that have narrower accesses to global memory as well.
        vectorized: accesses of 16 bytes in loops with arithmetic.
        narrow: narrower ones.
    """

    local: int
    vectorized_loops: int
    mixed_loops: int
    vectorized: int
    narrow: int


def resources(text: str) -> dict[Key, Resources]:
    """Parse what ``cuobjdump -res-usage`` prints."""
    found = {}
    architecture = symbol = ""
    for line in text.splitlines():
        if match := re.match(r"arch = (\w+)", line):
            architecture = match[1]
        elif match := re.match(r"\s*Function (\w+):", line):
            symbol = match[1]
        elif "REG:" in line and symbol:
            value = dict(re.findall(r"(\w+):(\d+)", line))
            found[architecture, symbol] = Resources(
                *(int(value[name]) for name in ("REG", "STACK", "LOCAL", "SHARED"))
            )
    return found


def instructions(text: str) -> dict[Key, list[Instruction]]:
    """Parse what ``cuobjdump -sass`` prints."""
    found: dict[Key, list[Instruction]] = {}
    architecture = ""
    code: list[Instruction] = []
    for line in text.splitlines():
        if match := re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(?:@\S+\s+)?([A-Z][\w.]*)(.*?);", line):
            code.append(Instruction(int(match[1], 16), match[2], match[3]))
        elif match := re.match(r"\s*code for (\w+)", line):
            architecture = match[1]
        elif match := re.match(r"\s*Function : (\w+)", line):
            code = found[architecture, match[1]] = []
    return found


def innermost_loops(code: list[Instruction]) -> Iterator[list[Instruction]]:
    """Stretches of code from a branch's target to the branch that contain no other such stretch."""
    stretches = set()
    for at in code:
        # After the target there may be notes on scheduling.
        target = re.search(r"\s0x([0-9a-f]+)(\s|$)", at.operands)
        if at.operation.startswith("BRA") and target and int(target[1], 16) <= at.address:
            stretches.add((int(target[1], 16), at.address))
    place = {at.address: index for index, at in enumerate(code)}
    # In order of their ends: whoever begins no earlier than all that end later contains none.
    latest = -1
    for begin, end in sorted(stretches, key=lambda stretch: (stretch[1], -stretch[0])):
        if begin > latest:
            yield code[place[begin] : place[end] + 1]
        latest = max(latest, begin)


def accesses(code: list[Instruction]) -> Accesses:
    """Count the accesses of a kernel."""
    vectorized_loops = mixed_loops = vectorized = narrow = 0
    for loop in innermost_loops(code):
        if not any(at.is_arithmetic for at in loop):
            continue
        widths = [at.is_vectorized for at in loop if at.is_data_access]
        vectorized_loops += any(widths)
        mixed_loops += any(widths) and not all(widths)
        vectorized += sum(widths)
        narrow += len(widths) - sum(widths)
    local = sum(at.is_local_access for at in code)
    return Accesses(local, vectorized_loops, mixed_loops, vectorized, narrow)
