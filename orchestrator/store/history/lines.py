"""The lines of a chart: of cards, hosts, a job or the fleet, from the finest that is there and not too much to read."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from orchestrator.store.engine.database import Database
from orchestrator.store.history import raw
from orchestrator.store.history.fields import (
    CARD,
    FLEET,
    FLEET_ID,
    HOST,
    MINUTE_S,
    QUARTER_S,
    SCALES,
    STATS,
    VALUES,
    Bucket,
    merged,
)
from orchestrator.store.history.rollup import (
    MINUTES,
    MINUTES_GONE,
    QUARTERS,
    SAMPLES_GONE,
    read_buckets,
    stat_of,
    state,
)
from orchestrator.store.schema.tables import attempts, gpus, history, leases

SAMPLE, MINUTE, QUARTER = "sample", "minute", "quarter"
STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 604800)
# Of one answer: more, and it is drawn from minutes, which one in sixty of is read.
MOST_SAMPLES = 120_000
# What is newer than the last minute that was made is read from samples, of a few cards.
MOST_FRESH = 64


@dataclass(frozen=True)
class Window:
    """Cards that belonged to a subject, from since to until."""

    gpu_ids: tuple[int, ...]
    since: float
    until: float


@dataclass(frozen=True)
class Line:
    """One subject's steps. values: by field and stat, aligned with Lines.ts; None where no sample told."""

    subject_id: int
    n: list[int]
    cards: list[int]
    faults: list[int]
    energy_j: list[float | None]
    values: dict[str, dict[str, list[float | None]]]


@dataclass(frozen=True)
class Lines:
    """ts: the beginnings of all steps; source: sample, minute or quarter."""

    ts: list[int]
    step_s: int
    source: str
    lines: list[Line]


@dataclass(frozen=True)
class Asked:
    """A chart. fields, stats: of orchestrator.store.history.fields; points: steps at most."""

    since: float
    until: float
    fields: tuple[str, ...]
    stats: tuple[str, ...] = STATS
    points: int = 300


# Of one step of one subject: its id, when it begins, n, cards, faults, energy_j, then a value for each of the fields
# and stats that were asked for, in columns' units.
_Row = tuple[Any, ...]
_LEAD = 6


class LineStore(Database):
    """Lines."""

    def cards_by_host(self) -> dict[int, list[int]]:
        """The ids of all cards, by the host's: a fraction of what reading the cards themselves costs."""
        found: dict[int, list[int]] = defaultdict(list)
        with self.read() as connection:
            for host_id, gpu_id in connection.execute(sa.select(gpus.c.host_id, gpus.c.id)).all():
                found[host_id].append(gpu_id)
        return found

    def card_lines(self, gpu_ids: Sequence[int], asked: Asked) -> Lines:
        """A line a card."""
        return self._lines(CARD, {one: (one,) for one in gpu_ids}, asked)

    def host_lines(self, cards: Mapping[int, Sequence[int]], asked: Asked) -> Lines:
        """A line a host, over its cards. cards: of each host, by id."""
        return self._lines(HOST, cards, asked)

    def fleet_line(self, gpu_ids: Sequence[int], asked: Asked) -> Lines:
        """One line over all cards."""
        return self._lines(FLEET, {FLEET_ID: tuple(gpu_ids)}, asked)

    def job_lines(self, job_ids: Sequence[int], asked: Asked, now: float) -> Lines:
        """A line a job, over the cards that its attempts held, while they did."""
        with self.read() as connection:
            windows = {
                job_id: [
                    Window(one.gpu_ids, max(one.since, asked.since), min(one.until, asked.until))
                    for one in job_windows(connection, job_id, now)
                    if one.until > asked.since and one.since < asked.until
                ]
                for job_id in job_ids
            }
            spent = sum(
                len(one.gpu_ids) * (one.until - one.since) for some in windows.values() for one in some
            )
            source, step_s = _source(connection, asked, spent)
            rows = []
            for job_id, some in windows.items():
                buckets = [bucket for one in some for bucket in _of_cards(connection, one, source, step_s)]
                rows += [_row(job_id, bucket, asked) for bucket in buckets]
        return _aligned(list(job_ids), rows, asked, source, step_s)

    def _lines(self, scope: int, cards: Mapping[int, Sequence[int]], asked: Asked) -> Lines:
        """cards: of each subject, by its id."""
        every = sum(map(len, cards.values()))
        with self.read() as connection:
            source, step_s = _source(connection, asked, every * (asked.until - asked.since))
            if source == SAMPLE:
                rows = _from_samples(connection, cards, asked, asked.since, step_s)
            else:
                rows = _from_history(connection, scope, cards, asked, source, step_s)
                if every <= MOST_FRESH:
                    made = state(connection, MINUTES if source == MINUTE else QUARTERS) or 0
                    rows += _from_samples(connection, cards, asked, max(made, asked.since), step_s)
        return _aligned(list(cards), rows, asked, source, step_s)


