"""Attempts are opened: the cards are looked at again, leased, and the job moved, or nothing is changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.identity import derived_uuid
from jobs.state import Code, Event, JobState, after
from orchestrator.store.engine.bulk import BulkInsert, next_ids
from orchestrator.store.engine.database import Database
from orchestrator.store.jobs.dependencies import NOT_WAITING
from orchestrator.store.requests import Note, Start
from orchestrator.store.schema.column_types import clean_text, to_json
from orchestrator.store.schema.tables import attempts, events, gpus, hosts, jobs, leases

_IDS: sa.BindParameter[int] = sa.bindparam("ids", expanding=True)
_CARDS = (
    sa.select(gpus.c.id, gpus.c.host_id, gpus.c.memory_bytes, hosts.c.name)
    .select_from(gpus.join(hosts))
    .where(gpus.c.id.in_(_IDS), gpus.c.present, gpus.c.fault.is_(None), sa.not_(hosts.c.drained))
)
_HELD = sa.select(leases.c.gpu_id, leases.c.exclusive, leases.c.memory_bytes).where(
    leases.c.gpu_id.in_(_IDS), leases.c.released_at.is_(None)
)
# Other transactions that want to move one of these jobs wait, in the order of ids, until ours ends.
_READY = (
    sa.select(jobs.c.id, jobs.c.revision)
    .where(jobs.c.id.in_(_IDS), jobs.c.state == JobState.QUEUED, jobs.c.cancel_requested_at.is_(None))
    .where(NOT_WAITING, jobs.c.held_at.is_(None))
    .order_by(jobs.c.id)
    .with_for_update(key_share=True)
)
_UNDRAINED = sa.select(hosts.c.id, hosts.c.name).where(sa.not_(hosts.c.drained))
_STEP_HOSTS = (
    sa.select(attempts.c.host_id)
    .select_from(attempts.join(jobs))
    .where(attempts.c.outcome.is_(None), jobs.c.step_of.is_not(None))
)
_LAST = (
    sa.select(attempts.c.job_id, sa.func.max(attempts.c.number))
    .where(attempts.c.job_id.in_(_IDS))
    .group_by(attempts.c.job_id)
)
_MOVE = (
    jobs.update()
    .where(jobs.c.id == sa.bindparam("job"), jobs.c.state == JobState.QUEUED)
    .values(
        state=after(JobState.QUEUED, Event.STARTED),
        reason_code=Code.STARTING,
        reason_text=sa.bindparam("text"),
        reason_figures={},
        started_at=sa.func.coalesce(jobs.c.started_at, sa.bindparam("now", type_=sa.Double)),
        not_before=None,
    )
)
_insert_attempts = BulkInsert(
    attempts,
    ["id", "job_id", "number", "host_id", "rung", "projection", "basis", "opened_at", "log_bytes", "uuid"],
)
_insert_leases = BulkInsert(leases, ["attempt_id", "gpu_id", "rank", "exclusive", "memory_bytes"])
_insert_events = BulkInsert(events, ["ts", "job_id", "attempt_id", "host_id", "kind", "text", "data"])


@dataclass
class _Card:
    """A usable card. left: bytes that are not promised; exclusive: somebody has it alone; held: somebody has it."""

    host_id: int
    host: str
    left: int
    held: bool = False
    exclusive: bool = False

    def takes(self, promised: int, shared: bool) -> bool:
        return not self.exclusive and promised <= self.left if shared else not self.held

    def give(self, promised: int, shared: bool) -> None:
        self.held, self.exclusive, self.left = True, not shared, self.left - promised


class StartStore(Database):
    """Starts of attempts."""

    def start_attempts(self, starts: Sequence[Start], now: float) -> dict[int, int]:
        """Moves queued jobs to running, opens their next attempts and leases the cards. Attempt ids by job id.

        Under one commit, and each by itself: left out, with nothing changed, is a start of which anything moved
        since it was planned. The job is not queued, was cancelled, changed or held, or waits for another; a card is
        taken, gone or faulty, has too little left to share; a host is drained. A dozen statements, whatever the
        number.
        """
        if not starts:
            return {}
        with self.write() as connection:
            gpu_ids = {gpu_id for start in starts for gpu_id in start.gpu_ids}
            _lock(connection, gpu_ids)
            cards = _cards(connection, gpu_ids)
            ready: dict[int, int] = {}
            for ids in reads.chunks({start.job_id for start in starts}):
                ready |= dict(connection.execute(_READY, {"ids": ids}).all())
            good = []
            for start in sorted(starts, key=lambda start: start.job_id):
                if ready.get(start.job_id) == start.revision and _fits(start, cards):
                    del ready[start.job_id]
                    good.append(start)
            names = {
                start.job_id: ", ".join(dict.fromkeys(cards[gpu_id].host for gpu_id in start.gpu_ids))
                for start in good
            }
            return _open(connection, good, names, now)

    def start_steps(self, starts: Sequence[Start], now: float) -> dict[int, int]:
        """The same of steps, which take no card: one at a time on a host that is not drained."""
        if not starts:
            return {}
        with self.write() as connection:
            ready: dict[int, int] = {}
            for ids in reads.chunks({start.job_id for start in starts}):
                ready |= dict(connection.execute(_READY, {"ids": ids}).all())
            names = dict(connection.execute(_UNDRAINED).all())
            busy = set(connection.execute(_STEP_HOSTS).scalars())
            good = []
            for start in sorted(starts, key=lambda start: start.job_id):
                free = start.host_id in names and start.host_id not in busy
                if free and ready.get(start.job_id) == start.revision:
                    busy.add(start.host_id)
                    good.append(start)
            return _open(connection, good, {start.job_id: names[start.host_id] for start in good}, now)

    def mark_dispatched(self, attempt_ids: Collection[int], now: float) -> set[int]:
        """These attempts were handed to Ray. The ids of those that are open and were not handed over before."""
        waits = (
            sa.select(attempts.c.id, attempts.c.job_id)
            .where(attempts.c.id.in_(_IDS), attempts.c.outcome.is_(None), attempts.c.dispatched_at.is_(None))
            .order_by(attempts.c.id)
            .with_for_update(key_share=True)
        )
        update = attempts.update().where(attempts.c.id.in_(_IDS)).values(dispatched_at=now)
        if not attempt_ids:
            return set()
        with self.write() as connection:
            found: list[Any] = []
            for ids in reads.chunks(attempt_ids):
                found += connection.execute(waits, {"ids": ids})
            for ids in reads.chunks([row.id for row in found]):
                connection.execute(update, {"ids": ids})
            said = (str(Note.DISPATCHED), "handed to the host", "{}")
            _insert_events(connection, [(now, row.job_id, row.id, None, *said) for row in found])
        return {row.id for row in found}


def _lock(connection: sa.Connection, gpu_ids: Collection[int]) -> None:
    """Another transaction that wants one of these cards waits here, and then sees our leases.

    In one order, and before any job, as a report takes them; jobs come in the order of their ids: two can't deadlock.
    """
    if connection.dialect.name == "sqlite":  # which has one writer
        return
    mine = sa.select(gpus.c.id).where(gpus.c.id.in_(gpu_ids)).order_by(gpus.c.uuid)
    connection.execute(mine.with_for_update(key_share=True))


def _cards(connection: sa.Connection, gpu_ids: Collection[int]) -> dict[int, _Card]:
    """The usable ones by id, as they are now."""
    found: dict[int, _Card] = {}
    for ids in reads.chunks(gpu_ids):
        for gpu_id, host_id, memory_bytes, host in connection.execute(_CARDS, {"ids": ids}):
            found[gpu_id] = _Card(host_id, host, memory_bytes)
        for gpu_id, exclusive, memory_bytes in connection.execute(_HELD, {"ids": ids}):
            if gpu_id in found:
                found[gpu_id].give(memory_bytes, not exclusive)
    return found


def _fits(start: Start, cards: Mapping[int, _Card]) -> bool:
    """Whether its cards are available, which it then has."""
    mine = [cards.get(gpu_id) for gpu_id in start.gpu_ids]
    if not mine or len(set(start.gpu_ids)) < len(mine):
        return False
    promised = _promised(start)
    places = _places(start)
    if places[0] != start.host_id:
        return False
    for card, host_id in zip(mine, places, strict=True):
        if card is None or card.host_id != host_id or not card.takes(promised, start.shared):
            return False
    for card in mine:
        assert card is not None
        card.give(promised, start.shared)
    return True


def _places(start: Start) -> tuple[int, ...]:
    """The host of each card; of a step, which takes none, its host."""
    return start.host_ids or (start.host_id,) * max(1, len(start.gpu_ids))


def _promised(start: Start) -> int:
    return int(start.projection.get("upper_bytes", 0))


def _uuids(connection: sa.Connection, starts: Sequence[Start]) -> dict[int, str]:
    """By job the uuid of its attempt, which says whether what that writes will bear it: an older agent's does not."""
    named = {
        row.id: row.info.get("named", False)
        for ids in reads.chunks({host_id for start in starts for host_id in _places(start)})
        for row in connection.execute(sa.select(hosts.c.id, hosts.c.info).where(hosts.c.id.in_(ids)))
    }
    return {
        start.job_id: start.uuid
        if all(named[host_id] for host_id in _places(start))
        else derived_uuid(start.uuid, "of an older agent")
        for start in starts
    }


