"""A gang over several hosts, from the job file to its end, with hosts played by the test."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from tests.api.scheduling.test_scheduling import FakeHost, card, job

GANG = {"resources": {"gpus": 2, "across_hosts": True}, "training": {"global_batch": 4}}


def two_hosts(yard) -> tuple[FakeHost, FakeHost]:
    """a has one card, b has one."""
    return FakeHost(yard, card(0, 2), name="a", home="/tmp/a"), FakeHost(
        yard, card(1, 2), name="b", home="/tmp/b"
    )


def running(yard, **sections: Any) -> tuple[FakeHost, FakeHost]:
    """The gang runs on both."""
    a, b = two_hosts(yard)
    yard.submit(name="wide", **{**GANG, **sections})
    start(yard, a, b)
    return a, b


def start(yard, a: FakeHost, b: FakeHost) -> None:
    a.trace()
    b.report()
    yard.tick()
    assert job(yard)["state"] == "running", job(yard)["reason"]


def up(host: FakeHost, attempt: int = 1, number: int = 1) -> dict[str, Any]:
    """Its ranks run."""
    started = {"ts": 0.5, "pid": 1, "create_time": 1.0}
    return host.report(
        attempts=[{"attempt_id": attempt, "number": number, "started": started}], running=[attempt]
    )


def ends(
    host: FakeHost, outcome: Outcome, attempt: int = 1, number: int = 1, **fields: Any
) -> dict[str, Any]:
    ended = {"ts": 1.0, "outcome": outcome, "message": "as it says", **fields}
    return host.report(attempts=[{"attempt_id": attempt, "number": number, "ended": ended}])


def stops(host: FakeHost) -> list[tuple[str, float]]:
    return [(stop["reason"], stop["grace_s"]) for stop in host.report()["stops"]]


def test_it_starts_on_both_with_an_assignment_for_each(yard):
    a, b = running(yard)
    (handed,) = yard.dispatch.started
    first, second = handed["parts"]
    assert (first["host"], second["host"]) == ("a", "b")
    assert first["home"].startswith("/tmp/a/") and second["home"].startswith("/tmp/b/")
    ranks = [(given["rank"], given["host"], given["hosts"]) for given in handed["assignments"]]
    assert ranks == [(0, "a", ["a", "b"]), (1, "b", ["a", "b"])]
    assert [card["uuid"] for card in handed["assignments"][1]["gpus"]] == ["cpu-0", "cpu-1"]
    shown = job(yard)
    assert (shown["host"], shown["hosts"], shown["reason"]["text"]) == ("a", ["a", "b"], "starting on a, b")
    (attempt,) = shown["attempts_detail"]
    assert (attempt["hosts"], [gpu["host"] for gpu in attempt["gpus"]]) == (["a", "b"], ["a", "b"])
    leads = [[(one["attempt_id"], one["lead"]) for one in host.report()["attempts"]] for host in (a, b)]
    assert leads == [[(1, True)], [(1, False)]]


@pytest.mark.parametrize(
    ("resources", "problem", "fix"),
    [
        ({"gpus": 2}, "is more than any host has (1)", "use at most 1, or set resources.across_hosts: true"),
        ({"gpus": 4}, "is more than any host has (1)", "use at most 1"),
        ({"gpus": 4, "across_hosts": True}, "is more than all hosts together have (2)", "use at most 2"),
    ],
)
def test_more_gpus_than_there_are_is_refused(yard, resources, problem, fix):
    two_hosts(yard)
    wanted = {"jobs": [yard.job(resources=resources, training={"global_batch": 4})]}
    answer = yard.http.post(f"{PREFIX}/jobs", json=wanted)
    (fault,) = answer.json()["error"]["faults"]
    assert (answer.status_code, fault["problem"], fault["fix"]) == (422, problem, fix)


def test_without_leave_it_stays_on_one_host_and_says_what_would_do(yard):
    yard.submit(resources={"gpus": 2}, training={"global_batch": 4})  # before any host joins
    a, b = two_hosts(yard)
    a.trace()
    b.report()
    yard.tick()
    shown = job(yard)
    assert (shown["state"], shown["reason"]["code"]) == ("queued", "gang")
    assert "resources.across_hosts: true would" in shown["reason"]["text"]
    why = yard.http.get(f"{PREFIX}/jobs/1/why").json()
    assert any("across_hosts" in line for line in why["advice"])


def test_why_says_how_many_cards_it_lacks(yard):
    a, b = two_hosts(yard)
    b.report(gpus=[card(1, 2, fault="broken")])
    yard.submit(name="wide", **GANG)
    a.trace()
    assert job(yard)["reason"]["text"].startswith("needs 2 cards; 1 of 1 that it fits are free")
    b.report()
    why = yard.http.get(f"{PREFIX}/jobs/1/why").json()
    assert why["hosts"][0]["verdict"].startswith("would start on cpu 2.00 GiB")


def test_its_end_is_that_of_the_lead_and_comes_once_no_rank_runs_any_more(yard):
    a, b = running(yard)
    up(a), up(b)
    assert ends(b, Outcome.SUCCEEDED)["stops"] == []
    yard.tick()
    assert (job(yard)["state"], stops(a)) == ("running", []), "rank 0 still writes the result"
    ends(a, Outcome.SUCCEEDED, steps=10, result="/tmp/x", device_bytes=7)
    yard.tick()
    shown = job(yard)
    assert (shown["state"], shown["measured_bytes"]) == ("succeeded", 7)
    assert shown["attempts_detail"][0]["result"] == "/tmp/x"
    assert [ends(host, Outcome.SUCCEEDED)["forget"] for host in (a, b)] == [[1], [1]]


def test_the_others_are_given_time_to_exit_once_the_lead_is_done(yard):
    a, b = running(yard)
    ends(a, Outcome.SUCCEEDED)
    yard.tick()
    assert job(yard)["state"] == "running", "cards of b are not free while its ranks run"
    assert stops(b) == [("stale", 15.0)]
    ends(b, Outcome.LOST, message="ended by force (stale)", echo=True)
    yard.tick()
    assert job(yard)["state"] == "succeeded"


@pytest.mark.parametrize("echo_first", [True, False], ids=["echo first", "cause first"])
def test_a_rank_that_fails_is_why_it_ends_and_not_those_that_only_followed(yard, echo_first):
    a, b = running(yard)
    up(a), up(b)
    told = [
        lambda: ends(
            a, Outcome.FAILED, message="gloo: closed", echo=True, steps=7, last_checkpoint="/c/step-5"
        ),
        lambda: ends(b, Outcome.OOM, message="memory ran out", rank=1, device_bytes=99),
    ]
    for number, tell in enumerate(told if echo_first else reversed(told)):
        tell()
        yard.tick()
        if number == 0:
            assert job(yard)["state"] == "running", "the other's ranks still run"
            assert stops(a) == stops(b) == [("stale", 5.0)]
    (attempt,) = job(yard)["attempts_detail"][:1]
    assert (attempt["outcome"], attempt["message"]) == ("oom", "rank 1 on b: memory ran out")
    assert (attempt["steps"], attempt["last_checkpoint"]) == (7, "/c/step-5")
    assert attempt["measured"]["device_bytes"] == 99


def test_ranks_that_only_lost_each_other_are_lost(yard):
    a, b = running(yard)
    for host in (a, b):
        ends(host, Outcome.FAILED, message="gloo: closed", echo=True)
    yard.tick()
    first = job(yard)["attempts_detail"][0]
    assert (first["outcome"], first["message"]) == ("lost", "the ranks lost each other: gloo: closed")


def test_a_host_that_falls_silent_ends_it_once_the_other_has_ended_its_ranks(yard):
    a, b = running(yard)
    up(a), up(b)
    yard.now += yard.services.settings.lost_after_s + 1
    up(a)
    yard.tick()
    assert job(yard)["state"] == "running"
    assert stops(a) == [("stale", 5.0)]
    ends(a, Outcome.LOST, message="ended by force (stale)", echo=True, last_checkpoint="/c/step-5", steps=5)
    yard.tick()
    shown = job(yard)
    first = shown["attempts_detail"][0]
    assert shown["state"] == "queued" and first["outcome"] == "lost"
    assert first["message"].startswith("rank 1 on b: host b has not been heard of")
    gpus = {gpu["host"]: gpu["job"] for gpu in yard.http.get(f"{PREFIX}/gpus").json()["gpus"]}
    assert gpus == {"a": None, "b": None}
    (row,) = yard.services.store.fleet_rows().queued
    controller = yard.services.controller
    rows = yard.services.store.fleet_rows(now=yard.now)
    (waits,) = controller.snapshots.take(rows, controller.settings, yard.now).fleet.queue
    assert row.id == waits.job_id
    assert (waits.home, waits.shaky) == (a.id, frozenset({b.id})), "a has the checkpoint, b let it down"


def test_rank_0_goes_where_the_checkpoint_is(yard):
    a, b = running(yard)
    up(a), up(b)
    ends(a, Outcome.FAILED, message="gloo: closed", echo=True)
    ends(b, Outcome.LOST, message="died", rank=1)
    yard.tick()
    assert job(yard)["attempts"] == 2, "both cards were free"
    # As if rank 0 had been on b.
    store = yard.services.store
    assert store.attempt(2).host == "a"
    up(a, 2, 2)
    ends(b, Outcome.PREEMPTED, 2, 2)
    ends(a, Outcome.PREEMPTED, 2, 2, steps=4, last_checkpoint="/c/step-4")
    yard.tick()
    assert yard.dispatch.started[-1]["parts"][0]["host"] == "a"


def test_every_host_is_told_to_stop_and_the_lead_says_how_it_ended(yard):
    a, b = running(yard)
    up(a), up(b)
    assert yard.http.post(f"{PREFIX}/jobs/1/cancel").status_code == 200
    assert [reason for host in (a, b) for reason, _ in stops(host)] == ["cancelled", "cancelled"]
    ends(b, Outcome.CANCELLED, message="stopped after step 5", rank=1)
    yard.tick()
    assert job(yard)["state"] == "running"
    ends(a, Outcome.CANCELLED, message="stopped after step 5", steps=5, last_checkpoint="/c/step-5")
    yard.tick()
    shown = job(yard)
    assert (shown["state"], shown["attempts_detail"][0]["message"]) == ("cancelled", "stopped after step 5")


def test_one_that_never_starts_is_ended_on_every_host(yard):
    a, b = running(yard)
    yard.now += yard.services.settings.start_deadline_s + 1
    a.report(), b.report()
    yard.tick()
    assert job(yard)["state"] == "running" and stops(b) == [("stale", 5.0)]
    ends(b, Outcome.LOST, message="ended (stale) before a trainer started", echo=True)
    yard.tick()
    first = job(yard)["attempts_detail"][0]
    assert first["outcome"] == "not_started" and "no trainer came up on a" in first["message"]


def test_a_start_that_is_refused_ends_it_at_once(yard):
    running(yard)
    yard.dispatch.said.append(
        {"event": "refused", "attempt_id": 1, "host": "b", "text": "host b is not in the Ray cluster"}
    )
    yard.tick()
    assert job(yard)["attempts_detail"][0]["outcome"] == "not_started"


def test_a_drained_host_takes_no_part(yard):
    a, b = two_hosts(yard)
    yard.submit(name="wide", **GANG)
    yard.http.post(f"{PREFIX}/hosts/{b.id}/drain", json={"drained": True})
    a.trace()
    assert job(yard)["state"] == "queued"
    yard.http.post(f"{PREFIX}/hosts/{b.id}/drain", json={"drained": False})
    b.report()
    yard.tick()
    assert job(yard)["state"] == "running"
