"""Curves of attempts that ended, kept for good: what they told by step, and what their cards measured meanwhile.

The first is kept as its rows go (orchestrator.store.retention), the second an hour or more after an attempt's end,
while its samples are there. Of a field that is one line over several cards there are mean, least and most of each
step: a short peak stays in sight.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
import orchestrator.store.unreadable as unreadable
from orchestrator.store.engine.database import Database
from orchestrator.store.history import raw
from orchestrator.store.history.fields import CARD, MINUTE_S, SCALES, STATS, VALUES, Bucket, merged
from orchestrator.store.history.lines import STEPS_S
from orchestrator.store.history.rollup import read_buckets
from orchestrator.store.schema.column_types import quick_json
from orchestrator.store.schema.tables import attempts, curves, leases

PROGRESS, EVALUATIONS, TELEMETRY = "progress", "evaluations", "telemetry"
FIELDS = ("memory_used_bytes", "utilization", "power_w")
MOST_STEPS = 660  # mean, least and most of each: 2,000 points a line
SETTLED_S = 3600.0  # after an attempt's end, for samples that come late
AT_A_TIME = 20
_MOST_SAMPLES = 200_000  # of one attempt: more, and its minutes are read


@dataclass(frozen=True)
class Telemetry:
    """What the cards of one attempt measured. values: by field and stat, aligned with ts."""

    number: int
    step_s: int
    ts: list[int]
    n: list[int]
    energy_j: list[float | None]
    values: dict[str, dict[str, list[float | None]]]


class CurveStore(Database):
    """Curves."""

    def keep_curves(self, now: float, since: float) -> bool:
        """Keeps what the cards of attempts measured that ended since then, and an hour ago or more; some at a time.
        Whether there may be more.
        """
        kept = sa.select(curves.c.attempt_id).where(
            curves.c.attempt_id == attempts.c.id, curves.c.kind == TELEMETRY
        )
        query = sa.select(attempts.c.id).where(
            attempts.c.ended_at >= since, attempts.c.ended_at < now - SETTLED_S, ~kept.exists()
        )
        # One that can't be read is kept as without any, or it would be asked for again and again.
        with self.read() as connection, unreadable.leaving_out():
            ids = connection.execute(query.order_by(attempts.c.id).limit(AT_A_TIME)).scalars().all()
            found = {attempt_id: _measured(connection, attempt_id, now) for attempt_id in ids}
        if found:
            with self.write() as connection:
                rows = [
                    {"attempt_id": attempt_id, "kind": TELEMETRY, "data": packed(value)}
                    for attempt_id, value in found.items()
                ]
                connection.execute(self.upsert(curves).on_conflict_do_nothing(), rows)
        return len(ids) == AT_A_TIME

    def telemetry_curves(self, job_id: int, now: float) -> list[Telemetry]:
        """Of each attempt of a job that measured anything, in their order: as kept, or from what is there."""
        query = sa.select(attempts.c.id, attempts.c.number).where(attempts.c.job_id == job_id)
        with self.read() as connection:
            numbers = connection.execute(query.order_by(attempts.c.number)).all()
            kept = read_curves(connection, TELEMETRY, [row.id for row in numbers])
            found = []
            for row in numbers:
                told = kept.get(row.id) or _measured(connection, row.id, now)
                if told["ts"]:
                    found.append(Telemetry(number=row.number, **told))
        return found


def packed(value: dict[str, Any]) -> bytes:
    """As `data` of a curve."""
    return zlib.compress(quick_json(value).encode(), 6)


def read_curves(
    connection: sa.Connection, kind: str, attempt_ids: Collection[int]
) -> dict[int, dict[str, Any]]:
    """By attempt, the curves of that kind that are kept. One that can't be read is left out."""
    found: dict[int, dict[str, Any]] = {}
    for ids in reads.chunks(attempt_ids):
        query = sa.select(curves.c.attempt_id, curves.c.data)
        rows = connection.execute(query.where(curves.c.kind == kind, curves.c.attempt_id.in_(ids)))
        for attempt_id, data in rows:
            try:
                value = json.loads(zlib.decompress(data))
            except (ValueError, TypeError, zlib.error):
                continue
            if isinstance(value, dict):
                found[attempt_id] = value
    return found


