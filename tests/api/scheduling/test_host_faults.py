"""A host that can't start a trainer, whatever the job: the host rests, and no job pays for it."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.recovery import FIRST_BACKOFF_S, MAX_LOST_IN_A_ROW
from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from orchestrator.control.snapshot.build import FIRST_REST_S, LONGEST_REST_S
from orchestrator.dispatch.dispatcher import DispatchState
from tests.api.conftest import Yard
from tests.api.scheduling.test_preemption import later, starts
from tests.api.scheduling.test_scheduling import HOST, FakeHost, card, end, job

BROKEN = "the trainer's libraries can't be loaded: ImportError: libfoo.so.6 is missing"


def breaks(yard: Yard, host: FakeHost, attempt_id: int, number: int) -> None:
    """The attempt's process can't do its imports."""
    ended = {"ts": yard.now, "outcome": Outcome.HOST_FAULT, "message": BROKEN, "rank": 0}
    host.report(attempts=[{"attempt_id": attempt_id, "number": number, "ended": ended}])
    yard.tick()


def shown(yard: Yard, name: str = "h1") -> dict[str, Any]:
    hosts = yard.http.get(f"{PREFIX}/hosts").json()["hosts"]
    found: dict[str, Any] = next(host for host in hosts if host["name"] == name)
    return found


def test_no_job_ever_fails_for_it_and_the_host_rests_longer_each_time(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    host.trace()
    rests = []
    for number in range(1, 3 * MAX_LOST_IN_A_ROW):
        assert job(yard)["state"] == "running", (number, job(yard)["reason"])
        breaks(yard, host, number, number)
        began = yard.now
        assert job(yard)["state"] == "queued"
        reason = job(yard)["reason"]
        assert reason["code"] == "no_host" and "libfoo.so.6" in reason["text"]
        seen = shown(yard)
        assert (seen["state"], seen["fault"]) == ("faulty", BROKEN)
        later(yard, host, by=seen["tried_again_at"] - began - 0.5)
        assert job(yard)["state"] == "queued"
        later(yard, host, by=1)
        host.trace()  # what nobody could count is asked for again after a while
        rests.append(seen["tried_again_at"] - began)
    assert rests[:3] == [FIRST_REST_S, 2 * FIRST_REST_S, 4 * FIRST_REST_S] and max(rests) == LONGEST_REST_S
    starts(yard, host, 3 * MAX_LOST_IN_A_ROW)
    assert (shown(yard)["state"], shown(yard)["fault"]) == ("online", None)


def test_why_names_the_fault_and_what_to_do(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    host.trace()
    breaks(yard, host, 1, 1)
    why = yard.http.get(f"{PREFIX}/jobs/1/why").json()
    assert why["hosts"][0]["verdict"] == f"can't start a trainer: {BROKEN}"
    (line,) = why["advice"]
    assert line.startswith("repair h1 (") and "libfoo" in line and "restart its agent" in line


def test_an_agent_that_joins_anew_is_tried_at_once(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    host.trace()
    breaks(yard, host, 1, 1)
    assert job(yard)["state"] == "queued"
    yard.http.post(f"{PREFIX}/hosts/join", json={**HOST, "gpus": host.cards})
    host.report()
    yard.tick()
    assert job(yard)["state"] == "running" and shown(yard)["fault"] is None


def test_beside_a_healthy_host_the_job_goes_there_at_once(yard: Yard) -> None:
    broken, well = FakeHost(yard, card(0, 2)), FakeHost(yard, card(1, 2), name="h2")
    well.report()
    yard.submit(name="first")
    broken.trace()
    assert job(yard)["host"] == "h1"
    breaks(yard, broken, 1, 1)
    assert (job(yard)["state"], job(yard)["host"]) == ("running", "h2")
    starts(yard, well, 2)
    yard.submit(name="second")
    yard.tick()
    assert job(yard, 2)["state"] == "queued", "nobody else is sent to a host that is known to be broken"
    assert shown(yard, "h2")["state"] == "online"


def test_what_was_lost_before_and_after_still_counts(yard: Yard) -> None:
    """A host's fault between two losses neither counts as one nor starts the count again."""
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    host.trace()
    number = 0
    for _ in range(MAX_LOST_IN_A_ROW):
        assert job(yard)["state"] == "running", job(yard)["reason"]
        number += 1
        breaks(yard, host, number, number)
        later(yard, host, by=LONGEST_REST_S)
        host.trace()
        assert job(yard)["state"] == "running", job(yard)["reason"]
        number += 1
        host.report(attempts=end(number, number, Outcome.LOST))
        yard.tick()
        if job(yard)["state"] == "queued":
            later(yard, host, by=700)
            host.trace()
    assert (job(yard)["state"], job(yard)["reason"]["code"]) == ("failed", "lost")


