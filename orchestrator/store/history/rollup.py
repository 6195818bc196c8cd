"""Samples become minutes, minutes quarters of an hour, cards hosts and the fleet: a little at a time.

A bucket is a pure function of the samples in it, and made again whole: to repeat a step after a crash, or when samples
came late, counts none twice. Where samples are gone (prune.py), what still comes is added to what is kept, by time:
only what is newer than all that was counted.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from orchestrator.store.engine.bulk import BulkInsert
from orchestrator.store.engine.database import Database
from orchestrator.store.history import raw
from orchestrator.store.history.fields import (
    CARD,
    COLUMNS,
    FIELDS,
    FLEET,
    FLEET_ID,
    HOST,
    MINUTE_S,
    QUARTER_S,
    STATS,
    Bucket,
    merged,
)
from orchestrator.store.history.late import GRACE_S
from orchestrator.store.schema.tables import gpus, history, history_late, history_state, hosts, samples

# Names in history_state: minutes, quarters that are made; samples, minutes before which all were removed.
MINUTES, QUARTERS, SAMPLES_GONE, MINUTES_GONE = "minutes", "quarters", "samples_gone", "minutes_gone"
CARDS_AT_A_TIME = 250
LATE_AT_A_TIME = 500  # minutes of cards
_ROWS_AT_A_TIME = 5000
_put = BulkInsert(history, COLUMNS, replace=("scope", "subject_id", "width_s", "ts"))

_FLEET: sa.ColumnElement[Any] = sa.literal_column(str(FLEET_ID))


class RollupStore(Database):
    """Makes history."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._done: tuple[int, int] = (0, 0)  # the minute that is being made, and the last card of it that is

    def roll_up(self, now: float, budget_s: float = 0.1) -> bool:
        """Takes up what is due, for about so long. Whether there is more."""
        until = time.monotonic() + budget_s
        while True:
            more = self._some_minutes(now) or self._some_quarters() or self._some_late()
            if not more or time.monotonic() >= until:
                return more

    def history_until(self) -> float | None:
        """Up to when there are minutes; None: there are none yet."""
        with self.read() as connection:
            return state(connection, MINUTES)

    def _some_minutes(self, now: float) -> bool:
        """One statement's worth of cards of the next minutes. Whether there was any to make."""
        last = int((now - GRACE_S) // MINUTE_S) * MINUTE_S
        with self.read() as connection:
            made_until = state(connection, MINUTES)
            begin = made_until
            if begin is None or last - begin > QUARTER_S:
                begin = _first_sample(connection, begin, last)
        if begin >= last:
            return self._pass_over(made_until, last)
        with self.read() as connection:
            # Behind, a quarter of an hour at a time; never over the end of one, for that is made of whole ones.
            end = min(last, begin - begin % QUARTER_S + QUARTER_S) if last - begin > MINUTE_S else last
            after = self._done[1] if self._done[0] == begin else 0
            query = (
                sa.select(gpus.c.id)
                .where(gpus.c.id > after)
                .order_by(gpus.c.id)
                .limit(_at_a_time(begin, end))
            )
            ids = connection.execute(query).scalars().all()
            made = raw.buckets(connection, ids, begin, end, MINUTE_S)
        with self.write() as connection:
            _put(connection, [one.row(CARD, MINUTE_S) for one in made])
            if not ids:
                combine(connection, begin, end)
                set_state(connection, MINUTES, end)
        self._done = (begin, ids[-1]) if ids else (0, 0)
        return True

    def _pass_over(self, made_until: int | None, last: int) -> bool:
        """There is no sample in the minutes since: they are made. Else the last quarter would wait for the next one."""
        if made_until is None or made_until >= last:
            return False
        with self.write() as connection:
            set_state(connection, MINUTES, last)
        return True

    def _some_quarters(self) -> bool:
        with self.read() as connection:
            minutes, begin = state(connection, MINUTES), state(connection, QUARTERS)
            if minutes is None:
                return False
            if begin is None or minutes - begin > 4 * QUARTER_S:
                begin = _first_minute(connection, begin, minutes)
        if minutes - begin < QUARTER_S:
            return False
        with self.write() as connection:
            widen(connection, begin, begin + QUARTER_S)
            set_state(connection, QUARTERS, begin + QUARTER_S)
        return True

    def _some_late(self) -> bool:
        """Makes minutes again whose samples came late."""
        with self.read() as connection:
            minutes = state(connection, MINUTES)
            if minutes is None:
                return False
            query = sa.select(history_late).where(history_late.c.ts < minutes)
            late = connection.execute(query.order_by(history_late.c.ts).limit(LATE_AT_A_TIME)).all()
        if not late:
            return False
        by_minute: dict[int, list[int]] = defaultdict(list)
        for gpu_id, ts in late:
            by_minute[ts].append(gpu_id)
        # A transaction for each minute: others wait to write meanwhile. Its quarter is made again with the last of its
        # marks, once for all cards and minutes.
        for ts, ids in by_minute.items():
            with self.write() as connection:
                for some in reads.chunks(ids):
                    connection.execute(
                        history_late.delete().where(history_late.c.ts == ts, history_late.c.gpu_id.in_(some))
                    )
                _remake(connection, ids, ts)
                _widen_again(connection, ts, unless_marked=True)
        return True


def state(connection: sa.Connection, name: str) -> int | None:
    """How far it has come, as one of the names above says."""
    found = connection.execute(sa.select(history_state.c.ts).where(history_state.c.name == name)).scalar()
    return found if isinstance(found, int) else None


def set_state(connection: sa.Connection, name: str, ts: int) -> None:
    """In the transaction that makes it true."""
    changed = history_state.update().where(history_state.c.name == name).values(ts=ts)
    if not connection.execute(changed).rowcount:
        connection.execute(history_state.insert().values(name=name, ts=ts))


def read_buckets(
    connection: sa.Connection, scope: int, ids: Collection[int], width_s: int, since: float, until: float
) -> list[Bucket]:
    """What is kept of these subjects with since <= ts < until, by subject and time."""
    columns = [history.c[name] for name in COLUMNS[1:] if name != "width_s"]
    found = []
    for some in reads.chunks(ids):
        query = sa.select(*columns).where(
            history.c.scope == scope,
            history.c.subject_id.in_(some),
            history.c.width_s == width_s,
            history.c.ts >= since,
            history.c.ts < until,
        )
        rows = connection.execute(query.order_by(history.c.subject_id, history.c.ts)).all()
        found += [
            Bucket(key, ts, n, until_ms, cards, faults, energy_j, tuple(values))
            for key, ts, n, until_ms, cards, faults, energy_j, *values in rows
        ]
    return found


def combine(connection: sa.Connection, since: int, until: int) -> None:
    """Minutes of hosts from those of cards, and of the fleet from those of hosts."""
    of_cards = gpus.join(history, sa.and_(history.c.scope == CARD, history.c.subject_id == gpus.c.id))
    _sum(connection, HOST, gpus.c.host_id, of_cards, (MINUTE_S, MINUTE_S), (since, until))
    of_hosts = hosts.join(history, sa.and_(history.c.scope == HOST, history.c.subject_id == hosts.c.id))
    _sum(connection, FLEET, _FLEET, of_hosts, (MINUTE_S, MINUTE_S), (since, until))


def widen(connection: sa.Connection, since: int, until: int) -> None:
    """Quarters of an hour of all subjects, from their minutes."""
    span, widths = (since, until), (MINUTE_S, QUARTER_S)
    of_cards = gpus.join(history, sa.and_(history.c.scope == CARD, history.c.subject_id == gpus.c.id))
    _sum(connection, CARD, gpus.c.id, of_cards, widths, span)
    of_hosts = hosts.join(history, sa.and_(history.c.scope == HOST, history.c.subject_id == hosts.c.id))
    _sum(connection, HOST, hosts.c.id, of_hosts, widths, span)
    of_fleet = history.select().where(history.c.scope == FLEET, history.c.subject_id == FLEET_ID).subquery()
    _sum(connection, FLEET, _FLEET, of_fleet, widths, span, of_fleet)


def _sum(
    connection: sa.Connection,
    scope: int,
    subject: sa.ColumnElement[Any],
    source: sa.FromClause,
    widths: tuple[int, int],
    span: tuple[int, int],
    rows: sa.FromClause = history,
) -> None:
    """Puts buckets that are sums of others, in place of those that are there. widths: of those others, and of these."""
    narrow, wide = widths
    in_span = [rows.c.width_s == narrow, rows.c.ts >= span[0], rows.c.ts < span[1]]
    step = rows.c.ts if narrow == wide else rows.c.ts - rows.c.ts % sa.literal_column(str(wide))
    until_ms = (rows.c.ts - step) * 1000 + rows.c.until_ms
    # Of one subject over time its cards are the most that it had; of several at one time, all of theirs.
    cards = sa.func.sum(rows.c.cards) if narrow == wide else sa.func.max(rows.c.cards)
    made = (
        sa.select(
            sa.literal_column(str(scope)),
            subject,
            sa.literal_column(str(wide)),
            step,
            sa.func.sum(rows.c.n),
            sa.func.max(until_ms),
            cards,
            sa.func.sum(rows.c.faults),
            sa.func.sum(rows.c.energy_j),
            *(stat_of(rows, name, stat) for name in FIELDS for stat in STATS),
        )
        .select_from(source)
        .where(*in_span)
        .group_by(*([step] if scope == FLEET else [subject, step]))
    )
    for found in connection.execute(made).partitions(_ROWS_AT_A_TIME):
        _put(connection, [tuple(_plain(value) for value in row) for row in found])


def stat_of(rows: sa.FromClause, name: str, stat: str) -> sa.ColumnElement[Any]:
    """A field's mean, min or max over buckets; means by the number of samples."""
    column = rows.c[f"{name}_{stat}"]
    if stat != "mean":
        return sa.func.min(column) if stat == "min" else sa.func.max(column)
    told = sa.func.sum(sa.case((column.is_not(None), rows.c.n)))
    weighed = sa.func.sum(column * sa.cast(rows.c.n, sa.Double)) / told
    return sa.cast(sa.func.round(weighed), sa.BigInteger)


def _plain(value: Any) -> Any:
    """PostgreSQL's sums of whole numbers are Decimals."""
    return int(value) if isinstance(value, Decimal) else value


def remake(connection: sa.Connection, gpu_ids: Sequence[int], minutes: Sequence[int]) -> None:
    """Makes minutes of these cards again, and all that was made of those."""
    for ts in minutes:
        _remake(connection, gpu_ids, ts)
    for begin in sorted({ts - ts % QUARTER_S for ts in minutes}):
        _widen_again(connection, begin)


def _widen_again(connection: sa.Connection, ts: int, unless_marked: bool = False) -> None:
    """Makes the quarter of a minute again where it was made. unless_marked: not while other minutes of it wait."""
    begin = ts - ts % QUARTER_S
    if not (state(connection, MINUTES_GONE) or 0) <= begin < (state(connection, QUARTERS) or 0):
        return
    if unless_marked:
        marks = sa.select(history_late.c.ts).where(
            history_late.c.ts >= begin, history_late.c.ts < begin + QUARTER_S
        )
        if connection.execute(marks.limit(1)).first() is not None:
            return
    widen(connection, begin, begin + QUARTER_S)


def _remake(connection: sa.Connection, gpu_ids: Sequence[int], ts: int) -> None:
    if ts >= (state(connection, SAMPLES_GONE) or 0):
        made = raw.buckets(connection, gpu_ids, ts, ts + MINUTE_S, MINUTE_S)
        _put(connection, [one.row(CARD, MINUTE_S) for one in made])
    else:
        if ts >= (state(connection, MINUTES_GONE) or 0):
            _add(connection, gpu_ids, ts)
        for some in reads.chunks(gpu_ids):
            gone = samples.delete().where(samples.c.gpu_id.in_(some))
            connection.execute(gone.where(samples.c.ts >= ts, samples.c.ts < ts + MINUTE_S))
    combine(connection, ts, ts + MINUTE_S)


def _add(connection: sa.Connection, gpu_ids: Sequence[int], ts: int) -> None:
    """Adds samples that came when all others of their minute were gone: those that are newer than what was counted."""
    known = {
        one.subject_id: one for one in read_buckets(connection, CARD, gpu_ids, MINUTE_S, ts, ts + MINUTE_S)
    }
    for gpu_id in gpu_ids:
        there = known.get(gpu_id)
        since = ts if there is None else ts + (there.until_ms + 1) / 1000
        for one in raw.buckets(connection, [gpu_id], since, ts + MINUTE_S, MINUTE_S):
            both = one if there is None else merged([there, one])
            _put(connection, [both.row(CARD, MINUTE_S)])


def _at_a_time(begin: int, end: int) -> int:
    """Cards of which so much time is read in one statement."""
    return max(10, CARDS_AT_A_TIME * MINUTE_S // (end - begin))


def _first_sample(connection: sa.Connection, after: int | None, default: int) -> int:
    """The minute of the first sample from `after` on; default: where there is none."""
    query = sa.select(sa.func.min(samples.c.ts)).where(samples.c.gpu_id == gpus.c.id)
    if after is not None:
        query = query.where(samples.c.ts >= after)
    first = connection.execute(sa.select(sa.func.min(query.scalar_subquery())).select_from(gpus)).scalar()
    if not isinstance(first, int | float):
        return default
    return max(after or 0, min(default, int(first // MINUTE_S) * MINUTE_S))


def _first_minute(connection: sa.Connection, after: int | None, default: int) -> int:
    """The quarter of an hour of the fleet's first minute from `after` on."""
    query = sa.select(sa.func.min(history.c.ts)).where(
        history.c.scope == FLEET, history.c.subject_id == FLEET_ID, history.c.width_s == MINUTE_S
    )
    first = connection.execute(query if after is None else query.where(history.c.ts >= after)).scalar()
    begin = first if isinstance(first, int) else default
    return begin - begin % QUARTER_S
