"""Attempts are opened: the cards are looked at again, leased, and the job moved, or nothing is changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

import orchestrator.store.reads as reads
from jobs.state import Code, Event, JobState, Reason
from orchestrator.store.database import Database, Stale
from orchestrator.store.links import NOT_WAITING
from orchestrator.store.move import move
from orchestrator.store.rows import AttemptRow, Start
from orchestrator.tables import attempts, gpus, hosts, jobs, leases

_IDS: sa.BindParameter[int] = sa.bindparam("ids", expanding=True)
# Of these cards those that may be used.
_USABLE = (
    sa.select(gpus.c.id, hosts.c.name)
    .select_from(gpus.join(hosts))
    .where(
        gpus.c.id.in_(_IDS),
        gpus.c.present,
        gpus.c.fault.is_(None),
        hosts.c.id == sa.bindparam("its_host", type_=sa.BigInteger),
        sa.not_(hosts.c.drained),
    )
)
# One that is held; and one that is held exclusively, or has less than `promised` bytes left.
_HELD = sa.select(leases.c.gpu_id).where(leases.c.gpu_id.in_(_IDS), leases.c.released_at.is_(None)).limit(1)
_FULL = (
    sa.select(gpus.c.id)
    .select_from(
        gpus.outerjoin(leases, sa.and_(leases.c.gpu_id == gpus.c.id, leases.c.released_at.is_(None)))
    )
    .where(gpus.c.id.in_(_IDS))
    .group_by(gpus.c.id, gpus.c.memory_bytes)
    .having(
        sa.or_(
            sa.func.max(sa.case((leases.c.exclusive, 1), else_=0)) > 0,
            gpus.c.memory_bytes - sa.func.coalesce(sa.func.sum(leases.c.memory_bytes), 0)
            < sa.bindparam("promised", type_=sa.BigInteger),
        )
    )
    .limit(1)
)


class StartStore(Database):
    """Starts of attempts."""

    def start_attempt(
        self,
        job_id: int,
        host_id: int,
        gpu_ids: Sequence[int],
        rung: Mapping[str, Any],
        projection: Mapping[str, Any],
        now: float,
        basis: Mapping[str, Any] | None = None,
        shared: bool = False,
    ) -> AttemptRow | None:
        """start_attempts() of one, as it is stored then. None, and nothing changed, where it moved."""
        start = Start(job_id, host_id, tuple(gpu_ids), rung, projection, basis, shared)
        opened = self.start_attempts([start], now)
        if not opened:
            return None
        with self.read() as connection:
            return reads.attempt_rows(connection, attempts.c.id == opened[job_id])[0]

    def start_attempts(self, starts: Sequence[Start], now: float) -> dict[int, int]:
        """Moves queued jobs to running, opens their next attempts and leases the cards. Attempt ids by job id.

        Under one commit, and each by itself: left out, with nothing changed, is a start of which anything moved since
        it was planned. The job is not queued, was cancelled or waits for another; a card is taken, gone or faulty, has
        too little left to share; the host is drained.
        """
        opened: dict[int, int] = {}
        if not starts:
            return opened
        with self.write() as connection:
            _lock(connection, {gpu_id for start in starts for gpu_id in start.gpu_ids})
            for start in sorted(starts, key=lambda start: start.job_id):
                try:
                    with connection.begin_nested():
                        opened[start.job_id] = _open(connection, start, now)
                except (Stale, IntegrityError):
                    continue
        return opened


def _lock(connection: sa.Connection, gpu_ids: Collection[int]) -> None:
    """Whoever else wants one of these cards waits here, and then sees our leases.

    In one order, and before any job, as a report takes them; jobs come in the order of their ids: two can't deadlock.
    """
    if connection.dialect.name == "sqlite":  # which has one writer
        return
    mine = sa.select(gpus.c.id).where(gpus.c.id.in_(gpu_ids)).order_by(gpus.c.uuid)
    connection.execute(mine.with_for_update(key_share=True))


def _open(connection: sa.Connection, start: Start, now: float) -> int:
    """The id of the attempt. Raises Stale where anything moved."""
    promised = int(start.projection.get("upper_bytes", 0))
    ids = list(start.gpu_ids)
    usable = connection.execute(_USABLE, {"ids": ids, "its_host": start.host_id}).all()
    if not ids or len(usable) != len(ids):
        raise Stale
    full = (_FULL, {"ids": ids, "promised": promised}) if start.shared else (_HELD, {"ids": ids})
    if connection.execute(*full).first() is not None:
        raise Stale
    starting = Reason(Code.STARTING, f"starting on {usable[0].name}")
    moved = move(
        connection,
        start.job_id,
        JobState.QUEUED,
        Event.STARTED,
        starting,
        now,
        jobs.c.cancel_requested_at.is_(None),
        NOT_WAITING,
        started_at=sa.func.coalesce(jobs.c.started_at, now),
        not_before=None,
    )
    if not moved:
        raise Stale
    last = sa.select(sa.func.max(attempts.c.number)).where(attempts.c.job_id == start.job_id)
    number = (connection.execute(last).scalar() or 0) + 1
    opened = attempts.insert().values(
        job_id=start.job_id,
        number=number,
        host_id=start.host_id,
        rung=dict(start.rung),
        projection=dict(start.projection),
        basis=None if start.basis is None else dict(start.basis),
        opened_at=now,
        log_bytes=0,
    )
    attempt_id: int = connection.execute(opened.returning(attempts.c.id)).scalar_one()
    held = [
        {
            "attempt_id": attempt_id,
            "gpu_id": gpu_id,
            "rank": rank,
            "exclusive": not start.shared,
            "memory_bytes": promised,
        }
        for rank, gpu_id in enumerate(ids)
    ]
    connection.execute(leases.insert(), held)
    data = {"number": number, "host": usable[0].name, "gpus": ids}
    data |= {"shared": True} if start.shared else {}
    text = f"attempt {number} opened on {usable[0].name}"
    reads.note(
        connection,
        now,
        Event.STARTED,
        text,
        job_id=start.job_id,
        attempt_id=attempt_id,
        host_id=start.host_id,
        data=data,
    )
    return attempt_id
