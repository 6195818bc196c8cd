"""Group commit: how many share one, and that what is wrong with one submission is told to that one alone."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.errors import Unavailable, UsageError
from orchestrator.api.edge.lanes import SMALL_THREADS, Lanes, ToStore
from orchestrator.api.submission.group_commit import MAX_GROUP, GroupCommit
from orchestrator.store.jobs.submissions import Taken
from orchestrator.store.requests import NewJob, NewSubmission, SubmitKey
from tests.builders import a_job

LONG_S = 60.0  # nothing here takes it; a test that would wait for ever fails instead


def job(name: str, priority: int = 50) -> NewJob:
    return a_job(name, priority=priority)


class Slow:
    """The store's commits, each of which waits to be let go. sizes: how many submissions each had."""

    def __init__(self, store, monkeypatch) -> None:
        self.sizes: list[int] = []
        self.began, self._go = threading.Semaphore(0), threading.Event()
        self._real = store.submit_groups
        monkeypatch.setattr(store, "submit_groups", self._submit)

    def _submit(self, groups, now):
        self.sizes.append(len(groups))
        self.began.release()
        assert self._go.wait(LONG_S)
        return self._real(groups, now)

    def let_go(self) -> None:
        self._go.set()


@pytest.fixture
def commits(store) -> GroupCommit:
    return GroupCommit(store)


def test_all_that_come_during_a_commit_share_the_next(store, commits, monkeypatch):
    slow, told = Slow(store, monkeypatch), []
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(commits.submit, [job("first")])
        assert slow.began.acquire(timeout=LONG_S)
        for n in range(MAX_GROUP + 1):
            commits.add(NewSubmission([job(f"job-{n}")]), told.append)  # which returns at once
        assert not told
        slow.let_go()
        assert first.result(LONG_S).rows[0].id == 1
    assert slow.sizes == [1, MAX_GROUP, 1]
    assert sorted(one.rows[0].id for one in told) == list(range(2, MAX_GROUP + 3))


def test_as_many_clients_as_there_are_share_a_commit_over_http(yard, monkeypatch):
    clients = 3 * SMALL_THREADS
    slow, read = Slow(yard.services.store, monkeypatch), threading.Semaphore(0)
    add = yard.services.lanes._add

    def added(wanted, then):
        read.release()
        add(wanted, then)

    monkeypatch.setattr(yard.services.lanes, "_add", added)
    with ThreadPoolExecutor(clients + 1) as pool:
        first = pool.submit(yard.submit, name="first")
        assert slow.began.acquire(timeout=LONG_S)
        sent = [pool.submit(yard.submit, name=f"job-{n}") for n in range(clients)]
        for _ in range(clients + 1):
            assert read.acquire(timeout=LONG_S), "no thread may wait for another's commit"
        slow.let_go()
        assert first.result(LONG_S)["id"] == 1
        assert sorted(one.result(LONG_S)["id"] for one in sent) == list(range(2, clients + 2))
    assert sum(slow.sizes) == clients + 1
    assert len(slow.sizes) <= 3, "the last to be read may have come after the second began"


def test_a_submission_that_cannot_be_stored_is_refused_alone(store, commits, monkeypatch):
    slow, told = Slow(store, monkeypatch), {}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(commits.submit, [job("first")])
        assert slow.began.acquire(timeout=LONG_S)
        for name, priority in (("before", 1), ("poison", 2**70), ("after", 2)):
            commits.add(
                NewSubmission([job(name, priority)], SubmitKey(name, name)),
                lambda found, name=name: told.__setitem__(name, found),
            )
        slow.let_go()
        first.result(LONG_S)
    assert isinstance(told["poison"], UsageError)
    assert [row.name for name in ("before", "after") for row in told[name].rows] == ["before", "after"]
    assert sorted(row.name for row in store.jobs()) == ["after", "before", "first"]
    again = commits.submit([job("after", 2)], SubmitKey("after", "after"))
    assert again.again and again.rows[0].id == told["after"].rows[0].id
    assert not commits.submit([job("mended")], SubmitKey("poison", "mended")).again, "its key was not used up"


def test_a_database_that_is_away_is_told_to_all_and_not_asked_again(store, commits, monkeypatch):
    slow, told = Slow(store, monkeypatch), []
    asked = []

    def away(groups, now):
        asked.append(len(groups))
        raise Unavailable("it is away")

    slow._real = away
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(commits.submit, [job("first")])
        assert slow.began.acquire(timeout=LONG_S)
        for n in range(3):
            commits.add(NewSubmission([job(f"job-{n}")]), told.append)
        slow.let_go()
        with pytest.raises(Unavailable):
            first.result(LONG_S)
    assert asked == [1, 3]
    assert [type(found) for found in told] == [Unavailable] * 3
    monkeypatch.undo()
    assert commits.submit([job("later")]).rows[0].id == 1, "the next is written all the same"


def test_an_answer_that_fails_keeps_nobody_from_theirs(commits, caplog):
    def fails(found: Taken | Exception) -> None:
        raise RuntimeError("the client's loop has ended")

    commits.add(NewSubmission([job("first")]), fails)
    assert "the answer to a submission failed" in caplog.text
    assert commits.submit([job("second")]).rows[0].id == 2


def test_a_writer_that_is_torn_away_leaves_the_next_to_write(store, commits, monkeypatch):
    def torn(groups, now):
        raise SystemExit

    monkeypatch.setattr(store, "submit_groups", torn)
    with pytest.raises(SystemExit):
        commits.add(NewSubmission([job("first")]), lambda told: None)
    monkeypatch.undo()
    found: list[Taken | Exception] = []
    commits.add(NewSubmission([job("second")]), found.append)  # a waiting submit() would wait for ever
    assert [one.rows[0].name for one in found] == ["second"]


def test_a_submission_that_can_not_be_handed_on_is_answered():
    def broken(wanted, then):
        raise RuntimeError("handed to nobody")

    async def asked() -> None:
        read = ToStore(NewSubmission([job("first")]), lambda taken: taken)
        await asyncio.wait_for(Lanes(broken).run("a", 1, lambda allowance: read), LONG_S)

    with pytest.raises(RuntimeError, match="handed to nobody"):
        asyncio.run(asked())
