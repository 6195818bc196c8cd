"""All leases of a span of time: what they went for, and what their cards drew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
import orchestrator.store.unreadable as unreadable
from jobs.state import Outcome
from orchestrator.store.accounting.parts import Parts, Phases, Told, phases, split
from orchestrator.store.engine.database import Database
from orchestrator.store.engine.text import is_text
from orchestrator.store.history.fields import CARD, MINUTE_S, QUARTER_S, SCALES
from orchestrator.store.history.idle import IDLE_BELOW
from orchestrator.store.history.rollup import MINUTES_GONE, state
from orchestrator.store.schema.column_types import Garbled
from orchestrator.store.schema.tables import attempts, gpus, history, hosts, jobs, leases, progress
from workers.checkpoints.folders import step_of

# Steps of a minute to read for one answer: more, and quarters of an hour are read.
MOST_MINUTES = 500_000
_AT_A_TIME = 500


@dataclass(frozen=True)
class LeaseUsage:
    """One card that one attempt held, in a span. share: of the card; parts: of its time, times that share."""

    job_id: int
    job: str
    user: str
    project: str
    attempt_id: int
    gpu_id: int
    card: str  # HOST/INDEX
    card_name: str
    share: float
    parts: Parts
    energy_j: float


@dataclass(frozen=True)
class _Lease:
    row: Any
    found: Phases
    slowdown: float
    since: float
    until: float


class AccountingStore(Database):
    """Accounts."""

    def lease_usage(self, since: float, until: float, now: float) -> list[LeaseUsage]:
        """Every lease that was held in that span, by attempt. Open ones count until now."""
        until = min(until, now)
        with self.read() as connection:
            held = _held(connection, since, until, now)
            minutes = sum(one.until - one.since for one in held) / MINUTE_S
            fine = minutes <= MOST_MINUTES and since >= (state(connection, MINUTES_GONE) or 0)
            measured = _measured(connection, held, MINUTE_S if fine else QUARTER_S)
        return [_usage(one, *measured[at]) for at, one in enumerate(held)]


def _usage(one: _Lease, energy_j: float, idle_s: float) -> LeaseUsage:
    row = one.row
    share = float(row.share)
    parts = split(one.found, one.since, one.until, idle_s, one.slowdown).times(share)
    return LeaseUsage(
        row.job_id,
        row.job,
        row.user,
        row.project,
        row.attempt_id,
        row.gpu_id,
        f"{row.host}/{row.idx}",
        row.card_name,
        share,
        parts,
        energy_j * share,
    )


def _held(connection: sa.Connection, since: float, until: float, now: float) -> list[_Lease]:
    share = sa.case(
        (leases.c.exclusive, 1.0), else_=sa.cast(leases.c.memory_bytes, sa.Double) / gpus.c.memory_bytes
    )
    names = ("opened_at", "outcome", "steps", "last_checkpoint", "resumed", "basis", "rung")
    query = (
        sa.select(
            *(attempts.c[name] for name in names),
            *(leases.c.attempt_id, leases.c.gpu_id, leases.c.released_at, leases.c.exclusive),
            share.label("share"),
            *(jobs.c.id.label("job_id"), jobs.c.name.label("job"), jobs.c.user, jobs.c.project),
            *(gpus.c.idx, gpus.c.name.label("card_name"), hosts.c.name.label("host")),
        )
        .select_from(leases.join(attempts).join(gpus, gpus.c.id == leases.c.gpu_id))
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .join(hosts, hosts.c.id == gpus.c.host_id)
        .where(sa.or_(leases.c.released_at.is_(None), leases.c.released_at > since))
        .where(_begun(connection, until))
        .order_by(leases.c.attempt_id, leases.c.rank)
    )
    rows = connection.execute(query).all()
    first = _first_lines(connection, {row.attempt_id for row in rows})

    def lease(row: Any) -> _Lease | None:
        _check(row)
        told = _told(row, now if row.released_at is None else row.released_at, first.get(row.attempt_id))
        found = phases(told)
        begin, over = max(found.begin, since), min(found.end, until)
        return _Lease(row, found, told.slowdown, begin, over) if over > begin else None

    made = unreadable.each("attempt", rows, lambda row: row.attempt_id, lease)
    return [one for one in made if one is not None]


def _begun(connection: sa.Connection, until: float) -> sa.ColumnElement[bool]:
    """Attempts that were open before then, and those of which nobody can tell: SQLite keeps text there."""
    before = attempts.c.opened_at < until
    if connection.dialect.name != "sqlite":
        return before
    return sa.or_(before, sa.func.typeof(attempts.c.opened_at) == "text")


def _check(row: Any) -> None:
    """Raises Garbled where the row of a lease, its attempt, job or card can't be read: nothing is guessed of it."""
    for table in (leases, attempts, jobs):
        unreadable.check(row, table)
    named = (("card", row.card_name), ("job", row.job), ("host", row.host))
    for kind, name in named:
        if not isinstance(name, str) or not is_text(name):
            raise Garbled(f"the name of its {kind} is {str(name)[:60]!r}, no text")
    if not isinstance(row.share, int | float) or not isinstance(row.idx, int):
        raise Garbled("its card's memory or index is no number")


