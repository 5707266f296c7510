"""Terminal output: lines, tables and progress."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.lib.implementations import Skipped

BOLD, DIM, PLAIN = "\033[1m", "\033[2m", "\033[0m"


def _styled(text: str, style: str) -> str:
    return f"{style}{text}{PLAIN}" if style and sys.stdout.isatty() else text


def say(text: str, style: str = "") -> None:
    """Print a text."""
    print(_styled(text, style), flush=True)


def finish(skipped: Iterable[Skipped], path: Path) -> None:
    """Say what was not measured, and where the results are."""
    for item in skipped:
        say(f"  not measured: {item.name}: {item.reason}", DIM)
    say(f"  results: {path}", DIM)


def table(
    title: str, columns: list[str], rows: list[list[str]], notes: list[str], bold: set[int]
) -> None:
    """Print a table, its first column left aligned and the rest right; ``bold`` names rows."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]

    def line(cells: list[str]) -> str:
        first, *rest = zip(cells, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)])

    say(f"\n{title}", BOLD)
    say(line(columns), DIM)
    for index, row in enumerate(rows):
        say(line(row), BOLD if index in bold else "")
    for note in notes:
        say(f"  {note}", DIM)


@contextlib.contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[], None]]:
    """A counter of ``total`` units of work, gone when done; silent without a terminal."""
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if sys.stdout.isatty():
            print(f"\r{label} {done}/{total}", end="", flush=True)

    yield advance
    if sys.stdout.isatty():
        print(f"\r{' ' * (len(label) + 2 * len(str(total)) + 2)}\r", end="", flush=True)
