"""While one request is worked on, or waits for a disk or a lock, everybody else is answered.

(conftest notes whatever reads a file or the database on the event loop, in every test of this folder.)
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import pytest
from starlette.testclient import TestClient

from jobs.errors import Busy, TooLarge
from jobs.jobfile.loader import parse_yaml
from jobs.units import MiB
from orchestrator.api.edge import budget, gate, lanes
from orchestrator.api.edge.budget import Allowance, Budget
from orchestrator.api.submission import validation
from tests.api.scheduling.test_scheduling import FakeHost, card

JOBS = "/api/v1/jobs"
LONG_S = 60.0  # nothing here takes it; a test that would wait for ever fails instead


def texts(yard, count: int) -> list[dict[str, str]]:
    """Job files as people write them."""
    spec = yard.job()["spec"]
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in spec.items()]
    return [
        {"text": f"# a job\nname: file-{n}\n{''.join(lines)}", "source": f"{n}.yaml"} for n in range(count)
    ]


class Held:
    """A database that does not answer the question after the states of jobs before it is let go."""

    def __init__(self, yard, monkeypatch) -> None:
        self.asked, self._go = threading.Semaphore(0), threading.Event()
        self._real = yard.services.store.job_states
        monkeypatch.setattr(yard.services.store, "job_states", self._states)

    def _states(self, ids):
        self.asked.release()
        assert self._go.wait(LONG_S)
        return self._real(ids)

    def wait(self) -> None:
        assert self.asked.acquire(timeout=LONG_S)

    def let_go(self) -> None:
        self._go.set()


def large(yard) -> dict:
    """A submission over the size of a small one, that asks for the states of jobs."""
    jobs = [yard.job(name=f"job-{n}", after=[1]) for n in range(300)]
    assert len(json.dumps(jobs)) > budget.SMALL_BYTES
    return {"jobs": jobs}


def timing(app, used: list[float]):
    """The application, and what each request takes of the event loop's thread, in seconds of the processor."""

    async def timed(scope, receive, send):
        began = time.thread_time()
        await app(scope, receive, send)
        used.append(time.thread_time() - began)

    return timed


@pytest.fixture
def clients():
    with ThreadPoolExecutor(8) as pool:
        yield pool


def test_all_is_answered_while_a_large_submission_is_worked_on(yard, monkeypatch, clients):
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="first")
    held = Held(yard, monkeypatch)
    sent: Future = clients.submit(yard.http.post, JOBS, json=large(yard))
    held.wait()
    for _ in range(3):
        assert host.report()["stops"] == []
        assert yard.http.get("/api/v1/health").status_code == 200
        assert yard.http.get(JOBS).json()["total"] >= 1
    assert yard.submit(name="small")["id"] == 2, "nor does a small submission wait for it"
    assert not sent.done()
    held.let_go()
    assert sent.result(LONG_S).status_code == 201


