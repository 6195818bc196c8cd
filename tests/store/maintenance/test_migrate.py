"""Opening, upgrading, checking and copying a database, and what a bad one gets."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from jobs.errors import SchemaMismatch, Unavailable, UsageError
from jobs.messages.reports import Joined
from migrations import revisions
from orchestrator.store import Store, backup, check, upgrade
from orchestrator.store.engine import database
from tests import postgres
from tests.builders import NOW, submitted, training

HEAD = revisions()[-1]


def _run_sql(url: str, statement: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def test_an_empty_database_is_made_and_then_left_alone(empty_url: str) -> None:
    with pytest.raises(SchemaMismatch, match=r"is empty.*db upgrade"):
        Store(empty_url)
    assert check_quietly(empty_url) == (None, HEAD, [], False)
    assert upgrade(empty_url) == upgrade(empty_url) == HEAD
    store = Store(empty_url)
    submitted(store)
    store.close()
    assert upgrade(empty_url) == HEAD
    assert check_quietly(empty_url) == (HEAD, HEAD, [], True)


def test_every_database_is_its_own_and_a_backup_is_the_same(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two", "copy")]
    for url in urls[:2]:
        upgrade(url)
    backup(urls[0], tmp_path / "copy.db")
    upgrade(urls[0])
    stores = [Store(url) for url in urls]
    one, two, copy = (store.yard() for store in stores)
    for store in stores:
        store.close()
    assert one == copy != two
    assert Joined(host_id=1, ray_token="", yard=one).yard == one


def test_a_database_of_a_newer_version_is_refused(url: str) -> None:
    _run_sql(url, "UPDATE alembic_version SET version_num = '9999'")
    for refused in (Store, upgrade):
        with pytest.raises(SchemaMismatch, match="revision 9999, made by a newer tuneyard"):
            refused(url)
    assert check_quietly(url) == ("9999", HEAD, [], False)


def test_an_upgrade_is_whole_or_not_at_all(empty_url: str) -> None:
    _run_sql(empty_url, "CREATE TABLE progress (id INTEGER)")  # in the way of ours
    with pytest.raises(Unavailable, match="already exists"):
        upgrade(empty_url)
    engine = sa.create_engine(empty_url)
    assert sa.inspect(engine).get_table_names() == ["progress"]
    engine.dispose()


def test_a_current_database_opens_without_importing_alembic(url: str) -> None:
    unused = {"alembic", "mako"} | ({"psycopg"} if url.startswith("sqlite") else set())
    code = (
        "import sys; from orchestrator.store import Store, upgrade; "
        f"upgrade(sys.argv[1]); Store(sys.argv[1]).hosts(); print({unused} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "'nonsense' is not a database URL; write sqlite:///"),
        ("mysql://localhost/x", "mysql is not a database that tuneyard can use; use sqlite or postgresql"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
    ],
)
def test_a_url_that_names_no_database(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Store(url)


def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"/nowhere/x\.db can't be opened: No such file"):
        Store(f"sqlite:///{tmp_path}/nowhere/x.db")
    with pytest.raises(Unavailable, match=r"there is no database .*x\.db"):
        check(f"sqlite:///{tmp_path}/x.db")
    with pytest.raises(Unavailable, match=r"postgresql.*nobody.*is not available") as caught:
        Store(f"postgresql://nobody:secret@/x?host={tmp_path}")
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_text("to whom it may concern: " * 100)
    for refused in (Store, upgrade, check):
        with pytest.raises(Unavailable, match="file is not a database"):
            refused(f"sqlite:///{path}")


def test_a_database_that_goes_away_is_unavailable(postgres_server: sa.URL) -> None:
    url = postgres_server.set(database="goes_away").render_as_string()
    server = postgres_server.render_as_string()
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE goes_away")
        upgrade(url)
        store = Store(url)
        submitted(store)
        connection.exec_driver_sql("DROP DATABASE goes_away WITH (FORCE)")
    with pytest.raises(Unavailable, match="is not available"):
        store.count_jobs()
    store.close()
    engine.dispose()


def test_a_sqlite_file_is_its_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "tuneyard.db"
    upgrade(f"sqlite:///{path}")
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_sqlite_is_set_to(sqlite_store: Store) -> None:
    with sqlite_store.read() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert found == ["wal", 2, 1, 15000]


def test_a_backup_holds_everything_and_is_made_while_in_use(url: str, tmp_path: Path) -> None:
    store = Store(url)
    training(store)
    target = tmp_path / "copy"
    with store.read() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM jobs")
        backup(url, target)
    store.close()
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.glob("*copy*")) == ["copy"]
    if url.startswith("sqlite"):
        report = check(f"sqlite:///{target}")
        assert report.ok and Store(f"sqlite:///{target}").count_jobs() == 1
    else:
        folder = postgres.binaries()
        assert folder is not None
        listed = subprocess.run(
            [folder / "pg_restore", "--list", target], capture_output=True, text=True, check=True
        )
        assert "TABLE DATA public jobs" in listed.stdout
    with pytest.raises(UsageError, match="exists already"):
        backup(url, target)


def test_a_backup_that_can_t_be_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="there is no database"):
        backup(f"sqlite:///{tmp_path}/none.db", tmp_path / "copy")
    with pytest.raises(UsageError, match="does not exist"):
        backup(f"sqlite:///{tmp_path}/none.db", tmp_path / "no" / "copy")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match="pg_dump is not on this machine"):
        backup("postgresql://x@/x", tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_found(sqlite_template: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    shutil.copy(sqlite_template, path)
    store = Store(f"sqlite:///{path}")
    store.submit([], NOW)
    for _ in range(300):
        submitted(store)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET rootpage = 3 WHERE name = 'ix_jobs_name_id'")
    connection.close()
    assert any(fault.startswith("SQLite: ") for fault in check(f"sqlite:///{path}").faults)
    assert os.path.exists(path)


def check_quietly(url: str) -> tuple[str | None, str, list[str], bool]:
    report = check(url)
    return report.revision, report.head, report.faults, report.ok


def test_a_database_that_another_process_keeps_locked(
    sqlite_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.db"
    shutil.copy(sqlite_template, path)
    monkeypatch.setattr(database, "LOCK_WAIT_S", 0.05)
    store = Store(f"sqlite:///{path}")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="database is locked"):
        submitted(store)
    assert store.count_jobs() == 0, "reading goes on meanwhile"
    other.execute("ROLLBACK")
    submitted(store)
    other.close()
    store.close()
