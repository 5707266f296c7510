"""Turns PTX into C++ that does the same on the emulated device, an instruction at a time.

Registers are unsigned integers of their width and hold bits; ``machine.h`` has what is more than an
operator of C++. An instruction, a modifier or a type that is not listed here is an error, never a
guess: ``.ftz`` and arithmetic that the assembler may contract, for example.

Source: the PTX ISA reference manual, chapter 9.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kernels.ptx.arithmetic import ARITHMETIC
from kernels.ptx.control import CONTROL, label
from kernels.ptx.listing import Entry, Instruction, Label, Registers, Scope, parse
from kernels.ptx.memory import MEMORY
from kernels.ptx.operands import WIDTH, Operands, Unknown, bits_type

KNOWN: dict[str, Callable[[Operands, Instruction], str]] = ARITHMETIC | MEMORY | CONTROL


class Translator(Operands):
    """One entry."""

    def instruction(self, i: Instruction) -> str:
        """One instruction as C++."""
        translate = KNOWN.get(i.opcode[0])
        if translate is None:
            raise Unknown(i, "not known")
        try:
            text = translate(self, i)
        except Unknown:
            raise
        except (ValueError, KeyError, StopIteration, IndexError) as error:
            raise Unknown(i, f"{type(error).__name__}: {error}") from error
        return f"if ({self.predicate(i.guard)}) {{ {text} }}" if i.guard else text

    def declare(self, registers: Registers) -> str:
        """Registers as variables, zero at first: what PTX leaves undefined is never looked at."""
        width = None if registers.type == "pred" else WIDTH[registers.type]
        if registers.count is None:
            names = [registers.name]
        else:
            names = [f"{registers.name}{k}" for k in range(registers.count)]
        self.scopes[-1].update(dict.fromkeys(names, width))
        used = [f"{self.variable(name)} = 0" for name in names if name in self.used]
        kind = "bool" if width is None else bits_type(width)
        return f"{kind} {', '.join(used)};" if used else ""

    def function(self, name: str) -> str:
        """The entry as a function of its parameter block."""
        operands = [
            text
            for statement in self.entry.body
            if isinstance(statement, Instruction)
            for text in (statement.guard, *statement.operands)
        ]
        self.used = set(re.findall(r"%?[A-Za-z_]\w*", " ".join(operands)))
        lines = [f"void {name}([[maybe_unused]] const unsigned char* parameter) {{"]
        lines += [
            f"alignas(16) unsigned char local_{local}[{size}];"
            for local, size in self.entry.local.items()
        ]
        for statement in self.entry.body:
            if isinstance(statement, Instruction):
                lines.append(self.instruction(statement))
            elif isinstance(statement, Label):
                lines.append(f"{label(statement.name)}:;")
            elif isinstance(statement, Registers):
                lines.append(self.declare(statement))
            elif isinstance(statement, Scope) and statement.opens:
                self.scopes.append({})
                lines.append("{")
            else:
                self.scopes.pop()
                lines.append("}")
        return "\n".join([*lines, "}"])


def entries(text: str) -> dict[str, tuple[Entry, Callable[[str], str]]]:
    """All entries of a listing by their names, each with what makes a C++ function of it."""
    found, shared = parse(text)
    return {entry.name: (entry, Translator(entry, shared).function) for entry in found}
