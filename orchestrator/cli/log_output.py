"""Where a job's log goes: cleaned, filtered, and the middle of what is too long left out."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from jobs.units import MiB, gib
from orchestrator.cli.render.log_text import LONGEST_LINE, LogText
from orchestrator.cli.render.table import terminal_width
from orchestrator.client.http import Api, job_path

MOST_BYTES = 8 * MiB  # of one attempt, unless --limit says otherwise
PAGE_BYTES = 1_000_000
_LINE = re.compile(rf"[^\n]{{0,{LONGEST_LINE}}}\n|[^\n]{{1,{LONGEST_LINE}}}")
WIPE = "\r\x1b[2K"  # ours: a job's own never comes so far


class LogOutput:
    """The log of one attempt after the other, made of pages.

    write: what takes text; raw: as the job wrote it; grep: only lines that it finds something in; most_bytes: of one
    attempt, then the middle is left out and said to be; live: write is a terminal that a progress bar is drawn on.
    """

    def __init__(
        self,
        write: Callable[[str], Any],
        *,
        raw: bool = False,
        grep: re.Pattern[str] | None = None,
        most_bytes: int = MOST_BYTES,
        live: bool = False,
    ) -> None:
        self._write, self._raw, self._grep, self._half = write, raw, grep, max(1, most_bytes // 2)
        self._live, self._drawn = live and not raw and grep is None, False
        self.left_out_bytes = 0
        self.begin()

    def begin(self, following: bool = False) -> None:
        """Another attempt's log comes. following: it is said as it comes, and only what was there before is cut."""
        self._lines, self._rest = LogText(), ""
        self._written, self._jumped, self._following = 0, False, following
        self._tail, self._tail_size, self._dropped = deque[str](), 0, 0

    def resume_at(self, page: Any) -> int:
        """The byte to ask for after a page: where more is left than is to be shown, past the middle."""
        at: int = page["next_offset"]
        total = page.get("bytes")  # an older server does not say
        if self._grep is not None or total is None or self._written < self._half or self._jumped:
            return at
        jump: int = total - self._half
        if jump - at < self._half // 2:
            return at
        self._flush_rest()
        self._say_tail()
        self._tell_gap(jump - at)
        self._jumped = True
        return jump

    def feed(self, text: str) -> None:
        """The next piece of the log."""
        if self._raw and self._grep is None:
            self._put(text)
            return
        if self._raw:
            *whole, self._rest = (self._rest + text).split("\n")
            said = "".join(line + "\n" for line in whole)
        else:
            said = self._lines.feed(text)
        self._put(self._found(said))
        self._draw()

    def end(self) -> None:
        """The log of this attempt is over, or all that there is so far is said."""
        self._flush_rest()
        self._say_tail()
        self._wipe()

    def _say_tail(self) -> None:
        if self._dropped:
            self._tell_gap(self._dropped)
        for line in self._tail:
            self._write(line)
        self._tail, self._tail_size, self._dropped = deque(), 0, 0

    def _flush_rest(self) -> None:
        rest = (self._rest + "\n" if self._rest else "") if self._raw else self._lines.end()
        self._rest = ""
        self._put(self._found(rest))

    def _found(self, text: str) -> str:
        grep = self._grep
        return text if grep is None else "".join(line for line in _LINE.findall(text) if grep.search(line))

    def _put(self, text: str) -> None:
        if not text:
            return
        size = len(text.encode())
        if self._following or self._jumped or self._written + size <= self._half:
            self._wipe()
            self._write(text)
            self._written += size
            return
        for piece in _LINE.findall(text):
            size = len(piece.encode())
            if self._written + size <= self._half:
                self._write(piece)
                self._written += size
                continue
            self._written = self._half
            self._tail.append(piece)
            self._tail_size += size
            while self._tail_size > self._half and len(self._tail) > 1:
                gone = len(self._tail.popleft().encode())
                self._tail_size, self._dropped = self._tail_size - gone, self._dropped + gone

    def _tell_gap(self, size: int) -> None:
        self.left_out_bytes += size
        self._write(f"[... {gib(size)} left out here; a greater --limit shows more ...]\n")

    def _draw(self) -> None:
        """A line that has not ended, as it stands, on a terminal."""
        if self._live and (partial := self._lines.partial):
            self._write(WIPE + partial[: max(1, terminal_width() - 1)])
            self._drawn = True

    def _wipe(self) -> None:
        if self._drawn:
            self._write(WIPE)
            self._drawn = False


def to_stdout(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def read_log(api: Api, name: str, attempt: int | None, out: LogOutput, since: float | None = None) -> Any:
    """An attempt's whole log so far into out, page by page; the last page."""
    out.begin()
    page = api.get(job_path(name, "/logs"), attempt=attempt, offset=None if since else 0, since=since)
    while True:
        out.feed(page["text"])
        if page["next_offset"] == page["offset"] or not page["text"]:
            out.end()
            return page
        at, attempt = out.resume_at(page), page["attempt"]
        page = api.get(job_path(name, "/logs"), attempt=attempt, offset=at)
