"""Samples in steps of any width: one statement that both databases run.

Energy is the sum of what a card's counter grew by from sample to sample. One that is lower than the one before is a
counter that began anew: it counts from nothing. What a counter grew by while no samples came is of the step in which
they came again.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from orchestrator.store.history.fields import FIELDS, SCALES, Bucket
from orchestrator.store.schema.tables import samples

# So far back the last sample before a step is looked for with the rest; one further back costs a look-up.
LOOK_BACK_S = 120


def buckets(
    connection: sa.Connection,
    gpu_ids: Collection[int],
    since: float,
    until: float,
    step_s: int,
    together: bool = False,
) -> list[Bucket]:
    """Samples with since <= ts < until, by card and step. together: of all these cards as one, of id 0."""
    found: list[Bucket] = []
    for ids in reads.chunks(gpu_ids):
        rows = connection.execute(
            _query(connection, step_s, together), {"ids": ids, "since": since, "until": until}
        )
        for row in rows.all():
            found.append(_bucket(connection, row, step_s, together))
    return found


def step_of(connection: sa.Connection, column: sa.ColumnElement[Any], step_s: int) -> sa.ColumnElement[Any]:
    """The beginning of the step of that width that a time lies in."""
    whole = sa.cast(
        column / sa.literal_column(f"{float(step_s)}"), sa.BigInteger
    )  # SQLite cuts, PostgreSQL rounds
    if connection.dialect.name != "sqlite":
        whole = sa.cast(sa.func.floor(column / sa.literal_column(f"{float(step_s)}")), sa.BigInteger)
    return whole * sa.literal_column(str(step_s))


def _query(connection: sa.Connection, step_s: int, together: bool) -> sa.Select[Any]:
    since, until = sa.bindparam("since", type_=sa.Double), sa.bindparam("until", type_=sa.Double)
    energy_j: sa.ColumnElement[Any] = samples.c.energy_j
    if connection.dialect.name == "sqlite":  # which keeps text there, and reckons with it as with 0
        energy_j = sa.case((sa.func.typeof(energy_j).in_(("integer", "real")), energy_j))
    told = energy_j.is_not(None)
    before = sa.func.lag(energy_j).over(partition_by=[samples.c.gpu_id, told], order_by=samples.c.ts)
    seen = (
        sa.select(
            samples.c.gpu_id,
            samples.c.ts,
            step_of(connection, samples.c.ts, step_s).label("step"),
            samples.c.fault,
            *(samples.c[name] for name in FIELDS),
            sa.case(
                (before.is_(None), None),
                (energy_j >= before, energy_j - before),
                else_=energy_j,
            ).label("drawn"),
            sa.case((sa.and_(told, before.is_(None)), samples.c.ts)).label("alone"),
        )
        .where(samples.c.gpu_id.in_(sa.bindparam("ids", expanding=True, type_=sa.BigInteger)))
        .where(samples.c.ts >= since - LOOK_BACK_S, samples.c.ts < until)
        .subquery()
    )
    card = sa.literal_column("0") if together else seen.c.gpu_id
    by = [seen.c.step] if together else [seen.c.gpu_id, seen.c.step]
    stats = [of(seen.c[name]) for name in FIELDS for of in (sa.func.avg, sa.func.min, sa.func.max)]
    return (
        sa.select(
            card,
            seen.c.step,
            sa.func.count(),
            sa.func.max(seen.c.ts),
            sa.func.count(sa.distinct(seen.c.gpu_id)) if together else sa.literal_column("1"),
            sa.func.count(seen.c.fault),
            sa.func.sum(seen.c.drawn),
            sa.func.min(seen.c.alone),
            *stats,
        )
        .where(seen.c.ts >= since)
        .group_by(*by)
    )


def _bucket(connection: sa.Connection, row: Any, step_s: int, together: bool) -> Bucket:
    gpu_id, step, n, last, cards, faults, drawn, alone, *stats = row
    if alone is not None and not together:
        drawn = (drawn or 0.0) + _since_gap(connection, gpu_id, alone)
    values = []
    for at, name in enumerate(FIELDS):
        three = stats[3 * at : 3 * at + 3]
        known = all(isinstance(one, int | float | Decimal) for one in three)  # SQLite keeps text there
        values += [round(float(one) * SCALES[name]) if known else None for one in three]
    return Bucket(
        gpu_id,
        int(step),
        n,
        math.ceil((last - step) * 1000),
        cards,
        faults,
        float(drawn) if isinstance(drawn, int | float) else None,
        tuple(values),
    )


def _since_gap(connection: sa.Connection, gpu_id: int, ts: float) -> float:
    """What the counter grew by up to the sample at ts, the first after a gap."""
    query = sa.select(samples.c.energy_j).where(samples.c.gpu_id == gpu_id, samples.c.energy_j.is_not(None))
    now = connection.execute(query.where(samples.c.ts == ts)).scalar()
    before = connection.execute(
        query.where(samples.c.ts < ts).order_by(samples.c.ts.desc()).limit(1)
    ).scalar()
    if not isinstance(now, int | float) or not isinstance(before, int | float):
        return 0.0
    return float(now - before if now >= before else now)
