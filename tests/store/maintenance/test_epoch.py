"""A restore begins a new epoch of the database, and what hosts have of the one before is told apart by its uuid."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from jobs.errors import Conflict, NotFound, Unavailable, UsageError
from jobs.identity import Aside, AttemptKey, JobKey, is_derived, new_uuid
from jobs.state import Outcome
from orchestrator.server.serve import only_one
from orchestrator.store import Store, backup, restore
from orchestrator.store.maintenance import epoch
from orchestrator.store.schema.tables import events, yard
from tests import postgres
from tests.builders import NOW, a_line, a_report, an_end, joined, news, opened, submitted, training


def notes(store: Store, kind: str) -> list[tuple[str, int | None, int | None]]:
    query = sa.select(events.c.text, events.c.job_id, events.c.host_id).where(events.c.kind == kind)
    with store.read() as connection:
        return [tuple(row) for row in connection.execute(query.order_by(events.c.id))]


def test_a_server_that_starts_again_begins_no_epoch(store: Store) -> None:
    before = store.epoch()
    assert [store.begin_epoch(NOW) for _ in range(3)] == [False] * 3
    assert (store.epoch(), store.restores(), notes(store, "restored")) == (before, 0, [])


def test_that_it_takes_writes_is_proved_by_one_that_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row() -> tuple[object, ...]:
        with store.read() as connection:
            return tuple(connection.execute(sa.select(yard)).one())

    before = row()
    with store.write() as connection:
        connection.execute(sa.select(yard))
    wrote_at = store.wrote_at
    store.check_writable()
    assert store.wrote_at == wrote_at, "something was written just now"
    monkeypatch.setattr(epoch, "WRITTEN_S", 0.0)
    log = Path(f"{store.url.database}-wal") if store.is_sqlite else None
    size = log.stat().st_size if log else 0
    store.check_writable()
    assert row() == before and store.wrote_at != wrote_at
    assert log is None or log.stat().st_size > size, "it reached the disk"
    monkeypatch.setattr(store, "write", refused)
    with pytest.raises(Unavailable):
        store.check_writable()


def refused() -> None:
    raise Unavailable("the database is read-only")


def test_a_database_elsewhere_is_a_restored_one(store: Store) -> None:
    """As after pg_restore: the row says where the other one was."""
    store.begin_epoch(NOW)
    before = store.epoch()
    with store.write() as connection:
        connection.execute(yard.update().values(place="elsewhere"))
    assert store.begin_epoch(NOW) and not store.begin_epoch(NOW)
    assert store.epoch() > before and store.restores() == 1
    assert len(notes(store, "restored")) == 1


@pytest.mark.parametrize("how", ["by hand", "by the verb", "twice"])
def test_a_backup_put_back_begins_one(how: str, sqlite_template: Path, tmp_path: Path) -> None:
    path, copy = tmp_path / "tuneyard.db", tmp_path / "copy.db"
    shutil.copy(sqlite_template, path)
    url = f"sqlite:///{path}"
    store = Store(url)
    store.begin_epoch(NOW)
    before = store.epoch()
    backup(url, copy)
    submitted(store)
    store.close()
    seen = {before}
    for _ in range(2 if how == "twice" else 1):
        if how == "by hand":
            shutil.copy(copy, path)
        else:
            kept = restore(url, copy)
            assert kept is not None and kept.is_file()
        store = Store(url)
        assert store.begin_epoch(NOW + 1e6) is True
        assert store.epoch() not in seen or how == "twice"
        seen.add(store.epoch())
        assert store.jobs() == []
        store.close()


@pytest.mark.parametrize("into", ["the same database", "another"])
def test_a_dump_of_postgresql_put_back_begins_one(
    into: str, postgres_urls: tuple[str, str], tmp_path: Path
) -> None:
    url, other = postgres_urls
    store = Store(url)
    store.begin_epoch(NOW)
    before, job = store.epoch(), submitted(store)
    _client("pg_dump", url, "--format=custom", f"--file={tmp_path / 'dump'}")
    later = submitted(store)
    store.close()
    goal = url if into == "the same database" else other
    cleaning = ["--clean", "--if-exists"] if goal == url else []
    _client("pg_restore", goal, "--no-owner", *cleaning, str(tmp_path / "dump"))
    store = Store(goal)
    assert store.begin_epoch(NOW + 1) is True and store.begin_epoch(NOW + 2) is False
    assert store.epoch() > before
    assert [one.id for one in store.jobs()] == [job.id]
    again = submitted(store)
    assert again.id == later.id and again.uuid not in (later.uuid, job.uuid)
    store.close()


def _client(name: str, url: str, *arguments: str) -> None:
    """One of PostgreSQL's own programs, on a database."""
    folder, where = postgres.binaries(), sa.make_url(url)
    assert folder is not None
    command = [str(folder / name), f"--host={where.query['host']}", f"--username={where.username}"]
    done = subprocess.run(
        [*command, f"--dbname={where.database}", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_restore_leaves_no_log_that_belongs_to_the_other_database(
    sqlite_template: Path, tmp_path: Path
) -> None:
    """A server that was killed leaves one: its changes would be added to the copy."""
    path, copy = tmp_path / "tuneyard.db", tmp_path / "copy.db"
    shutil.copy(sqlite_template, path)
    backup(f"sqlite:///{path}", copy)
    writer = sqlite3.connect(path)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("UPDATE yard SET restores = 99")
    writer.commit()
    restore(f"sqlite:///{path}", copy)
    writer.close()
    assert not list(tmp_path.glob("tuneyard.db-*"))
    with sqlite3.connect(path) as found:
        assert found.execute("SELECT restores FROM yard").fetchone() == (0,)


def test_what_can_t_be_restored_changes_nothing(sqlite_template: Path, tmp_path: Path) -> None:
    path = tmp_path / "tuneyard.db"
    shutil.copy(sqlite_template, path)
    before, url = path.read_bytes(), f"sqlite:///{path}"
    (tmp_path / "no.db").write_text("no database")
    for copy in (tmp_path / "no.db", tmp_path / "gone.db"):
        with pytest.raises(UsageError, match="is no backup of a tuneyard database"):
            restore(url, copy)
    with pytest.raises(UsageError, match="pg_restore"):
        restore("postgresql://x@/x", path)
    with only_one(tmp_path / "run", "server"), pytest.raises(Conflict, match="a server runs"):
        restore(url, sqlite_template)
    assert path.read_bytes() == before


def test_a_report_of_before_the_restore_is_refused_whoever_has_its_id_now(store: Store) -> None:
    alpha, _ = joined(store, named=True)
    store.record_report(alpha, a_report(epoch=store.epoch(), host="alpha"), NOW)
    for wrong in ({"epoch": store.epoch() - 1}, {"epoch": store.epoch(), "host": "beta"}):
        with pytest.raises(NotFound, match="joined before the database was restored"):
            store.record_report(alpha, a_report().model_copy(update=wrong), NOW)
    store.record_report(alpha, a_report(), NOW)  # an older agent, before any restore
    with store.write() as connection:
        connection.execute(yard.update().values(restores=1))
    with pytest.raises(NotFound):
        store.record_report(alpha, a_report(), NOW)


def test_news_of_another_attempt_by_that_id_changes_nothing_not_even_the_log(store: Store) -> None:
    alpha, cards = joined(store, named=True)
    attempt = opened(store, submitted(store), alpha, cards)
    more = {"log": "words", "progress": [a_line(3)], "ended": an_end(Outcome.FAILED)}
    for uuid in (new_uuid(), ""):
        store.record_report(alpha, a_report(news(attempt, uuid=uuid, **more)), NOW)
    found = store.attempt(attempt.id)
    assert (found.log_bytes, found.reported) == (0, None) and not store.latest_progress([attempt.id])
    store.record_report(alpha, a_report(news(attempt, uuid=attempt.uuid, **more)), NOW)
    found = store.attempt(attempt.id)
    assert found.log_bytes == 5 and found.reported is not None


def test_an_attempt_on_a_host_with_an_older_agent_writes_no_uuid(store: Store) -> None:
    assert is_derived(training(store).uuid)
    alpha, cards = joined(store, "beta", named=True)
    assert not is_derived(opened(store, submitted(store), alpha, cards).uuid)


def test_strange_is_what_has_no_row_or_anothers(store: Store) -> None:
    alpha, cards = joined(store, named=True)
    job = submitted(store)
    attempt = opened(store, job, alpha, cards)
    mine = AttemptKey.of(attempt)
    others = [
        mine.model_copy(update=change) for change in ({"uuid": new_uuid()}, {"uuid": ""}, {"attempt_id": 99})
    ]
    assert store.strange_attempts([mine, *others]) == others
    here = [JobKey(job_id=job.id, job_uuid=uuid) for uuid in (job.uuid, new_uuid(), "")]
    gone = JobKey(job_id=99, job_uuid=job.uuid)
    assert store.strange_jobs([*here, gone]) == [*here[1:], gone]


def test_a_folder_without_uuid_is_of_a_job_that_had_such_attempts(store: Store) -> None:
    attempt = training(store)
    assert store.strange_jobs([JobKey(job_id=attempt.job_id)]) == []
    key = AttemptKey(attempt_id=attempt.id, job_id=attempt.job_id, number=attempt.number)
    assert store.strange_attempts([key]) == []
    assert store.strange_attempts([key.model_copy(update={"number": 2})]) != []
    assert store.unnamed_attempts([attempt.job_id]) == {attempt.job_id: (attempt.id,)}


def test_what_was_set_aside_is_one_event_each_and_stands_with_the_host(
    open_store: Callable[[], Store],
) -> None:
    store = open_store()
    alpha, _ = joined(store)
    job = submitted(store)
    things = [Aside(name=f"job-{id_}-a", ts=NOW, text=f"of {id_}", job_id=id_) for id_ in (job.id, 99)]
    for _ in range(2):
        store.record_report(alpha, a_report(aside=things), NOW)
    store.record_report(alpha, a_report(), NOW)
    said = [(f"set aside on alpha: of {id_}", id_ if id_ == job.id else None, alpha) for id_ in (job.id, 99)]
    assert notes(store, "set_aside") == said
    assert [one["name"] for one in store.host(alpha).aside or ()] == ["job-1-a", "job-99-a"]
    store.record_report(alpha, a_report(aside=[]), NOW)
    assert store.host(alpha).aside == [] and len(notes(store, "set_aside")) == 2
