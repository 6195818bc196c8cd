"""The fleet as it is now, for who watches: narrow rows, all of one instant, made to be read each second."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
import orchestrator.store.unreadable as unreadable
from jobs.state import JobState
from orchestrator.store.engine.database import Database
from orchestrator.store.rows import HostRow, ProgressRow
from orchestrator.store.schema.tables import attempts, gpus, hosts, jobs, leases, samples

_HOSTS = sa.select(*(column for column in hosts.c if column.name not in ("info", "disks", "aside"))).order_by(
    hosts.c.name
)
_CARDS = (
    sa.select(
        *(gpus.c.id, gpus.c.host_id, gpus.c.idx, gpus.c.uuid, gpus.c.name, gpus.c.kind),
        *(gpus.c.memory_bytes, gpus.c.fault, gpus.c.present),
    )
    .select_from(gpus.join(hosts))
    .order_by(hosts.c.name, gpus.c.idx)
)
_NEWEST = (
    sa.select(sa.func.max(samples.c.ts))
    .where(samples.c.gpu_id == gpus.c.id)
    .correlate(gpus)
    .scalar_subquery()
)
_SAMPLES = sa.select(
    *(samples.c.gpu_id, samples.c.ts, samples.c.memory_used_bytes, samples.c.utilization, samples.c.power_w),
    samples.c.temperature_c,
).where(samples.c.gpu_id == gpus.c.id, samples.c.ts == _NEWEST)
_HELD = (
    sa.select(leases.c.gpu_id, leases.c.attempt_id)
    .where(leases.c.released_at.is_(None))
    .order_by(leases.c.gpu_id, leases.c.attempt_id)
)
_OPEN = sa.select(
    attempts.c.id, attempts.c.job_id, attempts.c.number, attempts.c.uuid, attempts.c.started_at
).where(attempts.c.outcome.is_(None))
_JOB = (
    *(jobs.c.id, jobs.c.name, jobs.c.user, jobs.c.project, jobs.c.priority, jobs.c.state),
    *(jobs.c.reason_code, jobs.c.reason_text, jobs.c.submitted_at),
)
# By their attempts, so that one in a state of another version is found, and named.
_RUNNING = (
    sa.select(*_JOB)
    .where(jobs.c.id.in_(sa.select(attempts.c.job_id).where(attempts.c.outcome.is_(None))))
    .order_by(jobs.c.id)
)
_WAITING = sa.select(*_JOB).where(jobs.c.state == JobState.QUEUED).order_by(jobs.c.priority.desc(), jobs.c.id)
_QUEUED = sa.select(sa.func.count()).where(jobs.c.state == JobState.QUEUED)


@dataclass(frozen=True)
class LiveRows:
    """Rows of one instant. Those of cards, samples, held, attempts, running and queued are SQLAlchemy's, with the
    columns that this module selects.
    """

    hosts: list[HostRow]
    cards: list[Any]  # that are present, by host and index
    samples: list[Any]  # the newest of each card
    held: list[Any]  # open leases: gpu_id, attempt_id
    attempts: list[Any]  # open ones
    running: list[Any]
    queued: list[Any]  # in starting order
    waiting: int  # how many wait in all
    progress: dict[int, ProgressRow]


class LiveStore(Database):
    """What is read for who watches."""

    def live_rows(self, most_queued: int) -> LiveRows:
        """The fleet, with the first of the queue."""
        with self.read() as connection:
            ask = connection.execute
            tries = unreadable.checked("attempt", ask(_OPEN).all(), attempts, lambda row: row.id)
            cards = unreadable.checked("card", ask(_CARDS).all(), gpus, lambda row: row.id)
            running = unreadable.checked("job", ask(_RUNNING).all(), jobs, lambda row: row.id)
            return LiveRows(
                hosts=unreadable.rows("host", ask(_HOSTS), hosts, lambda row: row.name, _host),
                cards=[row for row in cards if row.present],
                samples=unreadable.checked(
                    "sample of card", ask(_SAMPLES).all(), samples, lambda row: row.gpu_id
                ),
                held=unreadable.checked("lease of card", ask(_HELD).all(), leases, lambda row: row.gpu_id),
                attempts=tries,
                running=unreadable.each("job", running, lambda row: row.id, _in_a_state),
                queued=unreadable.checked(
                    "job", ask(_WAITING.limit(most_queued)).all(), jobs, lambda row: row.id
                ),
                waiting=ask(_QUEUED).scalar_one(),
                progress=reads.latest_progress(connection, [row.id for row in tries]),
            )

    def projections(self, attempt_ids: Collection[int]) -> dict[int, dict[str, Any]]:
        """What attempts were projected to take, by their ids."""
        query = sa.select(attempts.c.id, attempts.c.projection)
        found: dict[int, dict[str, Any]] = {}
        with self.read() as connection:
            for ids in reads.chunks(attempt_ids):
                asked = connection.execute(query.where(attempts.c.id.in_(ids)))
                found |= unreadable.rows(
                    "attempt", asked, attempts, lambda row: row.id, lambda row: (row.id, dict(row.projection))
                )
        return found


def _in_a_state(row: Any) -> Any:
    """The row itself. Raises ValueError for a state that this version has not."""
    JobState(row.state)
    return row


def _host(row: Any) -> HostRow:
    """Without what a host said of itself."""
    running = tuple(row.running) if isinstance(row.running, list) else ()
    return HostRow(**{**row._mapping, "running": running, "info": {}})
