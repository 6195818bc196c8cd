"""A record that can't be handled is set aside by itself, with its traceback: the tick goes on without it, and says so.

It is looked at again once in a while, and so after a restart or an upgrade: what has become of it then decides.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from jobs.errors import Unavailable
from jobs.state import Code, Reason
from orchestrator.store import Store

log = logging.getLogger(__name__)

RETRY_S = 60.0
T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """What was set aside. kind: job, attempt, host, project or step; key: its id, or the step; doing: what fails."""

    kind: str
    key: int | str
    doing: str
    since: float
    text: str
    traceback: str
    retry_at: float


class Quarantine:
    """What this server can't handle. Read by the API's threads, written by the controller's."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._held: dict[tuple[str, int | str, str], Entry] = {}

    def entries(self) -> list[Entry]:
        """What is set aside now, oldest first."""
        with self._lock:
            return sorted(self._held.values(), key=lambda entry: (entry.since, entry.kind, str(entry.key)))

    def reasons(self) -> dict[int, Reason]:
        """What queued jobs that are left alone wait for, by id."""
        text = "set aside until this version can handle it"
        return {
            int(one.key): Reason(Code.BAD_INPUT, f"{text}: {one.text}")
            for one in self.entries()
            if one.kind == "job"
        }

    def each(
        self, kind: str, found: Iterable[T], key: Callable[[T], int | str], doing: str, now: float
    ) -> list[T]:
        """Those that are not to be left alone for now."""
        held = self._held
        return [
            one
            for one in found
            if (entry := held.get((kind, key(one), doing))) is None or now >= entry.retry_at
        ]

    @contextmanager
    def part(
        self, kind: str, key: int | str, doing: str, now: float, job_id: int | None = None
    ) -> Iterator[None]:
        """What is done with one record. What that raises concerns this one alone; a database that is away, everybody.

        doing: in words that follow "while"; job_id: whose events tell of it.
        """
        try:
            yield
        except Unavailable:
            raise
        except Exception as error:  # one record must not stop the rest; it is told with its traceback
            self._add((kind, key, doing), error, now, job_id)
        else:
            if (kind, key, doing) in self._held:
                log.info("%s %s can be handled again (%s)", kind, key, doing)
                with self._lock:
                    del self._held[kind, key, doing]

    def _add(
        self, what: tuple[str, int | str, str], error: Exception, now: float, job_id: int | None
    ) -> None:
        kind, key, doing = what
        text = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        told, known = "".join(traceback.format_exception(error)), self._held.get(what)
        since = now if known is None else known.since
        with self._lock:
            self._held[what] = Entry(kind, key, doing, since, text, told, now + RETRY_S)
        if known is None or known.text != text:
            said = f"{kind} {key} is left alone, for this version can't handle it while {doing}: {text}"
            log.error("%s\n%s", said, told)
            self._store.note_quarantined(kind, key, said, told, now, job_id)
