"""Operands of PTX as C++: registers are unsigned integers of their width and hold bits.

Source: the PTX ISA reference manual, chapters 5 and 6.
"""

from __future__ import annotations

import re

from kernels.ptx.listing import Entry, Instruction

WIDTH = {
    **{f"{kind}{bits}": bits for kind in "bus" for bits in (8, 16, 32, 64)},
    **{"f16": 16, "bf16": 16, "f32": 32, "f64": 64},
}
SPECIAL = {
    "%tid.x": "uint32_t(emulation::here.thread)",
    "%ntid.x": "uint32_t(emulation::here.threads)",
    "%ctaid.x": "uint32_t(emulation::here.block)",
    "%nctaid.x": "uint32_t(emulation::here.blocks)",
}


class Unknown(ValueError):
    """An instruction that this translation does not know."""

    def __init__(self, instruction: Instruction, why: str) -> None:
        super().__init__(f"{instruction}: {why}")


def value_type(name: str) -> str:
    """The C++ type that an operand of this PTX type is computed in."""
    bits = WIDTH[name]
    if name in ("f32", "f64"):
        return "float" if bits == 32 else "double"
    return f"{'int' if name[0] == 's' else 'uint'}{bits}_t"


def bits_type(width: int) -> str:
    """The C++ type of a register."""
    return f"uint{width}_t"


class Operands:
    """The operands of one entry."""

    def __init__(self, entry: Entry, shared: set[str]) -> None:
        self.entry = entry
        self.shared = shared
        # Register -> width, None: a predicate; the innermost braces last.
        self.scopes: list[dict[str, int | None]] = [{}]

    def width(self, register: str) -> int | None:
        """Bits of a register; None: a predicate."""
        for scope in reversed(self.scopes):
            if register in scope:
                return scope[register]
        raise KeyError(register)

    def is_register(self, operand: str) -> bool:
        """Whether an operand has been declared as a register."""
        return any(operand in scope for scope in self.scopes)

    @staticmethod
    def variable(register: str) -> str:
        """Its name in C++."""
        return "r_" + register.lstrip("%")

    def read(self, operand: str, type_name: str) -> str:
        """An operand as a value of a type."""
        to = value_type(type_name)
        if operand in SPECIAL:
            return f"{to}({SPECIAL[operand]})"
        if self.is_register(operand):
            width = self.width(operand)
            if width is None:
                raise ValueError(f"the predicate {operand} is no {type_name}")
            if width < WIDTH[type_name]:
                raise ValueError(f"{operand} is narrower than {type_name}")
            bits = f"{bits_type(WIDTH[type_name])}({self.variable(operand)})"
            return f"as<{to}>({bits})"
        if found := re.fullmatch(r"0[fF]([0-9a-fA-F]{8})", operand):
            return f"as<float>(0x{found[1]}u)" if to == "float" else f"{to}(0x{found[1]}u)"
        if found := re.fullmatch(r"0[dD]([0-9a-fA-F]{16})", operand):
            return f"as<double>(0x{found[1]}ull)" if to == "double" else f"{to}(0x{found[1]}ull)"
        if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", operand):
            number = int(operand.rstrip("U"), 0) % 2**64
            bits = f"{bits_type(WIDTH[type_name])}({number}ull)"
            return f"as<{to}>({bits})"
        if operand in self.shared:
            return f"{to}(kSharedBase)"
        if operand in self.entry.local:
            return f"{to}(reinterpret_cast<uint64_t>(local_{operand}))"
        if operand in self.entry.parameters:
            return f"{to}(reinterpret_cast<uint64_t>(parameter))"
        raise ValueError(f"an operand that is not known: {operand}")

    def predicate(self, operand: str) -> str:
        """A predicate, perhaps negated."""
        name = operand.lstrip("!")
        if self.width(name) is not None:
            raise ValueError(f"{name} is no predicate")
        return ("!" if operand.startswith("!") else "") + self.variable(name)

    def write(self, register: str, value: str) -> str:
        """Assign bits, or a truth value; what is narrower than the register is extended."""
        if register == "_":
            return f"(void)({value});"
        width = self.width(register)
        if width is None:
            return f"{self.variable(register)} = {value};"
        return f"{self.variable(register)} = to_register<{bits_type(width)}>({value});"

    def address(self, operand: str, space: str) -> str:
        """A pointer."""
        found = re.fullmatch(r"\[\s*([%$\w]+)\s*(?:\+\s*(-?\w+))?\s*\]", operand)
        if found is None:
            raise ValueError(f"not an address: {operand}")
        base, offset = found[1], int(found[2] or "0", 0)
        if space == "param" and base in self.entry.parameters:
            return f"const_cast<unsigned char*>(parameter) + {offset}"
        if space == "shared":
            whole = f"uint64_t({self.variable(base)})" if self.is_register(base) else "kSharedBase"
            return f"shared_at({whole} + {offset})"
        return f"generic_at({self.read(base, 'u64')} + int64_t({offset}))"