def test_all_but_writers_are_answered_while_another_process_holds_the_lock(yard, clients):
    yard.submit(name="first")
    with closing(sqlite3.connect(yard.services.store.url.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        sent = [clients.submit(yard.submit, name=f"job-{n}") for n in range(3)]
        for _ in range(3):
            assert yard.http.get("/api/v1/health").status_code == 200
            assert yard.http.get(f"{JOBS}/first").status_code == 200
        assert not any(one.done() for one in sent)
        other.execute("ROLLBACK")
    assert sorted(one.result(LONG_S)["id"] for one in sent) == [2, 3, 4]


def test_a_thousand_job_files_are_one_request(yard):
    answer = yard.http.post(JOBS, json={"jobs": texts(yard, 1000)})
    assert answer.status_code == 201, answer.text[:500]
    assert [job["name"] for job in answer.json()["jobs"]] == [f"file-{n}" for n in range(1000)]


def test_heartbeats_are_taken_while_a_thousand_job_files_are_parsed(yard, monkeypatch, clients):
    host = FakeHost(yard, card(0, 2))
    begun, goes_on = threading.Event(), threading.Event()

    def parsed(text, source):
        if source == "500.yaml":
            begun.set()
            assert goes_on.wait(LONG_S)
        return parse_yaml(text, source)

    monkeypatch.setattr(validation, "parse_yaml", parsed)
    sent: Future = clients.submit(yard.http.post, JOBS, json={"jobs": texts(yard, 1000)})
    assert begun.wait(LONG_S)
    for _ in range(3):
        assert host.report()["stops"] == []
        assert yard.http.get("/api/v1/health").status_code == 200
    assert not sent.done()
    goes_on.set()
    assert sent.result(LONG_S).status_code == 201


def test_a_thousand_job_files_hold_the_loop_up_for_a_moment(yard):
    used: list[float] = []
    client = TestClient(timing(yard.http.app, used), headers=dict(yard.http.headers))
    for _ in range(3):
        assert client.post(JOBS, json={"jobs": texts(yard, 1000)}).status_code == 201
    assert min(used) < 0.2, "seconds of the loop's processor time: 0.01 is usual"


def test_a_client_has_two_large_submissions_at_a_time_and_small_ones_beside_them(yard, monkeypatch, clients):
    yard.submit(name="first")
    held = Held(yard, monkeypatch)
    sent = [clients.submit(yard.http.post, JOBS, json=large(yard)) for _ in range(2)]
    held.wait()  # the second waits for the first
    while yard.services.lanes.budget._large < 2:
        assert yard.http.get("/api/v1/health").status_code == 200
    refused = yard.http.post(JOBS, json=large(yard))
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "2")
    assert refused.json()["error"]["kind"] == "busy"
    assert "2 large submissions from testclient" in refused.json()["error"]["message"]
    yard.submit(name="small")
    held.let_go()
    assert {one.result(LONG_S).status_code for one in sent} == {201}
    assert yard.http.post(JOBS, json=large(yard)).status_code == 201, "once they are through"


def test_what_takes_too_long_is_refused_whole(yard, monkeypatch):
    monkeypatch.setattr(lanes, "Allowance", lambda: Allowance(cpu_s=0.0))
    for body in ({"jobs": texts(yard, 3)}, {"jobs": [yard.job(matrix={"training.seed": [1, 2]})]}):
        answer = yard.http.post(JOBS, json=body)
        assert answer.status_code == 413
        assert "Submit fewer together" in answer.json()["error"]["message"]
    assert yard.http.get(JOBS).json()["total"] == 0


def test_a_client_that_uses_up_its_time_is_asked_to_wait_and_others_are_not():
    now = [100.0]
    known = Budget(lambda: now[0])
    known.leave(known.enter("a", 1), 1, budget.SAVED_S + 5.0)
    with pytest.raises(Busy, match="submissions from a have used up") as caught:
        known.enter("a", 1)
    known.enter("b", 1)
    now[0] += caught.value.retry_after_s
    known.enter("a", 1)
    now[0] += 1e6
    assert known.enter("a", 1).left_s == budget.SAVED_S, "no more than that is saved up"


def test_all_clients_together_have_a_bound():
    known = Budget(lambda: 0.0)
    many = [known.enter(f"client-{n}", 10**6) for n in range(budget.WAITING)]
    with pytest.raises(Busy, match="16 large submissions are waiting"):
        known.enter("another", 10**6)
    known.enter("another", 10)
    known.leave(many[0], 10**6, 0.0)
    known.enter("another", 10**6)


def test_the_clients_that_are_known_are_bounded():
    now = [0.0]
    known = Budget(lambda: now[0])
    for n in range(20_000):
        now[0] += 1.0
        known.enter(str(n), 1)
    assert len(known._clients) <= 10_001


def test_time_is_counted_by_processor_and_by_clock():
    Allowance().check()
    with pytest.raises(TooLarge, match="more than 0 s to read"):
        Allowance(cpu_s=0.0).check()
    with pytest.raises(TooLarge):
        Allowance(wall_s=0.0).check()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/accuracy/forget"),
        ("POST", "/hosts/join"),
        ("POST", "/hosts/1/drain"),
        ("POST", "/jobs"),
        ("PATCH", "/jobs/1"),
        ("POST", "/jobs/1/requeue"),
        ("POST", "/plan"),
        ("PUT", "/projects/small"),
    ],
)
def test_the_worst_body_that_is_let_in_holds_the_loop_up_for_a_moment(yard, method, path):
    """Bodies are parsed on a thread. Refusals are written on the loop: of 90,000 unknown keys that was 12 MB."""
    most, _ = gate._most(method, f"/api/v1{path}")
    keys = ",".join(f'"k{number}":0' for number in range(min(most, MiB) // 8))
    body = "{" + keys[: min(most, MiB) - 2].rpartition(",")[0] + "}"
    used: list[float] = []
    headers = dict(yard.http.headers) | {"Content-Type": "application/json"}
    client = TestClient(timing(yard.http.app, used), headers=headers)
    for _ in range(3):  # a busy machine counts more of the processor than the work takes: the least of three
        answer = client.request(method, f"/api/v1{path}", content=body)
        assert answer.status_code == 422, answer.text[:300]
        assert len(answer.content) < 500_000
    assert min(used) < 0.2, "seconds of the loop's processor time: 0.05 is usual"
