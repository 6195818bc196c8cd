"""A PostgreSQL that hangs, is locked or has no connection left: the caller is told soon."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from jobs.errors import Unavailable
from orchestrator.store import Store
from orchestrator.store.engine import database, timeouts
from tests.builders import NOW, a_job


@pytest.fixture
def open_hasty(
    url: str, open_store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Store]:
    """Opens the test's PostgreSQL with bounds of a test's own."""
    if url.startswith("sqlite"):
        pytest.skip("SQLite's lock is bounded by LOCK_WAIT_S")

    def opener(statement_s: float = 1000.0) -> Store:
        monkeypatch.setattr(timeouts, "SILENCE_S", 1000.0)
        monkeypatch.setattr(database, "POOL_S", 0.2)
        options = f"-c statement_timeout={statement_s * 1000:.0f}"
        monkeypatch.setattr(database, "ARGUMENTS", {**timeouts.ARGUMENTS, "options": options})
        return open_store()

    return opener


def test_a_statement_that_waits_for_a_lock_ends(open_hasty: Callable[..., Store]) -> None:
    store = open_hasty(statement_s=2.0)
    with store._engine.begin() as other:
        other.execute(sa.text("LOCK TABLE jobs"))
        with pytest.raises(Unavailable, match="statement timeout"):
            store.submit([a_job()], NOW)
    assert len(store.submit([a_job()], NOW)) == 1


def test_a_pool_without_a_connection_says_so_at_once(open_hasty: Callable[..., Store]) -> None:
    store = open_hasty()
    held = [store._engine.connect() for _ in range(40)]
    with pytest.raises(Unavailable, match="all its connections are in use"):
        store.job_states([1])
    for one in held:
        one.close()
    assert store.job_states([1]) == {}


def test_a_server_that_hangs_is_given_up(
    open_hasty: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process for this connection is stopped: it sends nothing, not even that the statement took too long."""
    store = open_hasty()
    with store.read() as connection:
        pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    monkeypatch.setattr(timeouts, "SILENCE_S", 0.5)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            store.job_states([1])
        monkeypatch.setattr(timeouts, "SILENCE_S", 1000.0)
        assert len(store.submit([a_job()], NOW)) == 1, "by another connection"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert store.count_jobs() == 1


def test_a_commit_that_hangs_is_given_up(
    open_hasty: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_hasty()
    monkeypatch.setattr(timeouts, "SILENCE_S", 0.5)
    stopped: list[int] = []

    def stop(connection: sa.Connection) -> None:
        stopped.append(connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())
        os.kill(stopped[0], signal.SIGSTOP)

    sa.event.listen(store._engine, "commit", stop, once=True)
    try:
        with pytest.raises(Unavailable):
            store.submit([a_job()], NOW)
    finally:
        os.kill(stopped[0], signal.SIGCONT)


def test_connections_that_a_restart_broke_are_noticed_before_they_are_used(
    open_hasty: Callable[..., Store],
) -> None:
    store = open_hasty()
    with ThreadPoolExecutor(4) as pool:
        together = threading.Barrier(4)

        def used() -> None:
            with store.read() as connection:
                connection.execute(sa.text("SELECT 1"))
                together.wait()

        for one in [pool.submit(used) for _ in range(4)]:
            one.result()
    with store.write() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    for _ in range(4):
        assert store.job_states([1]) == {}


def test_the_watch_ends_with_its_store(open_hasty: Callable[..., Store]) -> None:
    store = open_hasty()
    store.job_states([1])
    assert store._watch is not None and store._watch._thread is not None
    thread = store._watch._thread
    store._watch.close()
    thread.join(60)
    assert not thread.is_alive()
