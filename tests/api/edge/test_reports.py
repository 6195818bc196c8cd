"""Reports of hosts are taken many at a time: each is durable before its answer, and one costs the others nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest

from jobs.errors import Busy, NotFound, Unavailable
from orchestrator.api.app import PREFIX
from orchestrator.api.edge import report_batches
from orchestrator.api.edge.refusals import BadRequest
from orchestrator.api.edge.report_batches import Answer, Report, ReportQueue
from orchestrator.api.routes import reports
from tests.api.scheduling.test_scheduling import FakeHost, card

LONG_S = 60.0  # nothing here takes it; a test that would wait for ever fails instead


def body(host: FakeHost, now: float, **more: Any) -> bytes:
    sample = {"uuid": host.cards[0]["uuid"], "ts": now, "memory_used_bytes": 1}
    said = {"boot": "b", "sent": now, "gpus": host.cards, "samples": [sample], "ray_ready": True}
    return json.dumps({**said, **more}).encode()


def fleet(yard, count: int) -> list[FakeHost]:
    return [FakeHost(yard, card(number, 2), name=f"h{number}") for number in range(count)]


def stored(yard) -> set[int]:
    """The hosts of which a reading is stored, by card."""
    return {
        gpu.host_id for gpu in yard.services.store.gpus() if gpu.id in yard.services.store.latest_samples()
    }


def test_a_group_is_one_transaction_and_each_gets_its_own_answer(yard, monkeypatch):
    hosts = fleet(yard, 4)
    calls: list[int] = []
    real = yard.services.store.record_reports
    monkeypatch.setattr(
        yard.services.store,
        "record_reports",
        lambda group, now: (calls.append(len(group)), real(group, now))[1],
    )
    yard.submit(name="a")
    yard.tick()  # its trace is asked of one of them
    answers = reports.take(yard.services, [(host.id, body(host, yard.now)) for host in hosts])
    assert calls == [4] and stored(yard) == {host.id for host in hosts}
    told = [json.loads(answer) for answer in answers if isinstance(answer, bytes)]
    assert sorted(len(one["traces"]) for one in told) == [0, 0, 0, 1]


def test_what_can_not_be_stored_or_read_costs_the_others_nothing(yard):
    hosts = fleet(yard, 6)
    group = [(host.id, body(host, yard.now)) for host in hosts]
    too_large = {"uuid": hosts[1].cards[0]["uuid"], "ts": yard.now, "memory_used_bytes": 2**63}
    group[1] = (hosts[1].id, body(hosts[1], yard.now, samples=[too_large]))
    group[2] = (hosts[2].id, b'{"boot": "b", "sent": "never"}')
    group[3] = (99, body(hosts[3], yard.now))
    answers = reports.take(yard.services, group)
    assert [type(answer) for answer in answers[:4]] == [bytes, type(answers[1]), BadRequest, NotFound]
    assert "a number is too large" in str(answers[1])
    assert stored(yard) == {hosts[number].id for number in (0, 4, 5)}


@pytest.mark.parametrize(
    "sent, status, fault",
    [
        (b"{", 422, "body"),
        (b'{"boot": 1, "sent": 1, "gpus": []}', 422, "boot"),
        (b'{"boot": "b", "gpus": []}', 422, "sent"),
        (b'{"boot": "b", "sent": 1, "gpus": [{"uuid": "x"}]}', 422, "gpus.0.index"),
    ],
)
def test_a_report_that_can_not_be_read_names_what_is_wrong(yard, sent, status, fault):
    host = FakeHost(yard, card(0, 2))
    answer = yard.http.post(f"{PREFIX}/hosts/{host.id}/report", content=sent)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["kind"] == "usage" and error["faults"][0]["path"] == fault


def test_the_path_and_the_query_are_looked_at_as_everywhere(yard):
    host = FakeHost(yard, card(0, 2))
    said = body(host, yard.now)
    assert yard.http.post(f"{PREFIX}/hosts/{host.id}/report?x=1", content=said).status_code == 422
    assert yard.http.post(f"{PREFIX}/hosts/h1/report", content=said).status_code == 422
    assert yard.http.post(f"{PREFIX}/hosts/{'9' * 18}/report", content=said).status_code == 404
    assert yard.http.get(f"{PREFIX}/hosts/{host.id}/report").status_code == 405
    refused = yard.http.post(
        f"{PREFIX}/hosts/{host.id}/report", content=said, headers={"Authorization": "Bearer wrong"}
    )
    assert refused.status_code == 401


def test_nothing_is_acknowledged_before_it_is_durable(yard, monkeypatch):
    host, go, asked = FakeHost(yard, card(0, 2)), Event(), Event()
    real = yard.services.store.record_reports

    def held(group: Any, now: float) -> set[int]:
        asked.set()
        assert go.wait(LONG_S)
        return real(group, now)

    monkeypatch.setattr(yard.services.store, "record_reports", held)
    with ThreadPoolExecutor(1) as clients:
        sent = clients.submit(host.report)
        assert asked.wait(LONG_S)
        assert yard.http.get(f"{PREFIX}/health").status_code == 200, "others are answered meanwhile"
        assert not sent.done()
        go.set()
        assert sent.result(LONG_S)["stops"] == []


def test_what_the_database_did_not_take_is_not_acknowledged(yard, monkeypatch):
    hosts = fleet(yard, 2)

    def refuses(group: Any, now: float) -> set[int]:
        raise Unavailable("the database is away")

    monkeypatch.setattr(yard.services.store, "record_reports", refuses)
    answers = reports.take(yard.services, [(host.id, body(host, yard.now)) for host in hosts])
    assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
    said = body(hosts[0], yard.now)
    assert yard.http.post(f"{PREFIX}/hosts/{hosts[0].id}/report", content=said).status_code == 503


class Clock:
    """A clock that only moves when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def in_a_loop(test: Callable[[ReportQueue, Clock], Any]) -> None:
    clock = Clock()
    made = ReportQueue(clock)
    try:
        asyncio.run(asyncio.wait_for(test(made, clock), LONG_S))
    finally:
        made.close()


