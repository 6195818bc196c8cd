"""Health answers at once, whatever the database does, and says what it does."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest
import sqlalchemy as sa

from jobs.errors import Unavailable
from orchestrator.api.edge import database_probe
from orchestrator.api.readiness import LATE_S
from orchestrator.control.rounds import Rounds
from orchestrator.dispatch.dispatcher import DispatchState
from orchestrator.store.maintenance import epoch
from tests.api.scheduling.test_scheduling import FakeHost, card

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
    monkeypatch.setattr(database_probe, "WAIT_S", 0.01)
    yield go
    go.set()


def test_a_database_that_hangs_is_not_waited_for(yard, held, monkeypatch):
    found = yard.http.get(HEALTH).json()
    assert (found["status"], found["hosts"]) == ("ok", 1), "it has only just been asked"
    monkeypatch.setattr(database_probe, "SILENT_S", 0.0)
    found = yard.http.get(HEALTH).json()
    assert (found["status"], found["hosts"]) == ("degraded", 1)
    assert found["database"].startswith("the database has not answered for ")
    held.set()
    monkeypatch.setattr(database_probe, "SILENT_S", 1000.0)
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


@pytest.fixture
def with_ray(yard):
    services = yard.services
    services.settings = dataclasses.replace(services.settings, ray=True)
    return yard


def told(yard) -> dict:
    found = yard.http.get(HEALTH)
    assert found.status_code == 200
    return found.json()


def test_it_is_ready_where_each_part_is(with_ray):
    found = told(with_ray)
    assert (found["status"], found["ready"], found["ray"]) == ("ok", True, "ready")
    assert (found["database"], found["scheduler"], found["dispatcher"]) == ("ok", "ok", "ok")
    assert found["dispatcher_age_s"] == 0.1 and found["scheduler_age_s"] < 60


@pytest.mark.parametrize("generation", [0, 5])
def test_a_dispatcher_that_hangs_is_no_ray_that_is_ready(with_ray, generation):
    with_ray.dispatch.generation = generation  # one was ready once
    with_ray.dispatch.how = DispatchState(answered_s=20.0, trouble="it has said nothing for 20 s")
    found = told(with_ray)
    assert (found["status"], found["ready"], found["ray"]) == ("degraded", False, "down")
    assert (found["dispatcher"], found["dispatcher_age_s"]) == ("it has said nothing for 20 s", 20.0)


def test_one_that_starts_is_not_ready_yet_and_nothing_is_wrong(with_ray):
    with_ray.dispatch.how = DispatchState()
    found = told(with_ray)
    assert (found["status"], found["ready"], found["ray"]) == ("ok", False, "starting")
    assert found["dispatcher"] == "starting"


def test_a_loop_that_makes_no_good_round_is_told_with_what_it_fails_with(yard, monkeypatch):
    hand = [0.0]
    rounds = Rounds(5.0, lambda: hand[0])
    yard.services.controller.rounds = rounds
    rounds.rests(100.0)  # as it does after a long plan
    hand[0] = 105.0 + LATE_S
    assert told(yard)["scheduler"] == "ok"
    rounds.failed(ValueError("odd"))
    hand[0] += 1
    found = told(yard)
    assert (found["status"], found["ready"]) == ("degraded", False)
    assert found["scheduler"] == "its last good round was 136 s ago: ValueError: odd"
    yard.tick()
    assert (told(yard)["scheduler"], told(yard)["ready"]) == ("ok", True)


def test_a_step_that_fails_each_time_is_told_though_the_rest_goes_on(yard, monkeypatch):
    def prune(now):
        raise ValueError("odd")

    monkeypatch.setattr(yard.services.controller, "_prune", prune)
    yard.tick()
    found = told(yard)
    assert (found["status"], found["ready"]) == ("degraded", True)
    assert found["scheduler"] == "it can't do this: old samples (ValueError: odd)"


def test_a_database_that_takes_no_writes_is_told(yard, monkeypatch):
    engine = yard.services.store._engine

    def only_reads(connection: sa.Connection) -> None:
        connection.connection.dbapi_connection.execute("PRAGMA query_only = 1")

    sa.event.listen(engine, "begin", only_reads)
    monkeypatch.setattr(epoch, "WRITTEN_S", 0.0)
    while (found := told(yard))["status"] != "degraded":
        time.sleep(0.01)
    assert "readonly database" in found["database"] and not found["ready"]
    sa.event.remove(engine, "begin", only_reads)
    sa.event.listen(engine, "checkout", lambda raw, *_: raw.execute("PRAGMA query_only = 0"))
    while told(yard)["status"] != "ok":
        time.sleep(0.01)
