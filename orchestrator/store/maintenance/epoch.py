"""Which database this is, and since when: a new epoch begins as it goes back to a backup.

Row ids are given again then. Hosts join again, and hand over nothing that this database does not know.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

import orchestrator.store.reads as reads
from jobs.identity import Aside, AttemptKey, JobKey
from jobs.messages.reports import HostReport
from orchestrator.store.engine.database import Database
from orchestrator.store.leader_lease import forget_leader
from orchestrator.store.requests import Note
from orchestrator.store.schema.tables import attempts, hosts, jobs, yard

WRITTEN_S = 10.0  # what was written so long ago says nothing of now
COPY = "a backup"  # the place of a copy that no server has opened yet
_WHERE_IN_POSTGRES = (
    "SELECT (SELECT system_identifier FROM pg_control_system()), d.oid, 'yard'::regclass::oid "
    "FROM pg_database d WHERE d.datname = current_database()"
)
_HOSTS = (
    sa.select(hosts.c.id, hosts.c.name, yard.c.epoch, yard.c.restores)
    .select_from(hosts.join(yard, sa.true()))
    .where(hosts.c.id.in_(sa.bindparam("ids", expanding=True)))
)


class EpochStore(Database):
    """The identity of the database, and of what hosts have of it."""

    def yard(self) -> str:
        """Which database this is: a uuid, made with it. A backup of it is the same."""
        with self.read() as connection:
            found: str = connection.execute(sa.select(yard.c.uuid)).scalar_one()
        return found

    def epoch(self) -> int:
        """Since when ids are given only once, in Unix milliseconds."""
        with self.read() as connection:
            found: int = connection.execute(sa.select(yard.c.epoch)).scalar_one()
        return found

    def restores(self) -> int:
        """How often the database went back to a backup, as far as servers noticed."""
        with self.read() as connection:
            found: int = connection.execute(sa.select(yard.c.restores)).scalar_one()
        return found

    def check_writable(self) -> None:
        """Writes, unless something was written of late. Raises Unavailable where the database takes nothing."""
        if self.wrote_at is not None and time.monotonic() - self.wrote_at < WRITTEN_S:
            return
        with self.write() as connection:
            # Nothing is changed by both together, and yet they reach the disk: that of one row alone would not.
            for change in (1, -1):
                connection.execute(yard.update().values(restores=yard.c.restores + change))

    def begin_epoch(self, now: float) -> bool:
        """For a server that starts: begins a new epoch where the database is a copy. Returns whether it is.

        A copy that `backup` made says so itself, a PostgreSQL dump comes back with other numbers of its own (oids),
        a SQLite file as another one.
        """
        with self.write() as connection:
            found = connection.execute(sa.select(yard)).one()
            place = _place(connection, self.url)
            if found.place == place:
                return False
            values: dict[str, Any] = {"place": place}
            if restored := bool(found.place):
                values |= {"epoch": max(int(now * 1000), found.epoch + 1), "restores": found.restores + 1}
                text = "the database went back to a backup, or was moved: what hosts have from after it is set aside"
                data = {"epoch": values["epoch"], "before": found.epoch}
                forget_leader(connection)
                reads.note(connection, now, Note.RESTORED, text, data=data)
            connection.execute(yard.update().values(values))
        return restored

    def strange_attempts(self, here: Sequence[AttemptKey]) -> list[AttemptKey]:
        """Of the attempts with a folder on a host those that the database does not know."""
        rows: dict[int, Any] = {}
        columns = (attempts.c.id, attempts.c.job_id, attempts.c.number, attempts.c.uuid)
        with self.read() as connection:
            for ids in reads.chunks({one.attempt_id for one in here}):
                found = connection.execute(sa.select(*columns).where(attempts.c.id.in_(ids)))
                rows |= {row.id: row for row in found.all()}
        return [one for one in here if not _is_of(one, rows.get(one.attempt_id))]

    def strange_jobs(self, here: Sequence[JobKey]) -> list[JobKey]:
        """Of the jobs with a folder on a host those that the database does not know.

        A folder without a uuid is of a job that had attempts whose files bear none.
        """
        uuids: dict[int, str] = {}
        unnamed: set[int] = set()
        with self.read() as connection:
            for ids in reads.chunks({one.job_id for one in here}):
                query = sa.select(jobs.c.id, jobs.c.uuid).where(jobs.c.id.in_(ids))
                uuids |= dict(connection.execute(query).all())
            for ids in reads.chunks({one.job_id for one in here if not one.job_uuid}):
                unnamed |= reads.unnamed_attempts(connection, ids).keys()
        return [
            one
            for one in here
            if (one.job_uuid != uuids.get(one.job_id) if one.job_uuid else one.job_id not in unnamed)
        ]

    def unnamed_attempts(self, job_ids: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """By job, the ids of its attempts whose files bear no uuid (jobs.identity); those without any are left out."""
        found: dict[int, tuple[int, ...]] = {}
        with self.read() as connection:
            for ids in reads.chunks(job_ids):
                found |= reads.unnamed_attempts(connection, ids)
        return found


def _is_of(one: AttemptKey, row: Any) -> bool:
    """Whether a row of attempts, or None, is of the attempt that a folder is of."""
    if row is None:
        return False
    return bool(one.uuid and one.uuid == row.uuid) or one.is_of(AttemptKey.of(row))


def misplaced(connection: sa.Connection, reports: Sequence[tuple[int, HostReport]]) -> set[int]:
    """The ids of hosts whose report is not for this database as it is now: they joined before a restore."""
    known: dict[int, Any] = {}
    for ids in reads.chunks({host_id for host_id, _ in reports}):
        known |= {row.id: row for row in connection.execute(_HOSTS, {"ids": ids})}
    return {
        host_id
        for host_id, report in reports
        if (now := known.get(host_id)) is not None
        and (
            (report.epoch != now.epoch if report.epoch else now.restores) or report.host not in ("", now.name)
        )
    }


def note_aside(connection: sa.Connection, reports: Sequence[tuple[int, HostReport]], now: float) -> None:
    """What hosts have set aside, with an event for each thing that is new."""
    told = {host_id: report.aside for host_id, report in reports if report.aside is not None}
    if not told:
        return
    query = sa.select(hosts.c.id, hosts.c.name, hosts.c.aside).where(hosts.c.id.in_(told))
    for row in connection.execute(query).all():
        known = {one["name"] for one in row.aside or ()}
        found: Sequence[Aside] = told[row.id] or ()
        if known == {one.name for one in found}:
            continue
        mentioned = {one.job_id for one in found if one.job_id is not None}
        there = set(connection.execute(sa.select(jobs.c.id).where(jobs.c.id.in_(mentioned))).scalars())
        for one in found:
            if one.name not in known:
                job_id = one.job_id if one.job_id in there else None
                data = {"folder": one.name, "host": row.name}
                text = f"set aside on {row.name}: {one.text}"
                reads.note(connection, now, Note.SET_ASIDE, text, job_id=job_id, host_id=row.id, data=data)
        said = [one.model_dump(mode="json") for one in found]
        connection.execute(hosts.update().where(hosts.c.id == row.id).values(aside=said))


def mark_copy(connection: Any) -> None:
    """Have a SQLite copy (sqlite3's connection) say that it is one. Of a version without epochs it can't."""
    if any(column[1] == "place" for column in connection.execute("PRAGMA table_info(yard)")):
        connection.execute("UPDATE yard SET place = ?", (COPY,))


def _place(connection: sa.Connection, url: sa.URL) -> str:
    """Where this database is: another after a restore."""
    if url.drivername == "sqlite":
        return f"file {os.stat(url.database or '').st_ino}"
    cluster, database, table = connection.exec_driver_sql(_WHERE_IN_POSTGRES).one()
    return f"cluster {cluster} database {database} table {table}"
