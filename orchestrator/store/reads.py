"""Rows as they are read, by every part of the store."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from operator import attrgetter
from typing import Any, TypeVar

import sqlalchemy as sa

import orchestrator.store.unreadable as unreadable
from jobs.errors import NotFound
from jobs.identity import is_derived
from jobs.state import Code, JobState, Outcome, Reason
from orchestrator.store.requests import NOTIFIED, Actor
from orchestrator.store.rows import (
    AttemptRow,
    EvaluationRow,
    GpuRow,
    Holder,
    HostRow,
    JobRow,
    LeasedGpu,
    ProgressRow,
)
from orchestrator.store.schema.notice_tables import notices, notify_targets
from orchestrator.store.schema.tables import (
    attempts,
    evaluations,
    events,
    gpus,
    hosts,
    jobs,
    leases,
    progress,
)

T = TypeVar("T")
CHUNK = 10_000  # ids in one IN list; SQLite takes 32,766 parameters a statement


# Built once: to build a statement costs more than to ask a small database.
_IDS = sa.bindparam("ids", expanding=True, type_=sa.BigInteger)
# Without what was told of a card's health: that is the reports' own.
_GPU = [column for column in gpus.c if column.name != "signs"]
_ATTEMPTS = (
    sa.select(attempts, hosts.c.name.label("host")).select_from(attempts.join(hosts)).order_by(attempts.c.id)
)
_LEASED = (
    sa.select(leases.c.attempt_id, leases.c.exclusive, *_GPU, hosts.c.name.label("host"))
    .select_from(leases.join(gpus).join(hosts, hosts.c.id == gpus.c.host_id))
    .where(leases.c.attempt_id.in_(_IDS))
    .order_by(leases.c.attempt_id, leases.c.rank)
)
_CARDS = (
    sa.select(*_GPU, hosts.c.name.label("host"))
    .select_from(gpus.join(hosts))
    .order_by(hosts.c.name, gpus.c.idx)
)
_HELD = (
    sa.select(
        leases.c.gpu_id,
        leases.c.attempt_id,
        attempts.c.job_id,
        leases.c.exclusive,
        leases.c.memory_bytes,
    )
    .select_from(leases.join(attempts))
    .where(leases.c.released_at.is_(None))
    .order_by(leases.c.attempt_id)
)
_ATTAINED = (
    sa.select(attempts.c.job_id, sa.func.sum(leases.c.released_at - attempts.c.opened_at))
    .select_from(attempts.join(leases))
    .where(
        attempts.c.job_id.in_(
            sa.select(jobs.c.id).where(
                jobs.c.state.in_((JobState.QUEUED, JobState.RUNNING)), jobs.c.started_at.is_not(None)
            )
        ),
        leases.c.released_at.is_not(None),
    )
    .group_by(attempts.c.job_id)
)


def _newest_of(table: sa.Table) -> sa.Select[Any]:
    """Of each attempt the row of the highest step: one index look-up each."""
    others = table.alias()
    latest = (
        sa.select(sa.func.max(others.c.step)).where(others.c.attempt_id == attempts.c.id).scalar_subquery()
    )
    return sa.select(table).where(
        table.c.attempt_id == attempts.c.id, table.c.step == latest, attempts.c.id.in_(_IDS)
    )


_NEWEST_LINES, _NEWEST_TESTS = _newest_of(progress), _newest_of(evaluations)
_STATES = {str(state): state for state in JobState}
_CODES = {str(code): code for code in Code}


def chunks(ids: Collection[int]) -> Iterable[list[int]]:
    """ids in sorted pieces that fit a statement."""
    ordered = sorted(ids)
    return (ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK))


def job_rows(connection: sa.Connection, query: sa.Select[Any]) -> list[JobRow]:
    """The jobs that a select(jobs) finds. By position: a queue of 10,000 is read in half the time."""
    return unreadable.rows("job", connection.execute(query), jobs, _id, _job)


_id = attrgetter("id")


def _job(row: Any) -> JobRow:
    id_, name, user, state, code, text, figures, *rest = row
    return JobRow(id_, name, user, _STATES[state], Reason(_CODES.get(code, code), text, figures), *rest)


def one_job(connection: sa.Connection, job_id: int) -> JobRow:
    """The job of that id. Raises NotFound."""
    found = job_rows(connection, sa.select(jobs).where(jobs.c.id == job_id))
    if not found:
        raise NotFound(f"there is no job {job_id}; `tuneyard list` shows the jobs there are")
    return found[0]


def queue_rows(connection: sa.Connection, limit: int) -> list[JobRow]:
    """Queued jobs in starting order: priority, then first come first served."""
    query = sa.select(jobs).where(jobs.c.state == JobState.QUEUED)
    return job_rows(connection, query.order_by(jobs.c.priority.desc(), jobs.c.id).limit(limit))


def attempt_rows(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[AttemptRow]:
    """The attempts that meet the conditions, by id, with host names and cards. Two statements."""
    found = connection.execute(_ATTEMPTS.where(*conditions)).all()
    held = _leased(connection, [row.id for row in found])

    def make(row: Any) -> AttemptRow:
        return AttemptRow(
            id=row.id,
            job_id=row.job_id,
            number=row.number,
            host_id=row.host_id,
            host=row.host,
            gpus=tuple(held.get(row.id, ())),
            rung=row.rung,
            projection=row.projection,
            opened_at=row.opened_at,
            dispatched_at=row.dispatched_at,
            started_at=row.started_at,
            started=row.started,
            stop_requested_at=row.stop_requested_at,
            stop_reason=row.stop_reason,
            log_bytes=row.log_bytes,
            reported=row.reported,
            outcome=Outcome(row.outcome) if row.outcome else None,
            message=row.message or "",
            ended_at=row.ended_at,
            steps=row.steps,
            last_checkpoint=row.last_checkpoint,
            result=row.result,
            measured=row.measured,
            basis=row.basis,
            stop_for=row.stop_for,
            resumed=row.resumed,
            checkpoints=row.checkpoints,
            uuid=row.uuid,
        )

    return unreadable.rows("attempt", found, attempts, _id, make)


def _leased(connection: sa.Connection, attempt_ids: Collection[int]) -> dict[int, list[LeasedGpu]]:
    held: dict[int, list[LeasedGpu]] = {}
    for ids in chunks(attempt_ids):
        found = connection.execute(_LEASED, {"ids": ids})
        for attempt_id, gpu in unreadable.rows("card", found, gpus, _id, _card):
            held.setdefault(attempt_id, []).append(gpu)
    return held


def _card(row: Any) -> tuple[int, LeasedGpu]:
    card = (row.id, row.uuid, row.idx, row.kind, row.name, row.memory_bytes, row.exclusive)
    return row.attempt_id, LeasedGpu(*card, row.host_id, row.host)


def latest_attempts(connection: sa.Connection, job_ids: Collection[int]) -> dict[int, AttemptRow]:
    """Each job's attempt of the highest number."""
    others = attempts.alias()
    latest = (
        sa.select(sa.func.max(others.c.number)).where(others.c.job_id == attempts.c.job_id).scalar_subquery()
    )
    found = [
        row
        for ids in chunks(job_ids)
        for row in attempt_rows(connection, attempts.c.job_id.in_(ids), attempts.c.number == latest)
    ]
    return {row.job_id: row for row in found}