def _open(
    connection: sa.Connection, starts: Sequence[Start], names: Mapping[int, str], now: float
) -> dict[int, int]:
    """Writes what starts: the ids of the attempts by job id. names: of the hosts, by job id."""
    if not starts:
        return {}
    moved = [{"job": job_id, "text": f"starting on {name}", "now": now} for job_id, name in names.items()]
    connection.execute(_MOVE, moved)
    last = {
        job_id: number
        for ids in reads.chunks(names)
        for job_id, number in connection.execute(_LAST, {"ids": ids})
    }
    opened = dict(zip(names, next_ids(connection, attempts, len(starts)), strict=True))
    rows, held, notes = [], [], []
    uuids = _uuids(connection, starts)
    for start in starts:
        attempt_id, number, name = opened[start.job_id], last.get(start.job_id, 0) + 1, names[start.job_id]
        rows.append(
            (
                *(attempt_id, start.job_id, number, start.host_id, to_json(dict(start.rung))),
                *(
                    to_json(dict(start.projection)),
                    None if start.basis is None else to_json(dict(start.basis)),
                ),
                *(now, 0, uuids[start.job_id]),
            )
        )
        held += [
            (attempt_id, gpu_id, rank, not start.shared, _promised(start))
            for rank, gpu_id in enumerate(start.gpu_ids)
        ]
        data = {"number": number, "host": name, "gpus": start.gpu_ids}
        data |= {"shared": True} if start.shared else {}
        text = clean_text(f"attempt {number} opened on {name}")
        said = (str(Event.STARTED), text, to_json(data))
        notes.append((now, start.job_id, attempt_id, start.host_id, *said))
    _insert_attempts(connection, rows)
    _insert_leases(connection, held)
    _insert_events(connection, notes)
    return opened
