"""One database, SQLite or PostgreSQL alike: short write transactions, and reads that see one instant."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from operator import methodcaller
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from jobs.errors import Unavailable, UsageError
from orchestrator.store.engine.fair_lock import InTurn
from orchestrator.store.engine.text import MARKED
from orchestrator.store.engine.timeouts import ARGUMENTS, CONNECT_S, POOL_S, Watch, refuse_broken

_TOO_LARGE = f"a number is too large: the database holds whole numbers up to {2**63 - 1}"
LOCK_WAIT_S = 15.0  # for another process that writes to the same SQLite file


class Stale(Exception):
    """What this transaction stood on has moved: undo it. Never leaves the store."""


def parse_url(url: str) -> sa.URL:
    """The database that url names, with the driver we use. Raises UsageError."""
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        raise UsageError(
            f"{url!r} is not a database URL; write sqlite:////path/tuneyard.db or postgresql://user@host/name"
        ) from None
    drivers = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
    driver = drivers.get(parsed.drivername.partition("+")[0])
    if driver is None:
        raise UsageError(
            f"{parsed.drivername} is not a database that tuneyard can use; use sqlite or postgresql"
        )
    if driver == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise UsageError("a SQLite database needs a file; write sqlite:////path/tuneyard.db")
    return parsed.set(drivername=driver)


def shown(url: sa.URL) -> str:
    """url for people, without its password."""
    return url.database or "" if url.drivername == "sqlite" else url.render_as_string(hide_password=True)


def make_engine(url: sa.URL, patient: bool = False) -> sa.Engine:
    """An engine on url. Nothing is opened yet, but a SQLite file is made, readable by its owner alone.

    patient: for what may take minutes, such as a migration; else a caller that waits for PostgreSQL is told soon.
    """
    if url.drivername != "sqlite":
        given = {"connect_timeout": CONNECT_S} if patient else ARGUMENTS
        known = {name: value for name, value in given.items() if name not in url.query}
        engine = sa.create_engine(
            url, connect_args=known, pool_size=8, max_overflow=32, pool_timeout=30.0 if patient else POOL_S
        )
        sa.event.listen(engine, "checkout", refuse_broken)
        return engine
    try:
        os.close(os.open(Path(url.database or ""), os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise Unavailable(f"the database {url.database} can't be opened: {error.strerror}") from None
    engine = sa.create_engine(
        url, connect_args={"timeout": LOCK_WAIT_S, "check_same_thread": False}, pool_size=8, max_overflow=32
    )
    sa.event.listen(engine, "connect", _sqlite_connect)
    sa.event.listen(engine, "begin", _sqlite_begin)
    return engine


def _sqlite_connect(connection: Any, _record: Any) -> None:
    """We begin transactions ourselves: sqlite3 begins late, and fails where another writer came between.

    Text that is no UTF-8 is read all the same (see is_text), else the driver refuses all rows beside it.
    """
    connection.isolation_level = None
    connection.text_factory = methodcaller("decode", "utf-8", MARKED)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _sqlite_begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    # Straight to sqlite3: through SQLAlchemy, this alone would cost a tenth of a submission.
    driver: Any = connection.connection.dbapi_connection
    driver.execute("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def reachable(url: sa.URL) -> Iterator[None]:
    """Turns a database that is away, locked, full or not one at all into Unavailable."""
    try:
        yield
    except PoolTimeout:
        raise Unavailable(f"the database {shown(url)} is busy: all its connections are in use") from None
    except sqlite3.Error as error:  # from BEGIN, which does not go through SQLAlchemy
        raise Unavailable(f"the database {shown(url)} is not available: {error}") from error
    except IntegrityError:
        raise
    except OverflowError:  # from SQLite's driver
        raise UsageError(_TOO_LARGE) from None
    except DataError as error:
        if "out of range" not in str(error.orig):
            raise
        raise UsageError(_TOO_LARGE) from error
    except DBAPIError as error:
        if not isinstance(error, DatabaseError) and not error.connection_invalidated:
            raise
        raise Unavailable(f"the database {shown(url)} is not available: {error.orig}") from error


class Database:
    """What every part of the store stands on."""

    def __init__(self, url: str, patient: bool = False) -> None:
        """patient: as make_engine() has it."""
        self.url = parse_url(url)
        self._engine = make_engine(self.url, patient)
        self._watch = None if patient or self.url.drivername == "sqlite" else Watch()
        self.is_sqlite = self.url.drivername == "sqlite"
        self._admit: Callable[[sa.Connection], None] | None = None  # see orchestrator.store.leader_lease
        self._writer = self._engine.execution_options(writes=True)
        self._reader = (
            self._engine
            if self.is_sqlite
            else self._engine.execution_options(isolation_level="REPEATABLE READ")
        )
        # SQLite waits for another writer by sleeping; threads of one process queue here instead.
        self._one_writer: AbstractContextManager[Any] = InTurn() if self.is_sqlite else nullcontext()
        # SQLite's writer, between two transactions; a list, for the copies of a store share it (leader_lease.py).
        self._kept: list[sa.Connection] = []
        self.wrote_at: float | None = None  # when something was written last, on time.monotonic()

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()
        while self._kept:
            self._kept.pop().close()
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Reads that all see the same instant."""
        with (
            reachable(self.url),
            self._reader.connect() as connection,
            self._watched(connection),
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction: all of it or nothing, durable when the block ends."""
        with (
            reachable(self.url),
            self._one_writer,
            self._writing() as connection,
            self._watched(connection),
            connection.begin(),
        ):
            if self._admit is not None:
                self._admit(connection)
            yield connection
        self.wrote_at = time.monotonic()

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A connection to write over. SQLite has one writer at a time, and its connection is kept: to take one from the
        pool and give it back costs as much as an insert. After a fault, whatever it was, the next one is new.
        """
        if not self.is_sqlite:
            with self._writer.connect() as connection:
                yield connection
            return
        connection = self._kept.pop() if self._kept else self._writer.connect()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._kept.append(connection)

    def _watched(self, connection: sa.Connection) -> AbstractContextManager[None]:
        return nullcontext() if self._watch is None else self._watch.over(connection)

    def upsert(self, table: sa.Table) -> Any:
        """An INSERT of this database that has on_conflict_do_nothing and on_conflict_do_update."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)