def comes_to_nothing(yard: Yard, host: FakeHost, attempt_id: int, how: str) -> str:
    """No trainer of this attempt comes up: what is said of it."""
    host.report()
    yard.tick()
    if how == "refused":
        text = "no rank actor came up on h1 within 90s"
        yard.dispatch.said.append({"event": "refused", "attempt_id": attempt_id, "host": "h1", "text": text})
    else:
        text = "no trainer came up on h1 within 180s"
        yard.now += yard.services.settings.start_deadline_s + 1
        host.report()
    yard.tick()
    return text


@pytest.mark.parametrize("how", ["refused", "silent"])
def test_a_host_on_which_nothing_comes_up_is_suspected_the_second_time(yard: Yard, how: str) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    host.trace()
    text = comes_to_nothing(yard, host, 1, how)
    shows = job(yard)
    assert (shows["state"], shows["reason"]["code"]) == ("queued", "backoff"), shows["reason"]
    told = [event.text for event in yard.services.store.events(1) if event.kind == "requeued"]
    assert told and told[0].startswith(f"{text}; that is not the job's fault"), told
    assert (shown(yard)["state"], shown(yard)["fault"]) == ("online", None)
    later(yard, host, by=FIRST_BACKOFF_S + 1)
    comes_to_nothing(yard, host, 2, how)
    assert (shown(yard)["state"], shown(yard)["fault"]) == ("faulty", text)
    assert [one["outcome"] for one in job(yard)["attempts_detail"]] == ["not_started"] * 2


def test_what_the_dispatcher_before_this_one_refused_is_not_the_hosts_fault(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    host.trace()
    comes_to_nothing(yard, host, 1, "refused")
    yard.dispatch.generation += 1
    later(yard, host, by=FIRST_BACKOFF_S + 1)
    comes_to_nothing(yard, host, 2, "refused")
    assert shown(yard)["fault"] is None


def test_nothing_that_never_began_wears_a_job_out_however_often(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit(retries=0)
    host.trace()
    number = 0
    for _ in range(3 * MAX_LOST_IN_A_ROW):
        number += 1
        assert job(yard)["state"] == "running", job(yard)["reason"]
        comes_to_nothing(yard, host, number, "refused")
        assert job(yard)["state"] == "queued", job(yard)["reason"]
        later(yard, host, by=LONGEST_REST_S + 1)
        host.trace()
    starts(yard, host, number + 1)
    assert shown(yard)["fault"] is None


@pytest.mark.parametrize("trouble", ["", "the dispatcher was ended: it has said nothing for 16 s"])
def test_where_no_dispatcher_answers_no_host_and_no_job_is_to_blame(yard: Yard, trouble: str) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    host.trace()
    yard.dispatch.how = DispatchState(trouble=trouble)
    for _ in range(20):
        later(yard, host, by=yard.services.settings.start_deadline_s)
    yard.dispatch.generation += 1
    yard.dispatch.how = DispatchState(ready=True)
    later(yard, host, by=1)
    assert [one["attempt_id"] for one in yard.dispatch.started] == [1, 1], "the new one is handed it at once"
    starts(yard, host, 1)
    (only,) = job(yard)["attempts_detail"]
    assert only["outcome"] is None and shown(yard)["fault"] is None


def test_of_a_gang_over_hosts_the_one_that_failed_rests(yard: Yard) -> None:
    a = FakeHost(yard, card(0, 2), name="a")
    b = FakeHost(yard, card(1, 2), name="b")
    b.report()
    yard.submit(resources={"gpus": 2, "across_hosts": True})
    a.trace()
    assert job(yard)["state"] == "running", job(yard)["reason"]
    ended = {"ts": yard.now, "message": BROKEN, "outcome": Outcome.HOST_FAULT, "rank": 1}
    b.report(attempts=[{"attempt_id": 1, "number": 1, "ended": ended}])
    echo = {"ts": yard.now, "message": "ended by force (stale)", "outcome": Outcome.LOST, "echo": True}
    a.report(attempts=[{"attempt_id": 1, "number": 1, "ended": echo}])
    yard.tick()
    assert (shown(yard, "a")["state"], shown(yard, "b")["state"]) == ("online", "faulty")
    assert job(yard)["state"] == "queued"
