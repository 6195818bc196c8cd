"""The database's own state: its revision, upgrades, a check of what it holds, a backup."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from jobs.errors import SchemaMismatch, TuneyardError, Unavailable, UsageError
from migrations import revisions
from orchestrator.store.engine.database import Database, make_engine, parse_url, reachable, shown
from orchestrator.store.maintenance.audit import faults
from orchestrator.store.maintenance.epoch import mark_copy
from orchestrator.store.schema.tables import metadata


@dataclass(frozen=True)
class SchemaReport:
    """What check() found. revision: the database's, None when it is empty; head: what this tuneyard needs."""

    revision: str | None
    head: str
    faults: list[str]

    @property
    def ok(self) -> bool:
        return self.revision == self.head and not self.faults


def revision_of(connection: sa.Connection) -> str | None:
    """The database's revision; None where there is none."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return found


def require_current(connection: sa.Connection, url: sa.URL) -> None:
    """Raises SchemaMismatch unless the database is of the revision this tuneyard needs."""
    revision, known = revision_of(connection), revisions()
    if revision == known[-1]:
        return
    _refuse_newer(revision, known, url)
    was = "empty" if revision is None else f"of revision {revision}"
    raise SchemaMismatch(
        f"the database {shown(url)} is {was}, and this tuneyard needs revision {known[-1]}: "
        "run `tuneyard db upgrade`"
    )


def upgrade(url: str) -> str:
    """Brings the database to this tuneyard's revision, making it where it is empty. Returns the revision.

    Raises SchemaMismatch when a newer tuneyard made it, Unavailable.
    """
    parsed = parse_url(url)
    engine = make_engine(parsed, patient=True)
    try:
        with reachable(parsed):
            with engine.connect() as connection:
                revision, known = revision_of(connection), revisions()
            _refuse_newer(revision, known, parsed)
            if revision != known[-1]:
                _migrate(engine, known[-1])
    finally:
        engine.dispose()
    return known[-1]


def check(url: str) -> SchemaReport:
    """The database's revision, and everything in it that must not be (DESIGN, section 5). Changes nothing."""
    parsed = parse_url(url)
    if parsed.drivername == "sqlite" and not Path(parsed.database or "").exists():
        raise Unavailable(f"there is no database {parsed.database}; `tuneyard up` makes one")
    database = Database(url, patient=True)
    try:
        with database.read() as connection:
            revision, known = revision_of(connection), revisions()
            found = faults(connection) if revision == known[-1] else []
            if database.is_sqlite:
                found += [
                    f"SQLite: {row[0]}"
                    for row in connection.exec_driver_sql("PRAGMA integrity_check(20)")
                    if row[0] != "ok"
                ]
    finally:
        database.close()
    return SchemaReport(revision, known[-1], found)


def backup(url: str, path: str | os.PathLike[str]) -> None:
    """Copies the database, while it is in use, to a new file: SQLite's own, or pg_dump's custom format.

    Raises UsageError where the file is there already, Unavailable where it can't be written or pg_dump is
    missing.
    """
    parsed, target = parse_url(url), Path(path)
    if target.exists():
        raise UsageError(f"{target} exists already; a backup goes to a new file")
    if not target.parent.is_dir():
        raise UsageError(f"the folder {target.parent} does not exist")
    partial = target.with_name(f".{target.name}.part")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_CREAT | os.O_WRONLY, 0o600))  # it holds what the database holds
    try:
        _copy_sqlite(parsed, partial) if parsed.drivername == "sqlite" else _dump_postgres(parsed, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.rename(partial, target)
    except OSError as error:
        raise Unavailable(f"the backup {target} can't be written: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def _refuse_newer(revision: str | None, known: list[str], url: sa.URL) -> None:
    if revision is not None and revision not in known:
        raise SchemaMismatch(
            f"the database {shown(url)} is of revision {revision}, made by a newer tuneyard (this one knows "
            f"revisions up to {known[-1]}): install that one, or restore a backup"
        )


def _migrate(engine: sa.Engine, head: str) -> None:
    from migrations.run import migrate  # here, because alembic costs an idle server 0.4 s and its memory

    try:
        migrate(engine, metadata, head)
    except DatabaseError:
        with engine.connect() as connection:
            if revision_of(connection) != head:
                raise  # or else another process did the same upgrade just now


def _copy_sqlite(url: sa.URL, target: Path) -> None:
    source = Path(url.database or "")
    if not source.exists():
        raise Unavailable(f"there is no database {source}; `tuneyard up` makes one")
    try:
        with sqlite3.connect(source) as old, sqlite3.connect(target) as new:
            old.backup(new)
            mark_copy(new)
        new.close()
        old.close()
    except sqlite3.Error as error:
        raise Unavailable(f"the database {source} can't be copied: {error}") from None


def _dump_postgres(url: sa.URL, target: Path) -> None:
    command = shutil.which("pg_dump")
    if command is None:
        raise Unavailable(
            "pg_dump is not on this machine; install postgresql-client to back up a PostgreSQL database"
        )
    bare = url.set(drivername="postgresql", password=None).render_as_string()
    environment = dict(os.environ) | ({"PGPASSWORD": str(url.password)} if url.password else {})
    done = subprocess.run(
        [command, "--format=custom", f"--file={target}", f"--dbname={bare}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise TuneyardError(f"pg_dump failed: {done.stderr.strip()}")
