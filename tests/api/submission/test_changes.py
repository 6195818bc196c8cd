"""set, hold and release through the API; and who asked for what."""

from __future__ import annotations

import dataclasses

import pytest
from fastapi import Request

from jobs.state import Outcome
from orchestrator.api.actors import actor, address_of
from orchestrator.api.app import PREFIX
from orchestrator.config import read_proxies
from tests.api.scheduling.test_scheduling import FakeHost, card, end, job
from tests.api.submission.test_jobs import faults

JOBS = f"{PREFIX}/jobs"
ANNA = {"X-Tuneyard-User": "anna"}


def change(yard, number=1, base_dir=None, **overrides):
    body = {"overrides": {path.replace("__", "."): value for path, value in overrides.items()}}
    return yard.http.patch(f"{JOBS}/{number}", json={**body, "base_dir": base_dir}, headers=ANNA)


def test_a_group_is_held_and_released(yard) -> None:
    yard.submit(name="other")
    body = {"jobs": [yard.job(name="lr", matrix={"training.seed": [1, 2]})]}
    group = yard.http.post(JOBS, json=body, headers=ANNA).json()["groups"][0]["id"]
    groups = f"{PREFIX}/groups"
    for name in (str(group), "lr"):
        held = yard.http.post(f"{groups}/{name}/hold", headers=ANNA).json()["jobs"]
        assert [(job["id"], job["reason"]["code"]) for job in held] == [(2, "held"), (3, "held")]
        assert yard.http.post(f"{groups}/{name}/hold").json() == {"jobs": []}
        freed = yard.http.post(f"{groups}/{name}/release", headers=ANNA).json()["jobs"]
        assert [(job["id"], job["reason"]["code"]) for job in freed] == [(2, "new"), (3, "new")]
    assert yard.http.post(f"{groups}/none/hold").status_code == 404


def test_a_held_job_waits_while_a_later_one_starts(yard):
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="a")
    yard.submit(name="b")
    assert yard.http.post(f"{JOBS}/a/hold", headers=ANNA).json()["reason"]["code"] == "held"
    host.trace()
    yard.tick()
    assert (job(yard, 1)["state"], job(yard, 2)["state"]) == ("queued", "running")
    assert job(yard, 1)["reason"]["text"] == "held by anna: `tuneyard release 1` lets it start"
    why = yard.http.get(f"{JOBS}/1/why").json()
    assert why["advice"] == ["`tuneyard release 1` lets it start"]
    host.report(attempts=end(1, 1, Outcome.SUCCEEDED))
    yard.tick()
    assert job(yard, 1)["state"] == "queued"
    assert yard.http.post(f"{JOBS}/1/release").json()["reason"]["code"] == "new"
    yard.tick()
    assert job(yard, 1)["state"] == "running"
    assert yard.http.post(f"{JOBS}/1/hold").status_code == 409


def test_what_comes_after_a_held_job_waits_with_it(yard):
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="a")
    yard.submit(name="b", after=1)
    yard.http.post(f"{JOBS}/1/hold")
    host.trace()
    yard.tick()
    assert [job(yard, number)["reason"]["code"] for number in (1, 2)] == ["held", "after"]


def test_a_submission_may_be_held(yard):
    body = {"jobs": [yard.job(name="a", matrix={"training.seed": [1, 2]})], "hold": True}
    made = yard.http.post(JOBS, json=body, headers=ANNA).json()["jobs"]
    assert [(one["user"], one["reason"]["code"]) for one in made] == [("anna", "held")] * 2
    FakeHost(yard, card(0, 2)).trace()
    assert [job(yard, number)["reason"]["figures"]["by"] for number in (1, 2)] == ["anna", "anna"]


def test_set_validates_the_whole_job_again(yard):
    yard.submit(training={"steps": 10})
    found = faults(change(yard, training__steps=0, memory__micro_batch=3, modle="x", after=[1]))
    assert "after" in found
    found = faults(change(yard, training__steps=0, memory__micro_batch=3, modle="x"))
    assert set(found) == {"training.steps", "memory.micro_batch", "modle"}
    assert "rank" in str(faults(change(yard, method__kind="full", method__rank=8)))
    assert job(yard)["spec"]["training"] == {"steps": 10}
    assert [event["kind"] for event in job(yard)["events"]] == ["submitted"]


