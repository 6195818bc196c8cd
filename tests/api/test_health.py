"""Health answers at once, whatever the database does, and says what it does."""

from __future__ import annotations

import threading
import time

import pytest

from jobs.errors import Unavailable
from orchestrator.api.edge import pulse
from tests.api.test_scheduling import FakeHost, card

HEALTH = "/api/v1/health"


def test_it_counts_the_hosts(yard):
    FakeHost(yard, card(0, 2)).report()
    found = yard.http.get(HEALTH).json()
    assert (found["status"], found["database"], found["hosts"], found["hosts_online"]) == ("ok", "ok", 1, 1)


@pytest.fixture
def held(yard, monkeypatch):
    """Lets the database answer again; until then health's question hangs."""
    FakeHost(yard, card(0, 2))
    assert yard.http.get(HEALTH).json()["hosts"] == 1
    go, real = threading.Event(), yard.services.store.hosts

    def hosts():
        assert go.wait(60)
        return real()

    monkeypatch.setattr(yard.services.store, "hosts", hosts)
    monkeypatch.setattr(pulse, "WAIT_S", 0.01)
    yield go
    go.set()


def test_a_database_that_hangs_is_not_waited_for(yard, held, monkeypatch):
    found = yard.http.get(HEALTH).json()
    assert (found["status"], found["hosts"]) == ("ok", 1), "it has only just been asked"
    monkeypatch.setattr(pulse, "SILENT_S", 0.0)
    found = yard.http.get(HEALTH).json()
    assert (found["status"], found["hosts"]) == ("degraded", 1)
    assert found["database"].startswith("the database has not answered for ")
    held.set()
    monkeypatch.setattr(pulse, "SILENT_S", 1000.0)
    while yard.http.get(HEALTH).json()["status"] != "ok":
        time.sleep(0.01)


def test_a_database_that_is_away_is_told_with_its_reason(yard, monkeypatch):
    def hosts():
        raise Unavailable("the database x is not available: disk I/O error")

    monkeypatch.setattr(yard.services.store, "hosts", hosts)
    found = yard.http.get(HEALTH)
    assert found.status_code == 200 and found.json()["status"] == "degraded"
    assert found.json()["database"] == "the database x is not available: disk I/O error"
    monkeypatch.undo()
    while yard.http.get(HEALTH).json()["status"] != "ok":
        time.sleep(0.01)
