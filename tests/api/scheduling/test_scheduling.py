"""A job's way through the real controller, store and API, with hosts played by the test."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from jobs.memory.profile import MemoryProfile
from jobs.recovery import FIRST_BACKOFF_S
from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from orchestrator.store.requests import NewJob
from tests.profiles import small_profile

HOST = {
    "name": "h1",
    "machine_id": "m",
    "labels": {},
    "stack": {"torch": "2.13.0"},
    "model_types": ["llama"],
    "home": "/tmp/h1",
    "output_root": "/tmp/h1/output",
    "version": "0.1.0",
    "warm": 1,
}


def card(number: int, gib: float, **fields: Any) -> dict[str, Any]:
    memory = int(gib * 2**30)
    return {
        "uuid": f"cpu-{number}",
        "index": number,
        "kind": "cpu",
        "name": "cpu",
        "memory_bytes": memory,
        **fields,
    }


def of(wanted: dict[str, Any]) -> dict[str, Any]:
    """The start of an answer to a trace that the server asks for: nobody could count the data."""
    counted = {"data_key": wanted["data_key"], "data_error": "not available here"}
    return {"key": wanted["key"], **(counted if wanted["data_key"] else {})}


class FakeHost:
    """Joins and reports over the real API."""

    def __init__(self, yard, *cards: dict[str, Any], name: str = "h1", **info: Any) -> None:
        self.yard, self.cards = yard, list(cards)
        said = {"named": False, **HOST, "name": name, "gpus": self.cards, **info}
        joined = yard.http.post(f"{PREFIX}/hosts/join", json=said)
        assert joined.status_code == 200, joined.text
        self.id, self.named = joined.json()["host_id"], said["named"]
        self.epoch = joined.json()["epoch"] if self.named else 0

    def report(self, **news: Any) -> dict[str, Any]:
        body = {"boot": "b", "sent": self.yard.now, "gpus": self.cards, "ray_ready": True, **news}
        body["epoch"] = self.epoch
        answer = self.yard.http.post(f"{PREFIX}/hosts/{self.id}/report", json=body)
        assert answer.status_code == 200, answer.text
        orders: dict[str, Any] = answer.json()
        return orders

    def trace(self, profile: MemoryProfile | None = None) -> None:
        """Answer the trace that the server asks for."""
        self.yard.tick()
        for wanted in self.report()["traces"]:
            self.report(traces=[{**of(wanted), "profile": (profile or small_profile()).as_dict()}])
        self.yard.tick()


def job(yard, number: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = yard.http.get(f"{PREFIX}/jobs/{number}").json()
    return found


def end(attempt_id: int, number: int, outcome: Outcome, **measured: Any) -> list[dict[str, Any]]:
    ended = {"ts": 1.0, "outcome": outcome, "steps": 10, "message": "as asked", **measured}
    started = {"ts": 0.5, "pid": 1, "create_time": 1.0}
    return [{"attempt_id": attempt_id, "number": number, "started": started, "ended": ended}]


def test_from_submit_to_success_with_projected_beside_measured(yard):
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="a")
    yard.tick()
    assert job(yard)["reason"]["code"] == "profile_pending"
    host.trace()
    assert job(yard)["state"] == "running"
    (handed,) = yard.dispatch.started
    assignment = handed["assignments"][0]
    assert (assignment["job_id"], assignment["number"], assignment["rung"]["every_n"]) == (1, 1, 0)
    assert assignment["gpus"][0]["uuid"] == "cpu-0"
    assert assignment["upper_bytes"] == job(yard)["attempts_detail"][0]["projection"]["upper_bytes"]
    assert yard.dispatch.warm == {"h1": 1}
    host.report(attempts=end(1, 1, Outcome.SUCCEEDED, device_bytes=123, step_s=0.5, result="/tmp/x"))
    yard.tick()
    shown = job(yard)
    assert (shown["state"], shown["measured_bytes"]) == ("succeeded", 123)
    attempt = shown["attempts_detail"][0]
    assert attempt["measured"]["step_s"] == 0.5
    assert attempt["projection"]["device_bytes"] == sum(attempt["projection"]["parts"].values())
    (seen,) = yard.services.store.observations()
    assert seen.measured_device_bytes == 123
    assert seen.projected_device_bytes == attempt["projection"]["device_bytes"]
    assert host.report(attempts=end(1, 1, Outcome.SUCCEEDED))["forget"] == [1]


def test_a_job_that_fits_nowhere_says_so_with_numbers(yard):
    host = FakeHost(yard, card(0, 0.01))
    yard.submit()
    host.trace()
    shown = job(yard)
    assert (shown["state"], shown["reason"]["code"]) == ("queued", "memory")
    why = yard.http.get(f"{PREFIX}/jobs/1/why").json()
    assert why["hosts"][0]["code"] == "memory"
    assert "MiB" in why["hosts"][0]["verdict"]
    assert why["advice"]


def test_a_profile_that_can_not_be_traced_keeps_the_job_waiting_and_bad_input_ends_it(yard):
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    yard.tick()
    key = host.report()["traces"][0]["key"]
    host.report(traces=[{"key": key, "error": "out of time"}])
    yard.tick()
    assert job(yard)["reason"]["code"] == "profile_failed"
    assert "out of time" in job(yard)["reason"]["text"]
    yard.now += 400
    host.report()
    yard.tick()
    assert host.report()["traces"][0]["key"] == key
    host.report(traces=[{"key": key, "error": "method.targets: no module q", "bad_input": True}])
    yard.tick()
    shown = job(yard)
    assert (shown["state"], shown["reason"]["code"]) == ("failed", "bad_input")
    assert "no module q" in shown["reason"]["text"]


def test_a_sequence_longer_than_the_models_positions_ends_that_job_alone(yard):
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="long", training={"sequence_length": 4096})
    yard.submit(name="short", training={"sequence_length": 128})
    yard.tick()
    for wanted in host.report()["traces"]:
        made = dataclasses.replace(small_profile(), max_length=2048)
        host.report(traces=[{**of(wanted), "profile": made.as_dict()}])
    yard.tick()
    yard.tick()
    assert (job(yard, 1)["state"], job(yard, 1)["reason"]["code"]) == ("failed", "bad_input")
    assert "2048 positions" in job(yard, 1)["reason"]["text"]
    assert job(yard, 2)["state"] == "running"


def test_a_fault_that_one_host_sees_does_not_end_a_job_that_another_may_take(yard):
    host = FakeHost(yard, card(0, 2))
    other = FakeHost(yard, card(1, 2), name="h2", stack={"torch": "2.14.0"})
    other.report()
    yard.submit()
    yard.tick()
    (wanted,) = host.report()["traces"]
    host.report(traces=[{**of(wanted), "error": "model type x is not known", "bad_input": True}])
    yard.tick()
    assert job(yard)["state"] == "queued"
    for wanted in other.report()["traces"]:
        other.report(traces=[{**of(wanted), "profile": small_profile().as_dict()}])
    yard.tick()
    assert (job(yard)["state"], job(yard)["host"]) == ("running", "h2")


def test_a_profile_of_another_version_keeps_nobody_else_from_starting(yard):
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="strange", method="full")
    yard.submit(name="plain")
    yard.tick()
    first, second = host.report()["traces"]
    host.report(traces=[{**of(first), "profile": {**small_profile().as_dict(), "format": 99}}])
    host.report(traces=[{**of(second), "profile": small_profile().as_dict()}])
    yard.tick()
    states = {job(yard, number)["state"] for number in (1, 2)}
    assert states == {"queued", "running"}


def test_plan_answers_202_until_the_profile_is_there_then_marks_the_pick(yard):
    host = FakeHost(yard, card(0, 0.01), card(1, 2), card(2, 4))
    asked = {"job": yard.job(name="x")}
    first = yard.http.post(f"{PREFIX}/plan", json=asked)
    assert first.status_code == 202 and first.json()["pending"]
    for wanted in host.report()["traces"]:
        host.report(traces=[{**of(wanted), "profile": small_profile().as_dict()}])
    planned = yard.http.post(f"{PREFIX}/plan", json=asked).json()
    assert [entry["fits"] for entry in planned["cards"]] == [False, True, True]
    assert [entry["pick"] for entry in planned["cards"]] == [False, True, False]
    assert planned["cards"][0]["reason"]
    asked["job"]["spec"]["resources"] = {"min_memory": "3GiB"}
    planned = yard.http.post(f"{PREFIX}/plan", json=asked).json()
    assert [(entry["fits"], entry["pick"]) for entry in planned["cards"]] == [(False, False)] * 2 + [
        (True, True)
    ]
    assert "at least 3.00 GiB" in planned["cards"][1]["reason"]
    assert yard.http.get(f"{PREFIX}/jobs").json()["total"] == 0


def test_plan_has_cards_of_the_catalogue_and_prices_beside_the_fleet(yard):
    host = FakeHost(yard, card(1, 2))
    asked = {"job": yard.job(name="x"), "cards": ["l40s", "rtx4090:2GiB"], "prices": {"L40S": 0.9}}
    for _ in range(3):
        yard.http.post(f"{PREFIX}/plan", json=asked)
        for wanted in host.report()["traces"]:
            host.report(traces=[{**of(wanted), "profile": small_profile().as_dict()}])
    planned = yard.http.post(f"{PREFIX}/plan", json=asked).json()
    assert [(entry["card"], entry["count"]) for entry in planned["cards"]] == [
        ("cpu", 1),
        ("GeForce RTX 4090", 0),
        ("L40S", 0),
    ]
    assert [entry["pick"] for entry in planned["cards"]] == [True, False, False]
    assert [entry["price"] for entry in planned["cards"]] == [None, None, 0.9]
    assert planned["cards"][1]["memory_bytes"] == 2 * 2**30
    for entry in planned["cards"]:
        assert entry["step_s"] > 0 and entry["tokens_per_s"] > 0
        assert entry["basis"] == "prior"
        times = [tried["step_s"] for tried in entry["tried"] if tried["fits"]]
        assert min(times) >= 0.999 * entry["projection"]["step_s"]
    for body, words in (
        ({"cards": ["l40x"]}, "did you mean l40"),
        ({"prices": {"L40S": -1}}, "a price is a number from 0"),
        ({"cards": ["cpu"]}, "write how much, such as cpu:2GiB"),
    ):
        refused = yard.http.post(f"{PREFIX}/plan", json={"job": yard.job(), **body})
        assert refused.status_code == 422
        assert words in refused.json()["error"]["message"]


@pytest.mark.parametrize("wish", [{"gpus": 4}, {"card": "H100"}, {"min_memory": "64GiB"}], ids=str)
def test_plan_has_cards_of_the_catalogue_whatever_the_fleet_lacks(yard, wish):
    """No host has four cards, an H100, or 64 GiB: what one of the catalogue would do can be told all the same."""
    host = FakeHost(yard, card(1, 2))
    asked = {"job": yard.job(name="x", resources=wish), "cards": ["h100"]}
    assert yard.http.post(f"{PREFIX}/plan", json=asked).status_code == 202
    for wanted in host.report()["traces"]:
        host.report(traces=[{**of(wanted), "profile": small_profile().as_dict()}])
    planned = yard.http.post(f"{PREFIX}/plan", json=asked)
    assert planned.status_code == 200
    shown = {entry["card"]: entry["fits"] for entry in planned.json()["cards"]}
    assert shown == {"cpu": False, "H100 80GB HBM3": True}
    del asked["cards"]
    alone = yard.http.post(f"{PREFIX}/plan", json=asked)
    assert alone.status_code == (422 if "gpus" in wish else 200)


def test_plan_by_the_policy_of_the_job(yard):
    host = FakeHost(
        yard,
        card(0, 24, kind="cuda", uuid="GPU-0", name="NVIDIA L4"),
        card(1, 45, kind="cuda", uuid="GPU-1", name="NVIDIA L40S"),
    )
    busy = small_profile(flops_a_token=1e10)  # the faster card is to matter
    picks = {}
    for policy, prices in (
        ("smallest_card", {}),
        ("fastest", {}),
        ("cheapest", {"l4": 0.9, "l40s": 0.8}),
        ("cheapest", {}),
    ):
        asked = {"job": yard.job(resources={"policy": policy}), "prices": prices}
        for _ in range(3):
            yard.http.post(f"{PREFIX}/plan", json=asked)
            for wanted in host.report()["traces"]:
                host.report(traces=[{**of(wanted), "profile": busy.as_dict()}])
        planned = yard.http.post(f"{PREFIX}/plan", json=asked).json()
        picks[policy, len(prices)] = next(entry["card"] for entry in planned["cards"] if entry["pick"])
        assert any("has no prices" in line for line in planned["notes"]) == (
            policy == "cheapest" and not prices
        )
    assert picks == {
        ("smallest_card", 0): "NVIDIA L4",
        ("fastest", 0): "NVIDIA L40S",
        ("cheapest", 2): "NVIDIA L40S",
        ("cheapest", 0): "NVIDIA L4",
    }


def test_cancel_of_a_running_job_orders_a_stop_and_its_outcome_ends_it(yard):
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    host.trace()
    host.report(attempts=[{"attempt_id": 1, "number": 1, "started": {"ts": 1, "pid": 1, "create_time": 1}}])
    assert yard.http.post(f"{PREFIX}/jobs/1/cancel").json()["state"] == "running"
    stops = host.report()["stops"]
    assert [(stop["attempt_id"], stop["reason"]) for stop in stops] == [(1, "cancelled")]
    host.report(attempts=end(1, 1, Outcome.CANCELLED))
    yard.tick()
    assert job(yard)["state"] == "cancelled"


def test_a_silent_host_loses_its_job_and_an_old_report_changes_nothing(yard):
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    host.trace()
    yard.now += 1_000
    other = FakeHost(yard, card(5, 2), name="h2")
    other.report()
    yard.tick()
    yard.now += FIRST_BACKOFF_S
    other.report()
    yard.tick()
    shown = job(yard)
    assert [attempt["outcome"] for attempt in shown["attempts_detail"]] == ["not_started", None]
    assert shown["host"] == "h2"
    host.report(attempts=end(1, 1, Outcome.SUCCEEDED))
    yard.tick()
    assert job(yard)["state"] == "running"


@pytest.mark.parametrize("restarted", [False, True])
def test_a_refused_start_is_tried_again(yard, restarted):
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    host.trace()
    if restarted:  # a new dispatcher knows nothing: the attempt is handed over again
        yard.dispatch.generation += 1
        yard.tick()
        assert [handed["attempt_id"] for handed in yard.dispatch.started] == [1, 1]
        return
    yard.dispatch.said.append({"event": "refused", "attempt_id": 1, "text": "no raylet"})
    yard.tick()
    yard.now += FIRST_BACKOFF_S
    yard.tick()
    assert [attempt["outcome"] for attempt in job(yard)["attempts_detail"]] == ["not_started", None]


def test_more_gpus_than_any_host_has_is_refused_at_submit(yard):
    FakeHost(yard, card(0, 2))
    answer = yard.http.post(f"{PREFIX}/jobs", json={"jobs": [yard.job(resources={"gpus": 2})]})
    assert answer.status_code == 422
    assert answer.json()["error"]["faults"][0]["path"] == "resources.gpus"


def test_an_unknown_model_type_is_refused_with_a_suggestion(yard):
    FakeHost(yard, card(0, 2))
    body = yard.job()
    body["spec"]["model"]["config"]["model_type"] = "lama"
    answer = yard.http.post(f"{PREFIX}/jobs", json={"jobs": [body]})
    assert "did you mean llama?" in answer.json()["error"]["faults"][0]["fix"]


def test_hosts_cards_and_drain(yard):
    host = FakeHost(yard, card(0, 2), card(1, 4, fault="GPU is lost"))
    sample = {"uuid": "cpu-0", "ts": yard.now, "memory_used_bytes": 77}
    host.report(samples=[sample])
    (row,) = yard.http.get(f"{PREFIX}/hosts").json()["hosts"]
    assert (row["state"], row["gpus"], row["free"]) == ("online", 2, 1)
    gpus = yard.http.get(f"{PREFIX}/gpus").json()["gpus"]
    assert gpus[0]["sample"]["memory_used_bytes"] == 77
    assert gpus[1]["fault"] == "GPU is lost"
    for named, state in ((host.id, "drained"), ("h1", "online"), ("h1", "drained")):
        body = {"drained": state == "drained"}
        (shown,) = yard.http.post(f"{PREFIX}/hosts/{named}/drain", json=body).json()["hosts"]
        assert shown["state"] == state
    yard.submit()
    host.trace()
    assert job(yard)["reason"]["code"] == "no_host"
    why = yard.http.get(f"{PREFIX}/jobs/1/why").json()
    assert why["advice"] == ["`tuneyard host undrain h1` gives it jobs again"]
    for nobody in ("99", "h9"):
        refused = yard.http.post(f"{PREFIX}/hosts/{nobody}/drain", json={"drained": True})
        assert refused.status_code == 404 and "`tuneyard hosts` shows" in refused.text
    assert (
        yard.http.post(f"{PREFIX}/hosts/99/report", json={"boot": "b", "sent": 1, "gpus": []}).status_code
        == 404
    )


def test_a_stored_job_that_this_version_can_not_read_stops_nobody_else(yard):
    host = FakeHost(yard, card(0, 2))
    stored = yard.services.store.submit(
        [NewJob("odd", "ada", {"model": {"path": "org/model"}}, 100)], yard.now
    )
    yard.submit(name="fine")
    host.trace()
    yard.tick()
    assert job(yard, stored[0].id)["reason"]["code"] == "bad_input"
    assert job(yard, 2)["state"] == "running"
