"""Whether this server leads: it takes the lease where it is free, keeps it, and stands by while another has it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from jobs.errors import Deposed, TuneyardError, Unavailable
from orchestrator.store import Store
from orchestrator.store.leader_lease import Candidate, Fence, Lead

log = logging.getLogger(__name__)

KEEP_S = 1.0  # between two beats of a leader
LOOK_S = 0.5  # between two looks of one that stands by
LEASE_S = 5.0  # a leader that has not beaten for so long has gone


class Leadership:
    """One thread. The leader writes through `store`: the database itself refuses what comes too late."""

    def __init__(
        self,
        store: Store,
        me: Candidate,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: the time of day; steady: what a lease is watched by."""
        self._plain, self._me, self._clock, self._steady = store, me, clock, steady
        self.fence = Fence(me.holder)
        self.store: Store = store.for_leader(self.fence)
        self.seen: Lead | None = None  # the row as it was seen last
        self.on_answer: Callable[[], None] = lambda: None  # the database answered
        self.on_taken: Callable[[], None] = lambda: None
        self.on_lost: Callable[[], None] = lambda: None
        self.ray_address: Callable[[], str | None] = lambda: None  # of this server's own head
        self._watched: tuple[int, int, str | None] | None = None
        self._watched_since = 0.0
        self._led = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leadership", daemon=True)

    @property
    def leads(self) -> bool:
        """Whether this server decides, as far as it knows."""
        return self.fence.epoch is not None

    def open(self) -> None:
        """Leads at once where nobody does."""
        self.look()
        self._thread.start()

    def close(self) -> None:
        """Let another lead, at once."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(10)
        if self.leads:
            try:
                self.store.release_lead()
            except TuneyardError as error:
                log.warning("the lease could not be released, others wait for its end: %s", error)
            self.fence.epoch = None

    def look(self) -> None:
        """One look at the lease, and what follows from it."""
        try:
            self._keep()
            self.seen = seen = self._plain.lead()
            if not self.leads and self._may_take(seen):
                self._take(seen)
        except Unavailable as error:
            self._watched = None  # who does not see the leader can't tell that it is gone
            log.warning("the lease can't be looked at: %s", error)
        else:
            self.on_answer()
        if self._led and not self.leads:
            self._led = False
            self.on_lost()

    def _keep(self) -> None:
        if self.leads:
            try:
                self.store.keep_lead(self.ray_address())
            except Deposed as error:
                log.warning("%s", error)

    def _take(self, seen: Lead) -> None:
        epoch = self._plain.take_lead(self._me, seen, self._clock())
        if epoch is None:
            return
        self.fence.epoch, self._watched = epoch, None
        self.seen = self._plain.lead()
        before = f", after {seen.url}" if seen.holder else ""
        log.info("this server leads, in epoch %s%s", epoch, before)
        self._led = True
        self.on_taken()

    def _may_take(self, seen: Lead) -> bool:
        """Nobody has it; or who had it held the lock that this process holds now; or that one no longer beats."""
        if seen.holder is None or (seen.place and seen.place == self._me.place):
            return True
        row, now = (seen.epoch, seen.beat, seen.holder), self._steady()
        if row != self._watched:
            self._watched, self._watched_since = row, now
        return now - self._watched_since >= LEASE_S

    def _run(self) -> None:
        while not self._ended.wait(KEEP_S if self.leads else LOOK_S):
            try:
                self.look()
            except Exception:  # the thread's outermost edge: without it nobody would lead
                log.exception("the lease could not be looked at")