def test_set_replaces_what_it_contradicts_and_the_event_says_so(yard):
    yard.submit(training={"steps": 10})
    assert change(yard, training__epochs=2).status_code == 200
    assert job(yard)["spec"]["training"] == {"epochs": 2}
    text = job(yard)["events"][-1]["text"]
    assert "training.steps 10 -> " in text and "training.epochs" in text


def test_set_is_as_if_the_job_had_been_submitted_so(yard, tmp_path):
    (tmp_path / "other.jsonl").write_text('{"text": "another"}\n' * 4)
    yard.submit(name="a")
    changed = change(yard, priority="high", data="other.jsonl", name="b", base_dir=str(tmp_path)).json()
    assert (changed["priority"], changed["name"]) == (75, "b")
    assert job(yard)["spec"]["data"] == {"path": str(tmp_path / "other.jsonl")}
    event = job(yard)["events"][-1]
    assert (event["kind"], event["by"], event["address"]) == ("changed", "anna", "testclient")
    assert "priority 50 -> 75" in event["text"]
    assert "data.path" in faults(change(yard, data="none.jsonl", base_dir=str(tmp_path)))
    again = change(yard, priority=75)
    assert (again.status_code, len(job(yard)["events"])) == (200, 2), "nothing changed, so nothing is noted"


def test_a_changed_job_is_profiled_and_placed_anew(yard):
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    yard.http.post(f"{JOBS}/1/hold")
    host.trace()
    change(yard, method="full", training__sequence_length=512)
    yard.http.post(f"{JOBS}/1/release")
    yard.tick()
    assert job(yard)["reason"]["code"] == "profile_pending", "another method has another profile"
    host.trace()
    yard.tick()
    assert job(yard)["state"] == "running"
    spec = yard.dispatch.started[0]["assignments"][0]["spec"]
    assert (spec["method"]["kind"], spec["training"]["sequence_length"]) == ("full", 512)


def test_what_a_running_job_may_change(yard):
    FakeHost(yard, card(0, 2)).trace()
    yard.submit()
    FakeHost(yard, card(0, 2)).trace()
    yard.tick()
    assert job(yard)["state"] == "running"
    assert change(yard, priority="low", retries=2).json()["priority"] == 25
    assert job(yard)["state"] == "running"
    refused = change(yard, training__steps=3, priority=1)
    assert refused.status_code == 422
    text = refused.json()["error"]["message"]
    assert "training.steps" in text and "`tuneyard cancel 1`" in text and "requeue 1 --set" in text
    assert job(yard)["priority"] == 25


def test_a_job_that_has_trained_changes_nothing_that_it_trains(yard):
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    host.trace()
    host.report(attempts=end(1, 1, Outcome.PREEMPTED))
    yard.http.post(f"{JOBS}/1/hold")
    yard.services.controller._take_reports(yard.now)
    assert job(yard)["state"] == "queued"
    refused = change(yard, model__dtype="float32")
    assert (refused.status_code, "model.dtype" in refused.json()["error"]["message"]) == (422, True)
    assert change(yard, resources__min_memory="1GiB", time_limit="2h").status_code == 200


def test_an_ended_job_is_not_changed(yard):
    yard.submit()
    yard.http.post(f"{JOBS}/1/cancel")
    refused = change(yard, priority=1)
    assert (refused.status_code, "requeue 1 --set" in refused.json()["error"]["message"]) == (409, True)


@pytest.mark.parametrize("body", [{}, {"overrides": {}}, {"overrides": {"a": 1}, "more": 1}, []])
def test_a_change_that_is_not_readable_is_refused(yard, body):
    yard.submit()
    assert yard.http.patch(f"{JOBS}/1", json=body).status_code == 422