def job_windows(connection: sa.Connection, job_id: int, now: float) -> list[Window]:
    """When a job's attempts held which cards."""
    query = (
        sa.select(attempts.c.id, attempts.c.opened_at, leases.c.released_at, leases.c.gpu_id)
        .select_from(attempts.join(leases))
        .where(attempts.c.job_id == job_id)
        .order_by(attempts.c.id, leases.c.rank)
    )
    found: dict[tuple[int, float, float], list[int]] = defaultdict(list)
    for attempt_id, opened_at, released_at, gpu_id in connection.execute(query):
        end = now if released_at is None else released_at
        if isinstance(opened_at, int | float) and isinstance(end, int | float) and end > opened_at:
            found[attempt_id, opened_at, end].append(gpu_id)
    return [Window(tuple(ids), since, until) for (_, since, until), ids in found.items()]


def _source(connection: sa.Connection, asked: Asked, card_s: float) -> tuple[str, int]:
    """What to draw from, and the step. card_s: seconds of cards that are asked for."""
    finest = _step(asked, 1)
    minutes, quarters = state(connection, MINUTES), state(connection, QUARTERS)
    there = asked.since >= (state(connection, SAMPLES_GONE) or 0)
    if minutes is None or (card_s <= MOST_SAMPLES and there):
        return SAMPLE, finest
    coarse = finest >= QUARTER_S and quarters is not None
    if coarse or asked.since < (state(connection, MINUTES_GONE) or 0):
        return QUARTER, _step(asked, QUARTER_S)
    return MINUTE, _step(asked, MINUTE_S)


def _step(asked: Asked, at_least_s: int) -> int:
    """The width of a step, so that there are no more of them than was asked."""
    wanted = max(at_least_s, (asked.until - asked.since) / asked.points)
    return next((one for one in STEPS_S if one >= wanted), STEPS_S[-1])


def _from_samples(
    connection: sa.Connection, cards: Mapping[int, Sequence[int]], asked: Asked, since: float, step_s: int
) -> list[_Row]:
    return [
        _row(subject, bucket, asked)
        for subject, ids in cards.items()
        for bucket in raw.buckets(connection, ids, since, asked.until, step_s, together=True)
    ]


def _from_history(
    connection: sa.Connection, scope: int, ids: Iterable[int], asked: Asked, source: str, step_s: int
) -> list[_Row]:
    """Only the columns that were asked for: of 500 hosts there are 30,000 rows an hour."""
    width = MINUTE_S if source == MINUTE else QUARTER_S
    counts: list[sa.ColumnElement[Any]] = [history.c[name] for name in ("n", "cards", "faults", "energy_j")]
    values: list[sa.ColumnElement[Any]] = [
        history.c[f"{name}_{stat}"] for name in asked.fields for stat in asked.stats
    ]
    key: sa.ColumnElement[Any] = history.c.subject_id
    step: sa.ColumnElement[Any] = history.c.ts
    if step_s > width:
        step = history.c.ts - history.c.ts % sa.literal_column(str(step_s))
        n, cards, faults, energy_j = counts
        counts = [sa.func.sum(n), sa.func.max(cards), sa.func.sum(faults), sa.func.sum(energy_j)]
        values = [stat_of(history, name, stat) for name in asked.fields for stat in asked.stats]
    query = sa.select(key, step, *counts, *values).where(
        history.c.scope == scope,
        history.c.width_s == width,
        history.c.ts >= asked.since - asked.since % step_s,
        history.c.ts < asked.until,
    )
    if step_s > width:
        query = query.group_by(key, step)
    found: list[_Row] = []
    for some in reads.chunks(list(ids)):
        found += connection.execute(query.where(key.in_(some))).all()
    return found


