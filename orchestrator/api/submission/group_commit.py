"""Group commit: submissions that arrive while one transaction is being made durable share the next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from jobs.errors import UsageError
from orchestrator.store import Store
from orchestrator.store.jobs.submissions import Taken
from orchestrator.store.requests import NewJob, NewSubmission, SubmitKey

MAX_GROUP = 256


@dataclass
class _Waiting:
    wanted: NewSubmission
    found: Taken | Exception | None = None


class GroupCommit:
    """submit() returns once its jobs are durable. Any number of threads may call it.

    Whoever finds nobody writing writes for all that wait: alone, a submission pays for no second thread.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._pending: list[_Waiting] = []
        self._taking = threading.Lock()
        self._writing = threading.Lock()

    def submit(self, jobs: list[NewJob], key: SubmitKey | None = None) -> Taken:
        """Store these jobs, all or none, or what its key stored before. Raises UsageError where that was another."""
        mine = _Waiting(NewSubmission(jobs, key))
        with self._taking:
            self._pending.append(mine)
        with self._writing:
            while mine.found is None:  # else another thread wrote it while this one waited
                self._commit()
        if isinstance(mine.found, Exception):
            raise mine.found
        assert mine.found is not None
        return mine.found

    def _commit(self) -> None:
        with self._taking:
            group, self._pending = self._pending[:MAX_GROUP], self._pending[MAX_GROUP:]
        try:
            found: list[Taken | UsageError] = self._store.submit_groups(
                [waiting.wanted for waiting in group], self._clock()
            )
        except Exception as error:  # every thread that waits must get it
            for waiting in group:
                waiting.found = error
            return
        for waiting, one in zip(group, found, strict=True):
            waiting.found = one
