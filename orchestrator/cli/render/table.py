"""Tables and sections: rich on a terminal, aligned text in a pipe.

Which columns a narrow terminal keeps is decided here, so that it can be tested; rich, which takes 0.1 s to
import, only colours and draws, and only where stdout is a terminal.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

# What drives a terminal or turns the reading direction: C0 but tabs and line ends, C1, Unicode's bidi controls.
UNSAFE = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[\t\n{UNSAFE}]")
_CONTROL_BUT_LINES = re.compile(f"[\t{UNSAFE}]")
GAP = 2
NARROWEST = 16  # characters that a flexible column keeps


@dataclass(frozen=True)
class Column:
    """A column. On a narrow terminal, keep 0 is dropped first, 9 never; flexible: it may be cut with an
    ellipsis; wrap: it goes on in the next line instead.
    """

    title: str
    right: bool = False
    keep: int = 9
    flexible: bool = False
    wrap: bool = False


@dataclass(frozen=True)
class Cell:
    """Text and how it looks on a terminal (a rich style)."""

    text: str
    style: str = ""


Row = Sequence[Cell | str]


def clean(text: str, lines: bool = False) -> str:
    """Text without characters that drive a terminal: what others named can't drive this one. lines: keep line ends."""
    return (_CONTROL_BUT_LINES if lines else _CONTROL).sub(" ", text)


def is_terminal() -> bool:
    return sys.stdout.isatty()


def terminal_width() -> int:
    return shutil.get_terminal_size((80, 24)).columns


def fit(columns: Sequence[Column], rows: Sequence[Row], width: int) -> dict[int, int]:
    """Index -> width of the columns that fit a width.

    The widest flexible columns shrink first, evenly, down to NARROWEST; then the least kept are dropped. A column
    that is empty in every row is never shown.
    """
    texts = [[_text(cell) for cell in row] for row in rows]
    natural = {
        i: max([len(column.title), *(len(row[i]) for row in texts)])
        for i, column in enumerate(columns)
        if not texts or any(row[i] for row in texts)
    }
    least = {
        i: min(n, NARROWEST) if columns[i].flexible or columns[i].wrap else n for i, n in natural.items()
    }
    while _total(least) > width and (droppable := [i for i in least if columns[i].keep < 9]):
        del least[min(droppable, key=lambda i: (columns[i].keep, -i))]
    widths = {i: natural[i] for i in least}
    while _total(widths) > width and (flexible := [i for i in widths if widths[i] > least[i]]):
        widths[max(flexible, key=lambda i: widths[i])] -= 1
    return widths


def hidden(columns: Sequence[Column], rows: Sequence[Row], width: int) -> list[str]:
    """Titles of the columns that have something in them and that a width has no room for."""
    every, kept = fit(columns, rows, sys.maxsize), fit(columns, rows, width)
    return [columns[i].title.strip() for i in every if i not in kept]


def hidden_note(columns: Sequence[Column], rows: Sequence[Row], width: int, remedy: str = "") -> str:
    """What a reader is told of the columns that a width hides, in lines no longer than it. Empty when there are none.

    remedy: what shows them beside a wider terminal, such as --columns.
    """
    titles = hidden(columns, rows, width)
    if not titles:
        return ""
    ways = "a wider terminal" + (f" or {remedy}" if remedy else "")
    return textwrap.fill(
        f"hidden: {', '.join(titles)}; {ways} shows {'it' if len(titles) == 1 else 'them'}", width
    )


