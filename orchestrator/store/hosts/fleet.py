"""Hosts and cards in the database: who joined, what they have, what is drained."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.errors import Conflict, NotFound
from jobs.messages.reports import GpuInfo, HostInfo
from jobs.state import JobState
from orchestrator.scheduler.usage import HALF_LIFE_S
from orchestrator.store.attempts.cleared_cards import cleared
from orchestrator.store.attempts.host_faults import NO_FAULT
from orchestrator.store.engine.database import Database
from orchestrator.store.hosts.card_news import note_back, note_gone
from orchestrator.store.jobs.dependencies import unmet_links
from orchestrator.store.projects import project_rows
from orchestrator.store.requests import Actor, Note
from orchestrator.store.rows import FleetRows, GpuRow, HostRow
from orchestrator.store.schema.tables import attempts, gpus, hosts, jobs
from orchestrator.store.usage import Usage

NAME_HELD_S = 20.0  # since a host was heard of: until then nobody else takes its name


class FleetStore(Database):
    """Hosts and cards."""

    def join_host(
        self, info: HostInfo, now: float, silent_s: Callable[[int, float], float] | None = None
    ) -> int:
        """Notes a host, or what a known one has now, and returns its id. The same name is the same host.

        A card is known by its uuid: it may move to another host. Cards that info does not list are no longer
        present. Raises Conflict where a host of that name on another machine, or with another home, was heard
        of less than NAME_HELD_S ago: the two would end each other's trainers. silent_s: how long the host of an
        id that was heard of last at a time has been silent, None: since then.
        """
        fresh = {
            "info": info.model_dump(mode="json"),
            "last_seen": now,
            "ray_ready": False,
            "boot": None,
            **NO_FAULT,
        }
        new = {"name": info.name, "joined_at": now, "drained": False, "running": []}
        upsert = self.upsert(hosts).values(**new, **fresh)
        upsert = upsert.on_conflict_do_update(index_elements=[hosts.c.name], set_=fresh)
        with self.write() as connection:
            _refuse_namesake(connection, info, silent_s or (lambda _, seen_at: now - seen_at))
            host_id: int = connection.execute(upsert.returning(hosts.c.id)).scalar_one()
            self._have_gpus(connection, {host_id: info.gpus}, now)
            reads.note(connection, now, Note.HOST_JOINED, f"{info.name} joined", host_id=host_id)
        return host_id

    def set_drained(
        self, host_id: int, drained: bool, now: float, actor: Actor | None = None, why: str = ""
    ) -> None:
        """Takes a host out of planning, or back in; what runs there goes on. why: for the event. Raises NotFound."""
        with self.write() as connection:
            update = hosts.update().where(hosts.c.id == host_id, hosts.c.drained != drained)
            if connection.execute(update.values(drained=drained)).rowcount:
                kind, text = (
                    (Note.HOST_DRAINED, "drained") if drained else (Note.HOST_RESUMED, "takes work again")
                )
                text += f": {why}" if why else ""
                reads.note(connection, now, kind, text, host_id=host_id, actor=actor)
            else:
                _one_host(connection, hosts.c.id == host_id, str(host_id))

    def host(self, host_id: int) -> HostRow:
        """The host of that id. Raises NotFound."""
        with self.read() as connection:
            return _one_host(connection, hosts.c.id == host_id, str(host_id))

    def find_host(self, text: str) -> HostRow:
        """The host of that name, or id. Raises NotFound."""
        try:
            return self.host_by_name(text)
        except NotFound:
            if text.isascii() and text.isdigit() and len(text) < 19:
                return self.host(int(text))
            raise

    def host_by_name(self, name: str) -> HostRow:
        """The host of that name. Raises NotFound."""
        with self.read() as connection:
            return _one_host(connection, hosts.c.name == name, repr(name))

    def hosts(self) -> list[HostRow]:
        """Every host that ever joined, by name."""
        with self.read() as connection:
            return reads.host_rows(connection)

    def gpus(self) -> list[GpuRow]:
        """Every card, by host and index, with the attempt that holds it."""
        with self.read() as connection:
            return reads.gpu_rows(connection)

    @cached_property
    def _usage(self) -> Usage:
        return Usage()

    def fleet_rows(
        self, limit: int = 10_000, now: float | None = None, half_life_s: float = HALF_LIFE_S
    ) -> FleetRows:
        """Hosts, cards, open attempts, and the first `limit` jobs of the queue, all at one instant.

        now: what usage is decayed to, by half in half_life_s; without, no usage is read.
        """
        running = sa.select(jobs).where(jobs.c.state == JobState.RUNNING).order_by(jobs.c.id)
        with self.read() as connection:
            tries = reads.attempt_rows(connection, attempts.c.outcome.is_(None))
            return FleetRows(
                hosts=reads.host_rows(connection),
                gpus=reads.gpu_rows(connection),
                queued=reads.queue_rows(connection, limit),
                attempts=tries,
                running=reads.job_rows(connection, running),
                progress=reads.latest_progress(connection, [attempt.id for attempt in tries]),
                links=unmet_links(connection),
                projects=project_rows(connection),
                attained=reads.attained(connection),
                usage=[] if now is None else self._usage.rows(connection, now, half_life_s),
                cleared={} if now is None else cleared(connection, now),
            )

    def _have_gpus(
        self,
        connection: sa.Connection,
        have: dict[int, Sequence[GpuInfo]],
        now: float,
        stored: Collection[Any] | None = None,
    ) -> bool:
        """Makes the cards of hosts what their reports say. Returns whether anything differed.

        stored: the rows of gpus on these hosts, where the caller has read them.
        """
        if stored is None:
            query = sa.select(gpus).where(gpus.c.host_id.in_(have))
            stored = connection.execute(query).all()
        known = {row.uuid: row for row in stored}
        wanted = {info.uuid: _card(info, host_id) for host_id, infos in have.items() for info in infos}
        changed = [
            dict(zip(_CARD, values, strict=True))
            for uuid, values in sorted(wanted.items())
            if uuid not in known or _stored_card(known[uuid]) != values
        ]
        if changed:
            note_back(connection, {one["uuid"]: one["host_id"] for one in changed}, now)
            insert = self.upsert(gpus)
            kept = {name: insert.excluded[name] for name in changed[0] if name != "uuid"}
            connection.execute(insert.on_conflict_do_update(index_elements=[gpus.c.uuid], set_=kept), changed)
        gone = sorted(row.id for uuid, row in known.items() if row.present and uuid not in wanted)
        if gone:
            connection.execute(gpus.update().where(gpus.c.id.in_(gone)).values(present=False))
            note_gone(connection, gone, now)
        return bool(changed or gone)


# What a report says of a card, every second. As tuples: compared at a fraction of what their names would cost.
_CARD = ("uuid", "host_id", "idx", "kind", "name", "memory_bytes", "fault", "present", "expandable")
_stored_card = attrgetter(*_CARD)


def _card(info: GpuInfo, host_id: int) -> tuple[Any, ...]:
    said = (info.uuid, host_id, info.index, info.kind, info.name, info.memory_bytes, info.fault)
    return (*said, True, info.expandable)


def _refuse_namesake(
    connection: sa.Connection, info: HostInfo, silent_s: Callable[[int, float], float]
) -> None:
    query = sa.select(hosts.c.id, hosts.c.info, hosts.c.last_seen).where(hosts.c.name == info.name)
    known = connection.execute(query).one_or_none()
    if known is None or (heard_s := silent_s(known.id, known.last_seen)) >= NAME_HELD_S:
        return
    held = HostInfo.model_validate(known.info)
    if (held.machine_id, held.home) != (info.machine_id, info.home):
        raise Conflict(
            f"name: {info.name} is the host at {held.home} on machine {held.machine_id}, heard of "
            f"{max(0.0, heard_s):.0f} s ago, and can't be the one at {info.home} on machine "
            f"{info.machine_id} too: choose another with --name"
        )


def _one_host(connection: sa.Connection, condition: sa.ColumnElement[bool], named: str) -> HostRow:
    found = reads.host_rows(connection, condition)
    if not found:
        raise NotFound(f"there is no host {named}; `tuneyard hosts` shows the hosts there are")
    return found[0]
