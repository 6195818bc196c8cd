"""What happened, across jobs and hosts, and the part of a log that was stored since a time."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from tests.api.conftest import Yard
from tests.api.scheduling.test_scheduling import FakeHost, card, end


def told(yard: Yard, query: str = "") -> list[dict[str, Any]]:
    answer = yard.http.get(f"{PREFIX}/events?{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["events"]
    return found


def lived_in(yard: Yard) -> tuple[FakeHost, FakeHost]:
    """Job 1 has succeeded on h1, job 2 was cancelled by ann, who drained h2."""
    first = FakeHost(yard, card(0, 2))
    yard.submit(name="a")
    first.trace()
    second = FakeHost(yard, card(1, 2), name="h2")
    yard.now += 3600 * 3
    first.report(attempts=end(1, 1, Outcome.SUCCEEDED))
    yard.tick()
    yard.submit(name="b")
    asked = {"X-Tuneyard-User": "ann"}
    assert yard.http.post(f"{PREFIX}/jobs/2/cancel", headers=asked).status_code == 200
    assert (
        yard.http.post(f"{PREFIX}/hosts/h2/drain", json={"drained": True}, headers=asked).status_code == 200
    )
    return first, second


def test_events_of_jobs_and_hosts_stand_in_one_list(yard: Yard) -> None:
    lived_in(yard)
    found = told(yard)
    assert [one["id"] for one in found] == sorted((one["id"] for one in found), reverse=True)
    assert {one["subject"] for one in found} == {"job 1 (a)", "job 2 (b)", "host h1", "host h2"}
    drained = found[0]
    assert (drained["kind"], drained["by"], drained["host"]) == ("host_drained", "ann", "h2")
    assert {one["job"] for one in told(yard, "job=a")} == {1}
    assert {one["subject"] for one in told(yard, "host=h2")} == {"host h2"}
    assert {one["subject"] for one in told(yard, "host=h1")} == {"host h1", "job 1 (a)"}, "what ran there"
    assert {one["kind"] for one in told(yard, "by=ann")} == {"cancelled", "host_drained"}
    assert {one["kind"] for one in told(yard, "kind=host_joined,host_drained")} == {
        "host_joined",
        "host_drained",
    }
    since = told(yard, f"since={yard.now - 60}")
    assert since == [one for one in found if one["ts"] >= yard.now - 60] and len(since) < len(found)
    assert told(yard, f"since={yard.now + 60}") == []


def test_what_follows_an_event_comes_oldest_first_and_what_is_before_it_newest_first(yard: Yard) -> None:
    lived_in(yard)
    ids = sorted(one["id"] for one in told(yard))
    middle = ids[len(ids) // 2]
    assert [one["id"] for one in told(yard, f"after={middle}")] == [one for one in ids if one > middle]
    assert [one["id"] for one in told(yard, f"before={middle}")] == [one for one in ids if one < middle][::-1]
    page = yard.http.get(f"{PREFIX}/events?limit=2").json()
    assert page["more"] is True and len(page["events"]) == 2


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("job=nobody", 404, "nobody"),
        ("host=nowhere", 404, "nowhere"),
        ("since=soon", 422, "since"),
        ("since=nan", 422, "since"),
        ("kind=failed,faild", 422, "faild"),
        ("by=", 422, "by"),
        ("limit=0", 422, "limit"),
        ("who=ann", 422, "who"),
    ],
)
def test_a_filter_that_can_t_be_read_is_named(yard: Yard, query: str, status: int, said: str) -> None:
    answer = yard.http.get(f"{PREFIX}/events?{query}")
    assert answer.status_code == status and said in answer.json()["error"]["message"]


def test_the_log_since_a_time(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="a")
    host.trace()
    for minute, text in enumerate(("first\n", "sécond\n", "third\n")):
        yard.now = 10_000.0 + 60 * minute
        offset = len("".join(("first\n", "sécond\n", "third\n")[:minute]).encode())
        host.report(attempts=[{"attempt_id": 1, "number": 1, "log_offset": offset, "log": text}])

    def log(query: str) -> dict[str, Any]:
        found: dict[str, Any] = yard.http.get(f"{PREFIX}/jobs/1/logs?{query}").json()
        return found

    assert log("")["text"] == "first\nsécond\nthird\n" and log("")["bytes"] == 20
    page = log("since=10060")
    assert (page["text"], page["offset"], page["next_offset"]) == ("sécond\nthird\n", 6, 20)
    page = log("since=10121")
    assert (page["text"], page["offset"], page["next_offset"]) == ("", 20, 20)
    assert log("since=nan")["error"]["faults"][0]["path"] == "since"
    assert log("since=1&offset=3")["error"]["faults"][0]["path"] == "since"
