"""Terminal output: tables and a progress bar by rich; plain text where there is no rich."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

Advance = Callable[[], None]

# Wide enough for every table here; output that is no terminal has no width of its own.
PLAIN_WIDTH = 120


def _console() -> Console | None:
    if importlib.util.find_spec("rich") is None:
        return None
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)


_CONSOLE = _console()


def say(text: str, style: str = "") -> None:
    """Print one line."""
    if _CONSOLE is None:
        print(text, flush=True)
    else:
        _CONSOLE.print(text, style=style, markup=False)


def table(
    title: str, columns: list[str], rows: list[list[str]], notes: list[str], bold: set[int]
) -> None:
    """Print a table, its first column left aligned and the rest right; ``bold`` names rows."""
    if _CONSOLE is None:
        widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
        print(f"\n{title}")
        for row in [columns, *rows]:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            print("  ".join(cells))
    else:
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        # An ordinary "grey50" would vanish on light backgrounds; dim adapts to both.
        drawn = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for index, column in enumerate(columns):
            # Headers break at spaces where a terminal is narrow; the labels never do.
            drawn.add_column(column, justify="right" if index else "left", no_wrap=index == 0)
        for index, row in enumerate(rows):
            drawn.add_row(*map(escape, row), style="bold green" if index in bold else "")
        _CONSOLE.print(drawn)
    for note in notes:
        say(f"  {note}", style="dim")


@contextlib.contextmanager
def progress(label: str, total: int) -> Iterator[Advance]:
    """A progress bar for ``total`` units of work, gone when done; silent without a terminal."""
    if _CONSOLE is None or not _CONSOLE.is_terminal:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    shown = TextColumn("{task.description:<34}")
    # Redrawn from this thread only: a thread that wakes up ten times a second would disturb
    # the very steps being timed.
    bar = Progress(
        shown,
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=_CONSOLE,
        transient=True,
        auto_refresh=False,
    )
    task = bar.add_task(label, total=total)

    def advance() -> None:
        bar.advance(task)
        bar.refresh()

    with bar:
        bar.refresh()
        yield advance
