"""A job's log as people read it: what would drive a terminal left out, progress bars as they stood last.

A trainer writes what it likes: colours, titles of windows, carriage returns, letters that turn the reading direction.
None of that reaches a reader's terminal. Pieces may be cut anywhere: what is not whole waits for the next one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.cli.render.table import UNSAFE

LONGEST_LINE = 65_536  # characters without a line end; what is longer goes on in the next line
LONGEST_SEQUENCE = 4096  # what is longer is no escape sequence, or an attack
# ECMA-48: CSI, strings that a terminal swallows up to ST or BEL (OSC, DCS, SOS, PM, APC), and two or three bytes.
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)(?P<given>[0-?]*)[ -/]*(?P<final>[@-~])"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x9c|\x1b\\|(?=[\x1b\n]))"
    r"|\x1b[ -/]+[0-~]|\x1b[0-OQ-WYZ\\`-~]"
)
_OPEN = re.compile(
    r"(?:(?:\x1b\[|\x9b)[0-?]*[ -/]*|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c\n]*\x1b?|\x1b[ -/]*)\Z"
)
_SPECIAL = re.compile(f"[{UNSAFE}]")
_TOKEN = re.compile(rf"[^{UNSAFE}]+|.", re.DOTALL)


class LogText:
    """Made of pieces in their order."""

    def __init__(self) -> None:
        self._waiting = ""  # a line that has not ended, or an escape sequence

    @property
    def partial(self) -> str:
        """The last line so far, which has not ended: a progress bar as it stands."""
        return _line(self._waiting)

    def feed(self, piece: str) -> str:
        """What has become of whole lines, each with its end."""
        whole, newline, rest = (self._waiting + piece).rpartition("\n")
        if not newline:
            whole, rest = "", self._waiting + piece
        said = "".join(_ended(line) for line in whole.split("\n")) if newline else ""
        if len(rest) > LONGEST_LINE:
            rest = _shorter(rest)
        while len(rest) > LONGEST_LINE and not _OPEN.search(rest[-LONGEST_SEQUENCE:]):
            said, rest = said + _line(rest) + "\n", ""
        self._waiting = rest
        return said

    def end(self) -> str:
        """The last line, where it has no end."""
        last, self._waiting = _line(self._waiting), ""
        return last + "\n" if last else ""


def plain(text: str) -> str:
    """A whole text as LogText has it."""
    lines = LogText()
    return lines.feed(text) + lines.end()


def _ended(line: str) -> str:
    """A line with its end; nothing of one that was drawn and wiped out again, as a progress bar that leaves."""
    shown = _line(line)
    return "" if not shown and "\r" in line.rstrip("\r") else shown + "\n"


def _shorter(line: str) -> str:
    """A line without what was overwritten since."""
    kept = line.rfind("\r", 0, len(line) - 1)
    return line if kept < 0 else f"{_line(line[:kept])}{line[kept:]}"


def _line(line: str) -> str:
    """One line as a terminal would show it."""
    if not _SPECIAL.search(line):
        return line.rstrip("\r")
    cells: list[str] = []
    column = 0
    for kind, text in _tokens(line):
        if kind == "text":
            cells[column : column + len(text)] = text
            column += len(text)
        elif kind == "start":
            column = 0
        elif kind == "back":
            column = max(0, column - 1)
        elif kind == "erase":
            del cells[column if text in ("", "0") else 0 :]
            cells += " " * (column - len(cells))
    return "".join(cells).rstrip()


def _tokens(line: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(line):
        if sequence := _SEQUENCE.match(line, at):
            at = sequence.end()
            if sequence["final"] == "K":
                yield "erase", sequence["given"]
            continue
        if line[at] in "\x1b\x90\x98\x9b\x9d\x9e\x9f" and _OPEN.match(line, at):
            return
        found = _TOKEN.match(line, at)
        assert found is not None
        at = found.end()
        text = found[0]
        if text == "\r":
            yield "start", ""
        elif text == "\b":
            yield "back", ""
        elif not _SPECIAL.match(text):
            yield "text", text
