"""Samples in steps of any width: one statement that both databases run, or SQLite's rows, summed up here.

Energy is the sum of what a card's counter grew by from sample to sample. One that is lower than the one before is a
counter that began anew: it counts from nothing. What a counter grew by while no samples came is of the step in which
they came again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal
from itertools import chain, groupby
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from orchestrator.store.history.fields import FIELDS, SCALES, Bucket
from orchestrator.store.schema.tables import gpus, samples

# So far back the last sample before a step is looked for with the rest; one further back costs a look-up.
LOOK_BACK_S = 20

_COLUMNS = [
    samples.c.gpu_id,
    samples.c.ts,
    samples.c.fault,
    samples.c.energy_j,
    *(samples.c[n] for n in FIELDS),
]
_IDS: sa.BindParameter[int] = sa.bindparam("ids", expanding=True, type_=sa.BigInteger)
_SINCE, _UNTIL = sa.bindparam("since", type_=sa.Double), sa.bindparam("until", type_=sa.Double)
_ROWS = (
    sa.select(*_COLUMNS)
    .where(samples.c.gpu_id.in_(_IDS), samples.c.ts >= _SINCE, samples.c.ts < _UNTIL)
    .order_by(samples.c.gpu_id, samples.c.ts)
)
# The counter of each card before: of what SQLite keeps, only numbers.
_BEFORE = sa.select(
    gpus.c.id,
    sa.select(samples.c.energy_j)
    .where(samples.c.gpu_id == gpus.c.id, samples.c.ts < _SINCE)
    .where(sa.func.typeof(samples.c.energy_j).in_(("integer", "real")))
    .order_by(samples.c.ts.desc())
    .limit(1)
    .scalar_subquery()
    .label("before"),
).where(gpus.c.id.in_(_IDS))


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
        if connection.dialect.name == "sqlite" and not together:
            found += _from_rows(connection, ids, since, until, step_s)
            continue
        rows = connection.execute(
            _query(connection, step_s, together), {"ids": ids, "since": since, "until": until}
        )
        for row in rows.all():
            found.append(_bucket(connection, row, step_s, together))
    return found


def _from_rows(
    connection: sa.Connection, ids: Collection[int], since: float, until: float, step_s: int
) -> Iterator[Bucket]:
    """buckets() of one card each, from the rows: SQLite takes five times as long to do the same."""
    given = {"ids": ids, "since": since, "until": until}
    energy_j = {row.id: row.before for row in connection.execute(_BEFORE, given)}
    rows = connection.execute(_ROWS, given).all()
    for (gpu_id, step), some in groupby(rows, lambda row: (row[0], int(row[1] // step_s) * step_s)):
        _, times, faults, counts, *columns = zip(*some, strict=True)
        drawn, energy_j[gpu_id] = _drawn(energy_j.get(gpu_id), counts)
        yield Bucket(
            gpu_id,
            step,
            len(times),
            math.ceil((times[-1] - step) * 1000),
            1,
            len(faults) - faults.count(None),
            drawn,
            tuple(chain.from_iterable(map(_stats, FIELDS, columns))),
        )


def _drawn(before: float | None, counts: Sequence[Any]) -> tuple[float | None, float | None]:
    """What a counter grew by, None where it is not known; and where it stands at the end."""
    drawn: float | None = None
    for count in counts:
        if isinstance(count, int | float):
            if before is not None:
                drawn = (drawn or 0.0) + (count - before if count >= before else count)
            before = count
    return drawn, before


def _stats(name: str, column: Sequence[Any]) -> tuple[int | None, int | None, int | None]:
    """Mean, least and most of a field, in the units of history. SQLite may keep text there: then nothing is known."""
    told = [one for one in column if one is not None] if None in column else column
    try:
        figures = (math.fsum(told) / len(told), min(told), max(told))
    except (TypeError, ZeroDivisionError):
        return None, None, None
    scale = SCALES[name]
    return round(figures[0] * scale), round(figures[1] * scale), round(figures[2] * scale)


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
