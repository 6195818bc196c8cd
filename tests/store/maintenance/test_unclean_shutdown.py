"""A SQLite database is looked at where nobody closed it."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from jobs.errors import Unavailable
from orchestrator.store import Store, upgrade
from orchestrator.store.maintenance.unclean_shutdown import look_after_unclean_end
from tests.builders import submitted


def left_open(tmp_path: Path) -> tuple[str, Path]:
    """A copy of a database as kill -9 leaves it: with its write-ahead log."""
    url = f"sqlite:///{tmp_path / 'first.db'}"
    upgrade(url)
    store = Store(url)
    for _ in range(50):
        submitted(store)
    path = tmp_path / "left.db"
    for end in ("", "-wal"):
        shutil.copy(f"{tmp_path / 'first.db'}{end}", f"{path}{end}")
    store.close()
    return f"sqlite:///{path}", path


def damage(path: Path) -> None:
    """Overwrite a page in the middle, once all is in the file itself."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)
    Path(f"{path}-wal").write_bytes(b"\0" * 32)  # as after a kill: something is there


def test_a_whole_one_is_worked_with(tmp_path: Path) -> None:
    url, path = left_open(tmp_path)
    assert look_after_unclean_end(url)
    assert not look_after_unclean_end(url), "it was closed since"
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (50,)


def test_a_damaged_one_is_not(tmp_path: Path) -> None:
    url, path = left_open(tmp_path)
    damage(path)
    with pytest.raises(Unavailable, match=r"is damaged .*restore a backup"):
        look_after_unclean_end(url)


def test_one_that_was_closed_or_is_not_there_is_not_looked_at(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    assert not look_after_unclean_end(url) and not (tmp_path / "new.db").exists()
    upgrade(url)
    Store(url).close()
    assert not look_after_unclean_end(url)
    assert not look_after_unclean_end("postgresql://nobody@localhost/none")


def test_a_large_one_does_not_hold_the_start_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.maintenance.unclean_shutdown.STEPS", 1)
    url, _ = left_open(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert look_after_unclean_end(url, look_s=-1.0)
    assert "run `tuneyard db check`" in caplog.text