class Work:
    """Work that takes what a test says. groups: the host ids of each call."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go, self.begun = Event(), Event()

    def __call__(self, group: Sequence[Report]) -> list[Answer]:
        self.groups.append([host_id for host_id, _ in group])
        self.begun.set()
        assert self.go.wait(LONG_S)
        return [f"{host_id} {body.decode()}".encode() for host_id, body in group]

    async def has_begun(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.begun.wait, LONG_S)


def put(made: ReportQueue, work: Work, *said: tuple[int, bytes]) -> list[asyncio.Task[bytes]]:
    return [asyncio.ensure_future(made.put(host_id, body, work)) for host_id, body in said]


def test_what_comes_meanwhile_is_the_next_group_with_one_report_of_a_host():
    async def test(made: ReportQueue, clock: Clock) -> None:
        work = Work()
        first = put(made, work, (1, b"a"))
        await work.has_begun()
        later = put(made, work, (2, b"b"), (1, b"c"), (1, b"d"), (3, b"e"))
        await asyncio.sleep(0)
        later[0].cancel()  # a client that goes away holds nobody up
        clock.now += 1.0
        work.go.set()
        assert [await one for one in (*first, *later[1:])] == [b"1 a", b"1 c", b"1 d", b"3 e"]
        assert work.groups == [[1], [2, 1, 3], [1]]

    in_a_loop(test)


def test_groups_have_bounds(monkeypatch):
    monkeypatch.setattr(report_batches, "MOST_REPORTS", 2)
    monkeypatch.setattr(report_batches, "MOST_BYTES", 10)

    async def test(made: ReportQueue, clock: Clock) -> None:
        work = Work()
        work.go.set()
        sent = put(made, work, *((number, b"x" * (8 if number > 3 else 1)) for number in range(1, 7)))
        await asyncio.gather(*sent)
        assert work.groups == [[1, 2], [3, 4], [5], [6]]

    in_a_loop(test)


def test_a_host_is_asked_to_wait_where_too_many_do():
    async def test(made: ReportQueue, clock: Clock) -> None:
        work = Work()
        first = put(made, work, (1, b"a"))
        await work.has_begun()
        second = put(made, work, (2, b"b"))
        await asyncio.sleep(0)
        clock.now += report_batches.WAIT_S + 0.5  # a disk that hangs
        with pytest.raises(Busy) as refused:
            await made.put(3, b"c", work)
        assert refused.value.retry_after_s == 6
        assert not made.admits, "nobody's silence counts"
        work.go.set()
        await asyncio.gather(*first, *second)
        assert made.admits
        await made.put(3, b"c", work)

    in_a_loop(test)


def test_a_host_is_asked_to_wait_where_the_bytes_that_wait_are_too_many(yard, monkeypatch):
    monkeypatch.setattr(report_batches, "WAITING_BYTES", 10)
    host = FakeHost(yard, card(0, 2))
    refused = yard.http.post(f"{PREFIX}/hosts/{host.id}/report", content=body(host, yard.now))
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert refused.json()["error"]["kind"] == "busy"


def test_work_that_fails_is_told_to_all_that_wait_and_ends_nothing():
    async def test(made: ReportQueue, clock: Clock) -> None:
        def fails(group: Sequence[Report]) -> list[Answer]:
            raise RuntimeError("no")

        for _ in range(2):
            with pytest.raises(RuntimeError):
                await made.put(1, b"a", fails)

    in_a_loop(test)