def latest_progress(connection: sa.Connection, attempt_ids: Collection[int]) -> dict[int, ProgressRow]:
    """Each attempt's line of the highest step: one index look-up each."""
    found = [
        row
        for ids in chunks(attempt_ids)
        for row in lines_of(ProgressRow, progress, connection.execute(_NEWEST_LINES, {"ids": ids}))
    ]
    return {row.attempt_id: row for row in found}


def lines_of(kind: type[T], table: sa.Table, found: Iterable[Any]) -> list[T]:
    """Rows of a table that attempts tell, such as progress."""

    def key(row: Any) -> str:
        return f"of attempt {row.attempt_id}, step {row.step}"

    return unreadable.rows(table.name, found, table, key, lambda row: kind(**row._mapping))


def latest_evaluations(connection: sa.Connection, attempt_ids: Collection[int]) -> dict[int, EvaluationRow]:
    """Each attempt's evaluation of the highest step."""
    return {
        row.attempt_id: row
        for ids in chunks(attempt_ids)
        for row in lines_of(EvaluationRow, evaluations, connection.execute(_NEWEST_TESTS, {"ids": ids}))
    }


def unnamed_attempts(connection: sa.Connection, job_ids: Collection[int]) -> dict[int, tuple[int, ...]]:
    """By job, the ids of its attempts whose files bear no uuid (jobs.identity); those without any are left out."""
    query = sa.select(attempts.c.job_id, attempts.c.id, attempts.c.uuid).where(attempts.c.job_id.in_(job_ids))
    found: dict[int, tuple[int, ...]] = {}
    for job_id, attempt_id, uuid in connection.execute(query.order_by(attempts.c.id)):
        if is_derived(uuid):
            found[job_id] = (*found.get(job_id, ()), attempt_id)
    return found


