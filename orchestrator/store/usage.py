"""GPU-seconds that projects and users held lately, decayed: what is long ago counts less.

A lease weighs 2^-((now - t) / half-life) at each of its seconds t. Leases that ended more than SETTLED_S ago are summed
once and then only decayed; the rest, a few, are read each time. So a look costs what happened since the last.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from orchestrator.scheduler.usage import faded
from orchestrator.store.rows import UsageRow
from orchestrator.store.schema.tables import attempts, gpus, jobs, leases

WINDOW = 8.0  # half-lives: what is older counts for less than half a percent
# Another server's transaction may be that late to be seen, or its clock that far off.
SETTLED_S = 120.0

_Key = tuple[str, str, str]
_FROM, _UNTIL = sa.bindparam("since", type_=sa.Double), sa.bindparam("until", type_=sa.Double)
_LEASES = (
    sa.select(
        *(jobs.c.project, jobs.c.user, gpus.c.name, attempts.c.opened_at, leases.c.released_at),
        sa.case(
            (leases.c.exclusive, 1.0), else_=sa.cast(leases.c.memory_bytes, sa.Double) / gpus.c.memory_bytes
        ),
    )
    .select_from(leases.join(attempts).join(gpus, gpus.c.id == leases.c.gpu_id))
    .join(jobs, jobs.c.id == attempts.c.job_id)
)
_ENDED = _LEASES.where(leases.c.released_at > _FROM, leases.c.released_at <= _UNTIL)
_LATELY = _LEASES.where(leases.c.released_at > _FROM)
_OPEN = _LEASES.where(leases.c.released_at.is_(None))


class Usage:
    """The sums of one process. Any number of threads may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._half_life_s = 0.0
        self._until = math.inf  # leases that ended up to then are in _sums, decayed to then
        self._sums: dict[_Key, float] = {}

    def rows(self, connection: sa.Connection, now: float, half_life_s: float) -> list[UsageRow]:
        """The usage at `now`, running attempts among it, by project, user and card type."""
        with self._lock:
            self._settle(connection, now, half_life_s)
            factor = faded(now - self._until, half_life_s)
            found = {key: gpu_s * factor for key, gpu_s in self._sums.items()}
            lately = {"since": self._until}
        _add(found, connection, _LATELY, lately, now, half_life_s)
        _add(found, connection, _OPEN, {}, now, half_life_s)
        return [UsageRow(*key, gpu_s) for key, gpu_s in sorted(found.items()) if gpu_s > 0]

    def _settle(self, connection: sa.Connection, now: float, half_life_s: float) -> None:
        """Takes up what ended until a while ago."""
        until = now - SETTLED_S
        if half_life_s != self._half_life_s or until < self._until:
            if half_life_s == self._half_life_s and now >= self._until:
                return  # all that is settled by now was taken up
            self._half_life_s, self._sums = half_life_s, {}
            self._until = until - WINDOW * half_life_s
        factor = faded(until - self._until, half_life_s)
        self._sums = {key: gpu_s * factor for key, gpu_s in self._sums.items()}
        span = {"since": self._until, "until": until}
        _add(self._sums, connection, _ENDED, span, until, half_life_s)
        self._until = until


def _add(
    sums: dict[_Key, float],
    connection: sa.Connection,
    query: sa.Select[Any],
    span: Mapping[str, float],
    now: float,
    half_life_s: float,
) -> None:
    """Adds what these leases weigh at `now`; one that ends later, or is open, counts until then."""
    scale = half_life_s / math.log(2)
    for project, user, gpu, opened_at, released_at, share in connection.execute(query, span):
        if not all(isinstance(one, int | float) for one in (opened_at, released_at or 0.0, share)):
            continue  # SQLite keeps text there; the attempt is set aside by who reads it
        end = now if released_at is None else min(now, released_at)
        if end > opened_at:
            weighed = faded(now - end, half_life_s) - faded(now - opened_at, half_life_s)
            key = (project, user, gpu)
            sums[key] = sums.get(key, 0.0) + scale * weighed * share