def _of_cards(connection: sa.Connection, window: Window, source: str, step_s: int) -> list[Bucket]:
    """Cards as one, from samples or from what is kept of each."""
    if source == SAMPLE:
        return raw.buckets(connection, window.gpu_ids, window.since, window.until, step_s, together=True)
    width = MINUTE_S if source == MINUTE else QUARTER_S
    since = window.since - window.since % width
    at_once: dict[int, list[Bucket]] = defaultdict(list)
    for bucket in read_buckets(connection, CARD, window.gpu_ids, width, since, window.until):
        at_once[bucket.ts].append(bucket)
    found: dict[int, list[Bucket]] = defaultdict(list)
    for ts, same in at_once.items():
        step = ts - ts % step_s
        found[step].append(replace(merged(same), ts=step, cards=len(same)))
    return [merged(same) for _, same in sorted(found.items())]


def _row(subject_id: int, bucket: Bucket, asked: Asked) -> _Row:
    values = (bucket.values[VALUES.index(f"{name}_{stat}")] for name in asked.fields for stat in asked.stats)
    return (subject_id, bucket.ts, bucket.n, bucket.cards, bucket.faults, bucket.energy_j, *values)


def _aligned(subjects: Sequence[int], rows: Iterable[_Row], asked: Asked, source: str, step_s: int) -> Lines:
    """Rows as columns over one axis of time. Two rows of one step are made one."""
    begin = int(asked.since // step_s) * step_s
    ts = list(range(begin, max(begin + 1, math.ceil(asked.until)), step_s))
    table: dict[int, list[_Row | None]] = {one: [None] * len(ts) for one in subjects}
    stats = [stat for _ in asked.fields for stat in asked.stats]
    for row in rows:
        index = (row[1] - begin) // step_s
        if 0 <= index < len(ts):
            line = table[row[0]]
            there = line[index]
            line[index] = row if there is None else _both(there, row, stats)
    return Lines(ts, step_s, source, [_line(one, table[one], asked) for one in subjects])


def _line(subject_id: int, rows: Sequence[_Row | None], asked: Asked) -> Line:
    empty = (None, None, 0, 0, 0, None, *(None for _ in asked.fields for _ in asked.stats))
    columns = list(zip(*(row or empty for row in rows), strict=True))
    values: dict[str, dict[str, list[float | None]]] = {}
    at = _LEAD
    for name in asked.fields:
        scale = SCALES[name]
        values[name] = {}
        for stat in asked.stats:
            column = columns[at]
            values[name][stat] = (
                list(column) if scale == 1 else [None if one is None else one / scale for one in column]
            )
            at += 1
    return Line(subject_id, list(columns[2]), list(columns[3]), list(columns[4]), list(columns[5]), values)


def _both(one: _Row, other: _Row, stats: Sequence[str]) -> _Row:
    """Two rows of one subject and step as one."""
    values: list[Any] = []
    for stat, a, b in zip(stats, one[_LEAD:], other[_LEAD:], strict=True):
        if a is None or b is None:
            values.append(b if a is None else a)
        elif stat == "mean":
            values.append((a * one[2] + b * other[2]) / (one[2] + other[2]))
        else:
            values.append(min(a, b) if stat == "min" else max(a, b))
    drawn = [row[5] for row in (one, other) if row[5] is not None]
    counts = (one[2] + other[2], max(one[3], other[3]), one[4] + other[4], sum(drawn) if drawn else None)
    return (one[0], one[1], *counts, *values)
