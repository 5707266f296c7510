"""Reads the PTX that nvcc makes of the kernels: entries, registers, instructions.

Only what nvcc emits for a kernel without calls: no functions, no textures, no debug sections.
Source: the PTX ISA reference manual, chapters 4 (syntax) and 5 (state spaces and variables).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# What says nothing about values.
IGNORED = (".loc", ".file", ".pragma", ".version", ".target", ".address_size")


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        line: in the listing, for messages.
        guard: the predicate it is executed under, as ``%p1`` or ``!%p1``, or "".
        opcode: with its modifiers, split at the dots.
        operands: as they are written.
    """

    line: int
    guard: str
    opcode: tuple[str, ...]
    operands: tuple[str, ...]

    def __str__(self) -> str:
        guard = f"@{self.guard} " if self.guard else ""
        return f"line {self.line}: {guard}{'.'.join(self.opcode)} {', '.join(self.operands)}"


@dataclass(frozen=True)
class Label:
    """A place that branches name."""

    name: str


@dataclass(frozen=True)
class Registers:
    """A declaration: ``count`` registers ``name0``, ``name1``, or one of that name (None)."""

    type: str
    name: str
    count: int | None


@dataclass(frozen=True)
class Scope:
    """A brace."""

    opens: bool


Statement = Instruction | Label | Registers | Scope


@dataclass
class Entry:
    """A kernel.

    Attributes:
        name: as mangled by nvcc.
        parameters: name -> bytes.
        threads: of a block, at most (``.maxntid``).
        local: name -> bytes of the memory of each thread.
        body: what it does.
    """

    name: str
    parameters: dict[str, int]
    threads: int
    local: dict[str, int] = field(default_factory=dict)
    body: list[Statement] = field(default_factory=list)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, without comments and what is ignored."""
    text = re.sub(r"/\*.*?\*/", lambda found: "\n" * found[0].count("\n"), text, flags=re.DOTALL)
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("//")[0].strip()
        if line and not line.startswith(IGNORED):
            yield number, line


def _split(operands: str) -> tuple[str, ...]:
    """At commas outside braces and brackets."""
    parts = re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,{\[])+", operands)
    return tuple(part.strip() for part in parts if part.strip())


def _statement(entry: Entry, line: int, text: str) -> None:
    """Add one statement, which ended with a semicolon."""
    if found := re.fullmatch(r"\.reg\s+\.(\w+)\s+(.+)", text):
        for name in found[2].split(","):
            name, _, count = name.strip().partition("<")
            number = int(count.rstrip(">")) if count else None
            entry.body.append(Registers(found[1], name, number))
    elif found := re.fullmatch(r"\.local\s+\.align\s+\d+\s+\.b8\s+(\w+)\[(\d+)\]", text):
        entry.local[found[1]] = int(found[2])
    elif text.startswith("."):
        raise ValueError(f"line {line}: a declaration that is not known: {text}")
    else:
        found = re.fullmatch(r"(?:@(!?%?\w+)\s+)?([\w.:]+)\s*(.*)", text, re.DOTALL)
        if found is None:
            raise ValueError(f"line {line}: not an instruction: {text}")
        opcode = tuple(found[2].split("."))
        entry.body.append(Instruction(line, found[1] or "", opcode, _split(found[3])))


def _body(entry: Entry, lines: Iterator[tuple[int, str]]) -> None:
    """Read up to the brace that closes the entry."""
    depth, pending, first = 1, "", 0
    for number, line in lines:
        rest = line
        while rest:
            first = first if pending else number
            if not pending and (found := re.match(r"([$\w]+):\s*", rest)):
                entry.body.append(Label(found[1]))
                rest = rest[found.end() :]
            elif not pending and rest[0] in "{}":
                depth += 1 if rest[0] == "{" else -1
                if depth == 0:
                    return
                entry.body.append(Scope(rest[0] == "{"))
                rest = rest[1:].lstrip()
            else:
                text, semicolon, rest = rest.partition(";")
                pending = f"{pending} {text}".strip()
                rest = rest.lstrip()
                if semicolon:
                    _statement(entry, first, pending)
                    pending = ""
    raise ValueError(f"the entry {entry.name} does not end")


def parse(text: str) -> tuple[list[Entry], set[str]]:
    """All entries, and the names of the dynamic shared memory."""
    entries, shared = [], set()
    lines = iter(list(_lines(text)))
    for number, line in lines:
        if found := re.match(r"\.extern\s+\.shared\s+\.align\s+\d+\s+\.b8\s+(\w+)\[\]", line):
            shared.add(found[1])
            continue
        found = re.match(r"(?:\.visible\s+|\.weak\s+)*\.entry\s+([\w$]+)", line)
        if found is None:
            raise ValueError(f"line {number}: neither an entry nor shared memory: {line}")
        head = line
        while not head.endswith("{"):
            head += " " + next(lines)[1]
        parameters = re.findall(r"\.param\s+\.align\s+\d+\s+\.b8\s+([\w$]+)\[(\d+)\]", head)
        threads = re.search(r"\.maxntid\s+(\d+)", head)
        entry = Entry(
            found[1],
            {name: int(size) for name, size in parameters},
            int(threads[1]) if threads else 1024,
        )
        _body(entry, lines)
        entries.append(entry)
    return entries, shared