def attained(connection: sa.Connection) -> dict[int, float]:
    """GPU-seconds that the ended attempts of each job held which is queued again, or runs again."""
    return {job_id: max(0.0, gpu_s) for job_id, gpu_s in connection.execute(_ATTAINED)}


def host_rows(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[HostRow]:
    """Hosts by name."""
    query = sa.select(hosts).where(*conditions).order_by(hosts.c.name)
    return unreadable.rows("host", connection.execute(query), hosts, attrgetter("name"), _host)


def _host(row: Any) -> HostRow:
    return HostRow(**{**row._mapping, "running": _ids(row.running)})


def _ids(value: Any) -> tuple[int, ...]:
    """Of attempts, as a host reported them; none where that can't be read, for the next report says it again."""
    return tuple(value) if isinstance(value, list) else ()


def gpu_rows(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[GpuRow]:
    """Every card that meets the conditions, by host and index, with the attempts that hold it."""
    holders = _holders(connection)

    def make(row: Any) -> GpuRow:
        return GpuRow(
            id=row.id,
            uuid=row.uuid,
            host_id=row.host_id,
            host=row.host,
            index=row.idx,
            kind=row.kind,
            name=row.name,
            memory_bytes=row.memory_bytes,
            fault=row.fault,
            present=row.present,
            expandable=row.expandable,
            holders=tuple(holders.get(row.id, ())),
        )

    return unreadable.rows("card", connection.execute(_CARDS.where(*conditions)), gpus, _id, make)


def _holders(connection: sa.Connection) -> dict[int, list[Holder]]:
    """By card, the attempts that hold it now, oldest first."""
    held: dict[int, list[Holder]] = {}
    for gpu_id, *rest in connection.execute(_HELD):
        held.setdefault(gpu_id, []).append(Holder(*rest))
    return held


def reason_values(reason: Reason) -> dict[str, Any]:
    """The columns of jobs that hold a reason."""
    return {"reason_code": reason.code, "reason_text": reason.text, "reason_figures": reason.figures}


def note(
    connection: sa.Connection,
    now: float,
    kind: str,
    text: str,
    *,
    job_id: int | None = None,
    attempt_id: int | None = None,
    host_id: int | None = None,
    gpu_id: int | None = None,
    data: dict[str, Any] | None = None,
    actor: Actor | None = None,
    told: str = "",
) -> None:
    """Writes an event, in the transaction that makes it true. actor: who asked for it, None: nobody did; told: what
    its notices say, where that is more.
    """
    values: dict[str, Any] = {
        "job_id": job_id,
        "attempt_id": attempt_id,
        "host_id": host_id,
        "gpu_id": gpu_id,
        "data": data or {},
    }
    values |= {"ts": now, "kind": str(kind), "text": text, **asked_by(actor)}
    connection.execute(events.insert(), values)
    if kind in NOTIFIED:
        _tell_targets(connection, now, str(kind), told or text, job_id)


def _tell_targets(connection: sa.Connection, now: float, kind: str, text: str, job_id: int | None) -> None:
    """Puts a notice of an event into the outbox, for each target that is told of its kind."""
    job = sa.literal(job_id, sa.BigInteger)
    whose: sa.ColumnElement[bool] = notify_targets.c.project.is_(None)
    if job_id is not None:
        mine = sa.select(jobs.c.project).where(jobs.c.id == job_id).scalar_subquery()
        whose = whose | (notify_targets.c.project == mine)
    told = sa.select(
        notify_targets.c.id,
        *(sa.literal(now, sa.Double), sa.literal(kind), sa.literal(text, notices.c.text.type), job),
        *(sa.literal(0, sa.Integer), sa.literal(now, sa.Double)),
    ).where(whose, notify_targets.c.kinds.contains(f",{kind},", autoescape=True))
    columns = ["target_id", "ts", "kind", "text", "job_id", "tries", "next_at"]
    connection.execute(notices.insert().from_select(columns, told))


def asked_by(actor: Actor | None) -> dict[str, str]:
    """The columns of events that say who asked."""
    return {} if actor is None else {"actor": actor.user, "address": actor.address}