def _told(row: Any, end: float, line: Any) -> Told:
    resumed = _number((row.resumed or {}).get("step")) if isinstance(row.resumed, dict) else 0.0
    basis = row.basis if isinstance(row.basis, dict) else {}
    rung = row.rung if isinstance(row.rung, dict) else {}
    trained_from = None
    if line is not None:
        if not isinstance(line.ts, int | float):
            raise Garbled(f"the time of its step {line.step} is {str(line.ts)[:60]!r}, no number")
        trained_from = line.ts - max(1.0, line.step - resumed) * _number(line.step_s)
    kept = step_of(Path(row.last_checkpoint)) if isinstance(row.last_checkpoint, str) else None
    return Told(
        row.opened_at,
        end,
        Outcome(row.outcome) if row.outcome else None,
        trained_from,
        int(_number(row.steps)),
        int(resumed),
        kept,
        _number(basis.get("slowdown")) if rung.get("every_n") else 0.0,
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _first_lines(connection: sa.Connection, attempt_ids: set[int]) -> dict[int, Any]:
    """Of each attempt the line of progress of its lowest step."""
    others = progress.alias()
    least = sa.select(sa.func.min(others.c.step)).where(others.c.attempt_id == progress.c.attempt_id)
    query = sa.select(progress.c.attempt_id, progress.c.step, progress.c.ts, progress.c.step_s).where(
        progress.c.step == least.scalar_subquery()
    )
    return {
        row.attempt_id: row
        for ids in reads.chunks(attempt_ids)
        for row in connection.execute(query.where(progress.c.attempt_id.in_(ids)))
        if isinstance(row.step, int)
    }


def _measured(
    connection: sa.Connection, held: Sequence[_Lease], width_s: int
) -> dict[int, tuple[float, float]]:
    """By place in held: joules that the card drew, and seconds of work in which it did nothing."""
    found = dict.fromkeys(range(len(held)), (0.0, 0.0))
    for start in range(0, len(held), _AT_A_TIME):
        spans = [
            (
                at,
                one.row.gpu_id,
                one.since,
                one.until,
                max(one.since, one.found.trains),
                min(one.until, one.found.loses),
            )
            for at, one in enumerate(held[start : start + _AT_A_TIME], start)
        ]
        for at, energy_j, idle_s in connection.execute(_of_spans(spans, width_s)):
            found[at] = (_number(energy_j), _number(idle_s))
    return found


def _of_spans(spans: Sequence[tuple[Any, ...]], width_s: int) -> sa.Select[Any]:
    names = ("since", "until", "works", "loses")
    held = (
        sa.values(
            sa.column("at", sa.Integer),
            sa.column("gpu_id", sa.BigInteger),
            *(sa.column(name, sa.Double) for name in names),
            name="held",
        )
        .data(list(spans))
        .cte("held")
    )
    since, until, works, loses = (held.c[name] for name in names)
    width: sa.ColumnElement[Any] = sa.literal_column(f"{float(width_s)}")
    idle = history.c.utilization_max < int(IDLE_BELOW * SCALES["utilization"])
    return (
        sa.select(
            held.c.at,
            sa.func.sum(history.c.energy_j * _overlap(history.c.ts, width, since, until) / width),
            sa.func.sum(sa.case((idle, _overlap(history.c.ts, width, works, loses)), else_=0.0)),
        )
        .select_from(held)
        .join(
            history,
            sa.and_(
                history.c.scope == CARD,
                history.c.subject_id == held.c.gpu_id,
                history.c.width_s == width_s,
                history.c.ts > since - width_s,
                history.c.ts < until,
            ),
        )
        .group_by(held.c.at)
    )


def _overlap(
    ts: sa.ColumnElement[Any],
    width: sa.ColumnElement[Any],
    since: sa.ColumnElement[Any],
    until: sa.ColumnElement[Any],
) -> sa.ColumnElement[Any]:
    """Seconds of a step of history that lie in a span."""
    begin = sa.case((ts > since, sa.cast(ts, sa.Double)), else_=since)
    end = sa.case((ts + width < until, ts + width), else_=until)
    return sa.case((end > begin, end - begin), else_=0.0)
