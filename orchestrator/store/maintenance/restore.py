"""A backup goes back into place, without what the write-ahead log of the other database would add to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

from jobs.errors import Unavailable, UsageError
from orchestrator.store.engine.database import parse_url
from orchestrator.store.maintenance.epoch import mark_copy
from workers.durable import take

_BESIDE = ("", "-wal", "-shm")


def restore(url: str, path: Path) -> Path | None:
    """Puts a copy that `backup` made in place of a SQLite database. Returns where that one is kept, if there was one.

    Raises UsageError where the copy is none, Conflict while a server runs on the home of the database, Unavailable
    where it can't be written.
    """
    parsed = parse_url(url)
    if parsed.drivername != "sqlite":
        raise UsageError(
            "a PostgreSQL database is restored with `pg_restore --clean --if-exists --single-transaction`, while no "
            "server runs; the next server that starts notices"
        )
    target = Path(parsed.database or "")
    _refuse_what_is_no_database(path)
    with _no_server(target.parent):
        mark = uuid.uuid4().hex[:8]
        staged, kept = (
            target.with_name(f".{target.name}.{mark}"),
            target.with_name(f"{target.name}.before-{mark}"),
        )
        try:
            shutil.copyfile(path, staged)
            os.chmod(staged, 0o600)
            with contextlib.closing(sqlite3.connect(staged)) as copy, copy:
                mark_copy(copy)
            with staged.open("rb") as file:
                os.fsync(file.fileno())
            was_there = target.exists()
            for end in _BESIDE:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(f"{target}{end}", f"{kept}{end}")
            os.rename(staged, target)
        except OSError as error:
            raise Unavailable(f"{target} can't be restored: {error.strerror}") from None
        finally:
            staged.unlink(missing_ok=True)
    return kept if was_there else None


def _refuse_what_is_no_database(path: Path) -> None:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as copy:
            (said,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
            copy.execute("SELECT uuid FROM yard").fetchone()
    except sqlite3.Error as error:
        raise UsageError(f"{path} is no backup of a tuneyard database: {error}") from None
    if said != "ok":
        raise UsageError(f"{path} is damaged: {said}")


@contextlib.contextmanager
def _no_server(home: Path) -> Iterator[None]:
    """Holds the lock of a server of this home (orchestrator.server.serve.only_one). Raises Conflict where one runs."""
    lock = home / "run" / "server.lock"
    if not lock.parent.is_dir():
        yield
        return
    with take(lock, f"a server runs on {home}: stop it first (`tuneyard down`)"):
        yield