def _total(widths: dict[int, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def plain(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """The table as aligned text, whole: what a pipe gets. One line a row, no trailing blanks."""
    widths = fit(columns, rows, sys.maxsize)
    out = []
    for line in [[column.title for column in columns], *rows]:
        cells = (
            _text(line[i]).rjust(width) if columns[i].right else _text(line[i]).ljust(width)
            for i, width in widths.items()
        )
        out.append((" " * GAP).join(cells).rstrip() + "\n")
    return "".join(out)


def show(columns: Sequence[Column], rows: Sequence[Row], remedy: str = "") -> None:
    """Print a table for the reader of stdout; columns that a narrow terminal hides are named on stderr.

    remedy: what shows those columns beside a wider terminal, such as --columns.
    """
    if not is_terminal():
        sys.stdout.write(plain(columns, rows))
        return
    width = terminal_width()
    _rich_print(rich_table(columns, rows, width))
    if said := hidden_note(columns, rows, width, remedy):
        sys.stdout.flush()  # the note comes after the table where both go to one terminal
        sys.stderr.write(said + "\n")


class Stream:
    """A table whose rows come one after the other: its widths are settled before they are known.

    widest: a row of the longest texts to be looked for; what is longer still is printed whole.
    """

    def __init__(self, columns: Sequence[Column], widest: Row) -> None:
        width = terminal_width() if is_terminal() else sys.maxsize
        self._columns, self._widths = columns, fit(columns, [widest], width)
        self._begun = False

    def show(self, rows: Sequence[Row]) -> None:
        """Print them, below the titles where these are the first."""
        titles = [[column.title for column in self._columns]]
        for line in [*(() if self._begun else titles), *rows]:
            cells = (
                _text(line[i]).rjust(width) if self._columns[i].right else _text(line[i]).ljust(width)
                for i, width in self._widths.items()
            )
            sys.stdout.write((" " * GAP).join(cells).rstrip() + "\n")
        self._begun = True
        sys.stdout.flush()


def show_fields(fields: Sequence[tuple[str, Cell | str]], indent: int = 2) -> None:
    """Print `name  value` lines; empty values are left out."""
    kept = [(name, cell) for name, cell in fields if _text(cell)]
    width = max((len(name) for name, _ in kept), default=0)
    for name, cell in kept:
        lead = " " * indent + name.ljust(width) + "  "
        show_line(lead, cell)


def show_line(lead: str, cell: Cell | str = "") -> None:
    """Print lead as it is, then the cell in its style. What a terminal has no room for goes on below the cell."""
    lead, said = clean(lead), _text(cell)
    if not is_terminal():
        sys.stdout.write(f"{lead}{said}".rstrip() + "\n")
        return
    from rich.text import Text  # here: rich costs 0.1 s, for terminals only

    whole = wrapped(lead, said, terminal_width())
    text = Text(whole[: len(lead)], style="") if said else Text(whole, style="bold")
    if said:
        text.append(whole[len(lead) :], style=_style(cell))
    _rich_print(text, soft_wrap=True)


def wrapped(lead: str, said: str, width: int) -> str:
    """Lead and what follows it in lines of a width; later ones begin below what follows, or below the lead's indent.

    A word that is wider still, such as a path, stays whole: it can be copied.
    """
    if len(lead) + len(said) <= width:
        return lead + said
    below = len(lead) if said and len(lead) <= width // 2 else len(lead) - len(lead.lstrip()) + 2
    lines = textwrap.wrap(
        said if said else lead.lstrip(),
        width,
        initial_indent=" " * len(lead) if said else lead[: len(lead) - len(lead.lstrip())],
        subsequent_indent=" " * below,
        break_long_words=False,
        break_on_hyphens=False,
    )
    text = "\n".join(lines)
    return lead + text[len(lead) :] if said else text


def show_heading(text: str) -> None:
    """Print a heading, with a blank line before it."""
    sys.stdout.write("\n")
    show_line(text)


def rich_table(columns: Sequence[Column], rows: Sequence[Row], width: int) -> object:
    """The table as rich draws it, at most width wide."""
    from rich.table import Table  # here: rich costs 0.1 s, for terminals only
    from rich.text import Text

    widths = fit(columns, rows, width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold dim", show_edge=False)
    for i, wide in widths.items():
        column = columns[i]
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.wrap,
            overflow="fold" if column.wrap else "ellipsis",
            width=wide,
        )
    for row in rows:
        table.add_row(*(Text(_text(row[i]), style=_style(row[i])) for i in widths))
    return table


def _rich_print(what: object, soft_wrap: bool = False) -> None:
    """soft_wrap: the terminal breaks what is too wide."""
    from rich.console import Console  # here: rich costs 0.1 s, for terminals only

    Console(highlight=False, width=terminal_width()).print(what, soft_wrap=soft_wrap)


def _text(cell: Cell | str) -> str:
    return clean(cell.text if isinstance(cell, Cell) else cell)


def _style(cell: Cell | str) -> str:
    return cell.style if isinstance(cell, Cell) else ""
