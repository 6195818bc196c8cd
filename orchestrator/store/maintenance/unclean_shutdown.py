"""A SQLite database that nobody closed is looked at before a server works with it."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from pathlib import Path

from jobs.errors import Unavailable
from orchestrator.store.engine.database import parse_url

log = logging.getLogger(__name__)

LOOK_S = 2.0  # a server is to take its first decision within 3 s of its start
STEPS = 100_000  # of SQLite's machine between two looks at the clock


def look_after_unclean_end(url: str, look_s: float = LOOK_S) -> bool:
    """Whether the database was left open by a process that was killed, or lost its machine; its pages are checked then.

    What is too large for look_s is only begun with, which the log tells. Raises Unavailable where it is damaged.
    PostgreSQL looks after itself.
    """
    parsed = parse_url(url)
    path = Path(parsed.database or "")
    if parsed.drivername != "sqlite" or not _left_open(path):
        return False
    began = time.monotonic()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(lambda: time.monotonic() - began > look_s, STEPS)
        try:
            found = [text for (text,) in connection.execute("PRAGMA quick_check(5)")]
        except sqlite3.OperationalError as error:
            if str(error) != "interrupted":
                raise Unavailable(f"the database {path} is not available: {error}") from None
            log.warning(
                "%s was not closed when the last server ended, and is too large to be checked now: "
                "run `tuneyard db check`",
                path,
            )
            return True
        except sqlite3.DatabaseError as error:
            found = [str(error)]
    if found != ["ok"]:
        raise Unavailable(
            f"the database {path} is damaged ({'; '.join(found)}): restore a backup with `tuneyard db restore`"
        )
    log.info("%s was not closed when the last server ended: all its pages are whole", path)
    return True


def _left_open(path: Path) -> bool:
    """Whether a write-ahead log with something in it is there: the last process to close the database removes it."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"{path}-wal").stat().st_size > 0
    return False
