"""When a server takes the lease, keeps it and loses it: on the real database, with a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobs.errors import Unavailable
from orchestrator.control.leader.leadership import LEASE_S, Leadership
from orchestrator.store import Store
from orchestrator.store.leader_lease import Candidate, Lead


class Server:
    """One that may lead, looked after by hand."""

    def __init__(self, store: Store, name: str, now: list[float], place: str = "") -> None:
        me = Candidate(name, place or f"lock of {name}", f"http://{name}", name)
        self.leadership = Leadership(store, me, clock=lambda: 1e9, steady=lambda: now[0])
        self.said: list[str] = []
        self.leadership.on_taken = lambda: self.said.append("taken")
        self.leadership.on_lost = lambda: self.said.append("lost")
        self.leadership.on_answer = lambda: self.said.append("heard")

    def look(self) -> bool:
        self.leadership.look()
        return self.leadership.leads


@pytest.fixture
def now() -> list[float]:
    return [100.0]


def test_it_is_watched_for_the_whole_lease_before_it_is_taken(store: Store, now: list[float]) -> None:
    a, b = Server(store, "a", now), Server(store, "b", now)
    assert a.look() and not b.look()
    now[0] += LEASE_S - 0.1
    assert not b.look()
    assert a.look(), "it beats"
    now[0] += LEASE_S - 0.1
    assert not b.look(), "from then on it is watched again"
    now[0] += LEASE_S
    assert b.look() and b.said == ["heard"] * 3 + ["taken", "heard"]
    assert not a.look() and a.said[-1] == "lost"
    assert a.leadership.seen == b.leadership.seen
    for _ in range(5):
        now[0] += LEASE_S / 2
        assert b.look() and not a.look()


def test_one_that_was_stopped_itself_takes_nothing_from_a_leader_that_lives(
    store: Store, now: list[float]
) -> None:
    a, b = Server(store, "a", now), Server(store, "b", now)
    a.look(), b.look()
    for _ in range(10):
        now[0] += 1.0
        a.look()
    assert not b.look()


def test_what_it_could_not_see_says_nothing(
    store: Store, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = Server(store, "a", now), Server(store, "b", now)
    a.look(), b.look()
    real = store.lead

    def away() -> Lead:
        raise Unavailable("the database is away")

    monkeypatch.setattr(store, "lead", away)
    now[0] += LEASE_S
    assert not b.look() and b.said == ["heard"], "nor did it hear anybody meanwhile"
    monkeypatch.setattr(store, "lead", real)
    assert not b.look(), "nobody could beat either"
    now[0] += LEASE_S
    assert b.look()


def test_who_has_the_lock_of_the_one_before_it_need_not_wait(store: Store, now: list[float]) -> None:
    assert Server(store, "a", now, place="boot 1:2").look()
    assert not Server(store, "b", now, place="boot 1:3").look()
    assert Server(store, "c", now, place="boot 1:2").look()


def test_one_that_ends_lets_go_of_it(open_store: Callable[[], Store], now: list[float]) -> None:
    store = open_store()
    a, b = Server(store, "a", now), Server(store, "b", now)
    a.look()
    a.leadership.close()
    assert b.look() and b.leadership.seen is not None and b.leadership.seen.epoch == 2
