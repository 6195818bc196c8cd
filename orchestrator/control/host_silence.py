"""How long a host was not heard of, or something not come, of the time in which this server could listen.

Wall clocks jump, servers are stopped, machines are suspended, databases are away. None of that is a host's silence. So
silence is not the difference of two times of day: it is counted on a clock that stands still while the server is deaf.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from orchestrator.store.rows import HostRow

# What a beat vouches for: the time after it in which the server could listen. Longer than anything that is no fault.
LOOP_S = 1.0
DATABASE_S = 5.0


class Wakefulness:
    """A clock that goes while every source of beats beats: the event loop, which hears, and the database, which keeps.

    Between two beats that are further apart than allowed, the rest of the time is one in which nobody was heard.
    """

    def __init__(self, allowed_s: dict[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        """allowed_s: by source, how long one beat is good for. Until each has beaten once, the clock stands still."""
        self._clock, self._allowed_s = clock, allowed_s
        self._until: dict[str, float] = {}  # by source, until when its last beat is good
        self._counted_at, self._awake_s = clock(), 0.0
        self._lock = threading.Lock()

    def beat(self, source: str) -> None:
        """That source is at work now."""
        with self._lock:
            now = self._count()
            self._until[source] = now + self._allowed_s[source]

    def now_s(self) -> float:
        """Seconds of wakefulness so far."""
        with self._lock:
            self._count()
            return self._awake_s

    def _count(self) -> float:
        now = self._clock()
        if len(self._until) == len(self._allowed_s):
            good = min(now, *self._until.values())
            self._awake_s += max(0.0, good - self._counted_at)
        self._counted_at = now
        return now


@dataclass
class _Mark:
    """at: the time of day that is stored; heard_s, looked_s: on the clock of wakefulness."""

    at: float
    heard_s: float
    looked_s: float


class Hearing:
    """Silence, by what was seen of the times of day that the database keeps. For any number of threads."""

    def __init__(self, awake_s: Callable[[], float]) -> None:
        """awake_s: the clock of wakefulness, Wakefulness.now_s."""
        self.awake_s = awake_s
        self._lock = threading.Lock()
        self._marks: dict[tuple[str, int], _Mark] = {}
        self._since_s = awake_s()

    def restart(self) -> None:
        """From now on this server is who listens: what was not heard before says nothing."""
        with self._lock:
            self._marks.clear()
            self._since_s = self.awake_s()

    def silent_s(self, what: tuple[str, int], at: float, now: float) -> float:
        """Seconds since `at` that this server listened.

        what: a kind and an id; at: when it was heard of last, as it is stored; now: by the same clock.
        A time that differs from the last one seen is news. Its age is believed only as far as it can be: the news came
        since the last look.
        """
        with self._lock:
            awake_s = self.awake_s()
            mark = self._marks.get(what)
            if mark is None or mark.at != at:
                looked_s = self._since_s if mark is None else mark.looked_s
                age_s = min(max(0.0, now - at), awake_s - looked_s)
                mark = self._marks[what] = _Mark(at, awake_s - age_s, awake_s)
            mark.looked_s = awake_s
            return awake_s - mark.heard_s

    def host_silent_s(self, host: HostRow, now: float) -> float:
        """Seconds since a host was heard of that this server listened."""
        return self.silent_s(("host", host.id), host.last_seen, now)

    def online(self, host: HostRow, now: float, away_after_s: float) -> bool:
        """Whether a host's agent is there: it was heard of lately, and did not say that it ends."""
        return not host.left and self.host_silent_s(host, now) < away_after_s

    def keep_only(self, kinds: Collection[str], keys: Collection[int]) -> None:
        """Forget of these kinds all but these."""
        with self._lock:
            gone = [what for what in self._marks if what[0] in kinds and what[1] not in keys]
            for what in gone:
                del self._marks[what]