def keep_rows(connection: sa.Connection, table: sa.Table, kind: str, attempt_id: int) -> None:
    """Keeps all rows of a table that an attempt told by step, as columns. What is kept already stays."""
    there = sa.select(curves.c.kind).where(curves.c.attempt_id == attempt_id, curves.c.kind == kind)
    if connection.execute(there).first() is not None:
        return
    columns = [column for column in table.c if column.name != "attempt_id"]
    query = sa.select(*columns).where(table.c.attempt_id == attempt_id).order_by(table.c.step)
    rows = connection.execute(query).all()
    value = {column.name: [row[at] for row in rows] for at, column in enumerate(columns)}
    connection.execute(curves.insert().values(attempt_id=attempt_id, kind=kind, data=packed(value)))


def kept_rows(
    connection: sa.Connection, kind: str, attempt_ids: Collection[int]
) -> dict[int, list[dict[str, Any]]]:
    """By attempt, the rows that keep_rows() kept."""
    found = {}
    for attempt_id, value in read_curves(connection, kind, attempt_ids).items():
        columns = [column if isinstance(column, list) else [] for column in value.values()]
        found[attempt_id] = [
            {"attempt_id": attempt_id, **dict(zip(value, row, strict=True))}
            for row in zip(*columns, strict=False)
        ]
    return found


def _measured(connection: sa.Connection, attempt_id: int, now: float) -> dict[str, Any]:
    """The cards of an attempt as one, from samples, or from minutes where there are too many."""
    query = sa.select(attempts.c.opened_at, leases.c.released_at, leases.c.gpu_id).select_from(
        attempts.join(leases)
    )
    rows = connection.execute(query.where(attempts.c.id == attempt_id)).all()
    ids = [row.gpu_id for row in rows]

    def held(row: Any) -> tuple[float, float]:
        unreadable.check(row, attempts)
        unreadable.check(row, leases)
        return row.opened_at, now if row.released_at is None else row.released_at

    times = unreadable.each("attempt", rows, lambda _: attempt_id, held)
    if len(times) < len(rows) or not times:
        return {"step_s": 1, "ts": [], "n": [], "energy_j": [], "values": {}}
    since, until = min(begin for begin, _ in times), max(end for _, end in times)
    step_s = next((one for one in STEPS_S if one >= (until - since) / MOST_STEPS), STEPS_S[-1])
    found: list[Bucket] = []
    if len(ids) * (until - since) <= _MOST_SAMPLES:
        found = raw.buckets(connection, ids, since, until, step_s, together=True)
    if not found:
        step_s = max(step_s, MINUTE_S)
        found = _of_minutes(connection, ids, since, until, step_s)
    values = {
        name: {stat: _column(found, f"{name}_{stat}", SCALES[name]) for stat in STATS} for name in FIELDS
    }
    return {
        "step_s": step_s,
        "ts": [one.ts for one in found],
        "n": [one.n for one in found],
        "energy_j": [one.energy_j for one in found],
        "values": values,
    }


def _of_minutes(
    connection: sa.Connection, ids: Collection[int], since: float, until: float, step_s: int
) -> list[Bucket]:
    by_step: dict[int, list[Bucket]] = {}
    for one in read_buckets(connection, CARD, ids, MINUTE_S, since - MINUTE_S + 1, until):
        by_step.setdefault(one.ts - one.ts % step_s, []).append(one)
    found = []
    for step, same in sorted(by_step.items()):
        both = merged(same)
        counts = (both.n, both.until_ms, len({one.subject_id for one in same}), both.faults, both.energy_j)
        found.append(Bucket(0, step, *counts, both.values))
    return found


def _column(found: list[Bucket], name: str, scale: int) -> list[float | None]:
    at = VALUES.index(name)
    values = (one.values[at] for one in found)
    return [None if value is None else value if scale == 1 else value / scale for value in values]
