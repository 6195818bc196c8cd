"""Tables and sections: rich on a terminal, aligned text in a pipe.

Which columns a narrow terminal keeps is decided here, so that it can be tested; rich, which takes 0.1 s to
import, only colours and draws, and only where stdout is a terminal.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]|\n|\t")
GAP = 2
NARROWEST_FLEXIBLE = 16


@dataclass(frozen=True)
class Column:
    """A column. keep: 0 is dropped first on a narrow terminal, 9 never; flexible: is cut with an ellipsis."""

    title: str
    right: bool = False
    keep: int = 9
    flexible: bool = False


@dataclass(frozen=True)
class Cell:
    """Text and how it looks on a terminal (a rich style)."""

    text: str
    style: str = ""


Row = Sequence[Cell | str]


def clean(text: str) -> str:
    """Text without control characters: what others named can't drive this terminal."""
    return _CONTROL.sub(" ", text)


def is_terminal() -> bool:
    return sys.stdout.isatty()


def terminal_width() -> int:
    return shutil.get_terminal_size((80, 24)).columns


def fit(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[int]:
    """Indices of the columns that fit a width: flexible ones shrink first, then the least kept are dropped.

    A column that is empty in every row is never shown.
    """
    texts = [[_text(cell) for cell in row] for row in rows]
    shown = [i for i in range(len(columns)) if not texts or any(row[i] for row in texts)]
    least = {}
    for i in shown:
        natural = max([len(columns[i].title), *(len(row[i]) for row in texts)])
        least[i] = min(natural, NARROWEST_FLEXIBLE) if columns[i].flexible else natural
    while sum(least[i] for i in shown) + GAP * (len(shown) - 1) > width:
        droppable = [i for i in shown if columns[i].keep < 9]
        if not droppable:
            break
        shown.remove(min(droppable, key=lambda i: (columns[i].keep, -i)))
    return shown


def plain(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """The table as aligned text, whole: what a pipe gets. One line a row, no trailing blanks."""
    shown = fit(columns, rows, sys.maxsize)
    lines = [[columns[i].title for i in shown], *([_text(row[i]) for i in shown] for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(shown))]
    out = []
    for line in lines:
        cells = (
            text.rjust(width) if columns[i].right else text.ljust(width)
            for i, text, width in zip(shown, line, widths, strict=True)
        )
        out.append((" " * GAP).join(cells).rstrip() + "\n")
    return "".join(out)


def show(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    """Print a table for whoever reads stdout."""
    if not is_terminal():
        sys.stdout.write(plain(columns, rows))
        return
    _rich_print(rich_table(columns, rows, terminal_width()))


def show_fields(fields: Sequence[tuple[str, Cell | str]], indent: int = 2) -> None:
    """Print `name  value` lines; empty values are left out."""
    kept = [(name, cell) for name, cell in fields if _text(cell)]
    width = max((len(name) for name, _ in kept), default=0)
    for name, cell in kept:
        lead = " " * indent + name.ljust(width) + "  "
        show_line(lead, cell)


def show_line(lead: str, cell: Cell | str = "") -> None:
    """Print one line: lead as it is, then the cell in its style."""
    if not is_terminal():
        sys.stdout.write(f"{lead}{_text(cell)}".rstrip() + "\n")
        return
    from rich.text import Text  # here: rich costs 0.1 s, for terminals only

    style = cell.style if isinstance(cell, Cell) else ""
    text = Text(lead, style="" if _text(cell) else "bold")
    text.append(_text(cell), style=style)
    _rich_print(text)


def show_heading(text: str) -> None:
    """Print a heading, with a blank line before it."""
    sys.stdout.write("\n")
    show_line(text)


def rich_table(columns: Sequence[Column], rows: Sequence[Row], width: int) -> object:
    """The table as rich draws it, at most width wide."""
    from rich.table import Table  # here: rich costs 0.1 s, for terminals only
    from rich.text import Text

    shown = fit(columns, rows, width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold dim", show_edge=False)
    for i in shown:
        column = columns[i]
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if column.flexible else len(column.title),
        )
    for row in rows:
        table.add_row(*(Text(_text(row[i]), style=_style(row[i])) for i in shown))
    return table


def _rich_print(what: object) -> None:
    from rich.console import Console  # here: rich costs 0.1 s, for terminals only

    Console(highlight=False, width=terminal_width()).print(what, soft_wrap=not hasattr(what, "columns"))


def _text(cell: Cell | str) -> str:
    return clean(cell.text if isinstance(cell, Cell) else cell)


def _style(cell: Cell | str) -> str:
    return cell.style if isinstance(cell, Cell) else ""
