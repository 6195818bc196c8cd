"""Group commit: submissions that arrive while one transaction is being made durable share the next."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from jobs.errors import Unavailable
from orchestrator.store import Store
from orchestrator.store.jobs.submissions import Taken
from orchestrator.store.requests import NewJob, NewSubmission, SubmitKey

log = logging.getLogger(__name__)

MAX_GROUP = 256

Then = Callable[[Taken | Exception], None]
_Waiting = tuple[NewSubmission, Then]


class GroupCommit:
    """Any number of threads may call it.

    Whoever finds nobody writing writes for all that come meanwhile, and tells them: alone, a submission pays for no
    second thread; a thread that finds one writing is free for the next submission at once.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._pending: list[_Waiting] = []
        self._lock = threading.Lock()
        self._writing = False  # some thread is; it goes on until nobody waits

    def add(self, wanted: NewSubmission, then: Then) -> None:
        """Store these jobs, all or none, or find what their key stored before.

        then: told once they are durable, or why they are not (UsageError where the key was another submission's), on
        this thread or another.
        """
        with self._lock:
            self._pending.append((wanted, then))
            if self._writing:
                return
            self._writing = True
        try:
            while group := self._next():
                self._commit(group)
        except BaseException:  # else every later submission would wait for a thread that no longer writes
            with self._lock:
                self._writing = False
            raise

    def submit(self, jobs: list[NewJob], key: SubmitKey | None = None) -> Taken:
        """add() for who waits. Raises what then() would be told."""
        found: Future[Taken] = Future()
        self.add(
            NewSubmission(jobs, key),
            lambda told: found.set_exception(told) if isinstance(told, Exception) else found.set_result(told),
        )
        return found.result()

    def _next(self) -> list[_Waiting]:
        with self._lock:
            group, self._pending = self._pending[:MAX_GROUP], self._pending[MAX_GROUP:]
            self._writing = bool(group)
            return group

    def _commit(self, group: Sequence[_Waiting]) -> None:
        try:
            found: Sequence[Taken | Exception] = self._store.submit_groups(
                [wanted for wanted, _ in group], self._clock()
            )
        except Exception as error:
            if len(group) > 1 and not isinstance(error, Unavailable):  # of one of them: the others are stored
                for waiting in group:
                    self._commit([waiting])
                return
            found = [error] * len(group)
        for (_, then), one in zip(group, found, strict=True):
            try:
                then(one)
            except Exception:  # of who waits; the others must be told all the same
                log.exception("the answer to a submission failed")