def test_who_asked_is_recorded_for_every_action(yard):
    FakeHost(yard, card(0, 2))
    for number in range(3):
        yard.submit(name=f"job-{number}")
    anna = {"X-Tuneyard-User": "anna%20b%C3%B6ll"}
    for method, path, body in (
        ("POST", "jobs/1/hold", None),
        ("POST", "jobs/1/release", None),
        ("PATCH", "jobs/1", {"overrides": {"priority": 10}}),
        ("POST", "jobs/1/cancel", None),
        ("POST", "jobs/1/requeue", None),
        ("POST", "hosts/h1/drain", {"drained": True}),
        ("POST", "hosts/h1/drain", {"drained": False}),
        ("PUT", "projects/ours", {"weight": 2}),
        ("DELETE", "projects/ours", None),
    ):
        answer = yard.http.request(method, f"{PREFIX}/{path}", json=body, headers=anna)
        assert answer.status_code < 300, (path, answer.text)
    page = yard.http.get(f"{PREFIX}/audit").json()
    assert {(one["by"], one["address"]) for one in page["actions"]} == {("anna böll", "testclient")}
    kinds = [one["kind"] for one in reversed(page["actions"])]
    assert kinds == [
        *("held", "released", "changed", "cancelled", "copied"),
        *("host_drained", "host_resumed", "project_set", "project_removed"),
    ]
    assert page["actions"][0]["subject"] == "project ours"
    assert yard.http.get(f"{PREFIX}/audit?limit=2").json()["more"] is True
    assert yard.http.get(f"{PREFIX}/audit?limit=0").status_code == 422


def test_a_cancel_of_what_runs_says_who_asked(yard):
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    host.trace()
    yard.http.post(f"{JOBS}/1/cancel", headers=ANNA)
    asked = [one for one in job(yard)["events"] if one["kind"] == "cancel_requested"]
    assert [one["by"] for one in asked] == ["anna"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "found"),
    [
        ("10.0.0.9", "1.2.3.4", [], "10.0.0.9"),  # nobody is believed
        ("10.0.0.9", "1.2.3.4", ["10.0.0.2"], "10.0.0.9"),  # it did not come from the proxy
        ("10.0.0.2", "1.2.3.4", ["10.0.0.2"], "1.2.3.4"),
        ("10.0.0.2", "6.6.6.6, 1.2.3.4, 10.0.0.3", ["10.0.0.0/24"], "1.2.3.4"),  # what a client wrote itself
        ("10.0.0.2", "", ["10.0.0.2"], "10.0.0.2"),
        ("10.0.0.2", "unknown", ["10.0.0.2"], "10.0.0.2"),
        ("::1", "2001:db8::5", ["::1"], "2001:db8::5"),
        ("testclient", "1.2.3.4", ["10.0.0.0/8"], "testclient"),
    ],
)
def test_an_address_is_taken_from_trusted_proxies_alone(peer, forwarded, proxies, found):
    assert address_of(peer, forwarded, read_proxies(proxies)) == found


def test_a_stated_user_is_one_line_and_short(yard):
    scope = {"type": "http", "headers": [(b"x-tuneyard-user", b"an%0Ana%1b" + b"x" * 500)]}
    settings = dataclasses.replace(yard.services.settings, proxies=())
    app = type("App", (), {"state": type("S", (), {"services": type("V", (), {"settings": settings})})})
    found = actor(Request({**scope, "app": app, "client": ("10.0.0.7", 1)}))
    assert (found.user[:6], len(found.user), found.address) == ("annaxx", 100, "10.0.0.7")


def test_what_changes_besides_what_was_asked_for_is_named(yard):
    yard.submit(training={"steps": 10})
    found = change(yard, training__epochs=1).json()
    assert found["replaced"] == ["training.steps: 10 -> (not set)"]
    assert change(yard, priority="high").json()["replaced"] == []
    found = change(yard, model="org/other").json()
    named = {line.partition(":")[0] for line in found["replaced"]}
    assert {"model.config.model_type", "model.path"} <= named
    (text,) = (
        one["text"]
        for one in yard.http.get(f"{PREFIX}/jobs/1").json()["events"]
        if "model.path" in one["text"]
    )
    assert (
        "model.config.model_type llama -> (removed)" in text and "model.path (not set) -> org/other" in text
    )
    assert "(default)" not in text and "model.config (" not in text
