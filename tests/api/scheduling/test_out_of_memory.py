"""Running out of memory: a rung down or a larger card, what was missed counts at once, and `accuracy` shows it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from jobs.cards import card_for
from jobs.jobfile.spec import JobSpec
from jobs.memory.ladder import Choice, choose
from jobs.state import Outcome
from jobs.units import GiB
from orchestrator.api.app import PREFIX
from tests.api.conftest import Yard
from tests.api.scheduling.test_scheduling import FakeHost, card, end, job
from tests.profiles import small_profile

PROFILE = small_profile(layers=4, layer_bytes_a_token=40_000)
SIZES: dict[str, Any] = {"training": {"sequence_length": 1024, "global_batch": 8}, "method": "lora"}
FIXED = {"memory": {"checkpointing": "off", "micro_batch": 8}}


def snug(yard: Yard, **sections: Any) -> float:
    """GiB of a card that the fastest rung just fits."""
    spec = JobSpec.model_validate(yard.job(**SIZES | sections)["spec"])
    found = choose(PROFILE, spec, card_for("cpu", "cpu", 64 * GiB))
    assert isinstance(found, Choice)
    return found.projection.upper_bytes / GiB * 1.01


def traced(yard: Yard, host: FakeHost) -> None:
    """Answer what the server asks, until it asks for nothing."""
    yard.tick()
    while wanted := host.report()["traces"]:
        for one in wanted:
            told = {"key": one["key"], "profile": PROFILE.as_dict()} if one["key"] else {}
            if one.get("data_key"):
                told |= {"data_key": one["data_key"], "data_error": "not looked at in this test"}
            host.report(traces=[told])
        yard.tick()
    yard.tick()


def run_out(yard: Yard, host: FakeHost, number: int = 1, **measured: Any) -> None:
    """The job's open attempt runs out of memory."""
    attempt = job(yard, number)["attempts_detail"][-1]
    assert attempt["outcome"] is None
    host.report(attempts=end(attempt["id"], attempt["number"], Outcome.OOM, device_bytes=1000, **measured))
    yard.tick()
    host.report()


def batch(attempt: dict[str, Any]) -> int:
    return int(attempt["rung"]["micro_batch"] * attempt["rung"]["accumulation"])


def test_a_job_that_ran_out_of_memory_goes_on_a_rung_down_and_keeps_its_retries(yard):
    size = snug(yard)
    host = FakeHost(yard, card(0, size))
    yard.submit(**SIZES, retries=1)
    traced(yard, host)
    run_out(yard, host)
    shown = job(yard)
    first, second = shown["attempts_detail"]
    assert (first["outcome"], second["outcome"]) == ("oom", None)
    assert second["projection"]["device_bytes"] < first["projection"]["device_bytes"]
    assert second["rung"] != first["rung"] and batch(first) == batch(second) == 8
    requeued = next(event for event in shown["events"] if event["kind"] == "requeued")
    assert "memory ran out" in requeued["text"] and "1 of 3" in requeued["text"]
    stored = yard.services.store.attempts(1)[-1]
    assert stored.basis["margin"][1] > size * GiB / first["projection"]["device_bytes"] - 1
    host.report(attempts=end(second["id"], 2, Outcome.FAILED))
    yard.tick()
    assert job(yard)["state"] == "queued", "the failure spends its one retry, which running out did not"


def test_it_ends_after_a_set_number_of_times(yard):
    controller = yard.services.controller
    controller.settings = dataclasses.replace(controller.settings, oom_requeues=2)
    host = FakeHost(yard, card(0, snug(yard)))
    yard.submit(**SIZES)
    traced(yard, host)
    peaks = []
    for _ in range(3):
        peaks.append(job(yard)["attempts_detail"][-1]["projection"]["device_bytes"])
        run_out(yard, host)
    shown = job(yard)
    assert (shown["state"], shown["reason"]["code"]) == ("failed", "oom")
    assert "3 times by now" in shown["reason"]["text"] and shown["reason"]["figures"]["times"] == 3
    assert peaks == sorted(peaks, reverse=True) and len(set(peaks)) == 3


def test_the_next_job_like_it_is_planned_right_the_first_time(yard):
    host = FakeHost(yard, card(0, snug(yard)))
    yard.submit(**SIZES)
    traced(yard, host)
    run_out(yard, host)
    second = job(yard)["attempts_detail"][-1]
    host.report(attempts=end(second["id"], 2, Outcome.SUCCEEDED, device_bytes=1000, step_s=1.0))
    yard.submit(name="another", **SIZES)
    traced(yard, host)
    (attempt,) = job(yard, 2)["attempts_detail"]
    assert attempt["rung"] == second["rung"]


def test_where_nothing_smaller_fits_it_ends_with_figures_and_suggestions(yard):
    host = FakeHost(yard, card(0, snug(yard, **FIXED)))
    yard.submit(**SIZES | FIXED)
    traced(yard, host)
    run_out(yard, host)
    shown = job(yard)
    assert (shown["state"], shown["reason"]["code"]) == ("failed", "oom")
    assert "nothing that needs less fits any card" in shown["reason"]["text"]
    figures = shown["reason"]["figures"]
    assert figures["needs_bytes"] > 0 and figures["card_bytes"] == host.cards[0]["memory_bytes"]
    assert any("checkpointing: auto" in line for line in figures["suggestions"])
    assert any("qlora" in line for line in figures["suggestions"])


@pytest.mark.parametrize("there", ["free", "drained", "away"])
def test_a_larger_card_is_taken_or_waited_for(yard, there):
    size = snug(yard, **FIXED)
    host = FakeHost(yard, card(0, size))
    other = FakeHost(yard, card(9, 8 * size), name="h2")
    yard.submit(**SIZES | FIXED)
    traced(yard, host)
    other.report()
    if there == "drained":
        yard.http.post(f"{PREFIX}/hosts/{other.id}/drain", json={"drained": True})
    if there == "away":
        yard.now += 60
        host.report()
    run_out(yard, host)
    if there == "free":
        shown = job(yard)
        assert (shown["state"], shown["host"]) == ("running", "h2")
        first, second = shown["attempts_detail"]
        assert first["rung"] == second["rung"], "what the user fixed is kept"
        return
    assert (job(yard)["state"], job(yard)["reason"]["code"]) == ("queued", "memory")
    yard.http.post(f"{PREFIX}/hosts/{other.id}/drain", json={"drained": False})
    other.report()
    yard.tick()
    assert (job(yard)["state"], job(yard)["host"]) == ("running", "h2")


def test_accuracy_shows_coverage_and_the_worst_misses(yard):
    empty = yard.http.get(f"{PREFIX}/accuracy").json()
    assert empty["attempts"] == [] and empty["coverage"]["share"] is None
    host = FakeHost(yard, card(0, snug(yard)))
    yard.submit(name="tight", **SIZES)
    traced(yard, host)
    run_out(yard, host)
    second = job(yard)["attempts_detail"][-1]
    projected = second["projection"]["device_bytes"]
    measured = round(projected * 1.01)
    host.report(attempts=end(second["id"], 2, Outcome.SUCCEEDED, device_bytes=measured, step_s=7.0))
    yard.tick()
    found = yard.http.get(f"{PREFIX}/accuracy").json()
    assert found["coverage"] == {"covered": 1, "of": 2, "share": 0.5, "asked": 0.95}
    assert [row["outcome"] for row in found["worst"]] == ["oom", "succeeded"]
    assert found["worst"][0]["error"] > found["worst"][1]["error"] == pytest.approx(0.01, abs=1e-4)
    assert found["worst"][0]["name"] == "tight" and found["worst"][1]["attempt"] == 2
    device = next(figure for figure in found["figures"] if figure["figure"] == "device")
    assert device["count"] == 1 and device["bias"] == pytest.approx(0.01, abs=1e-4)
    (group,) = found["groups"]
    assert (group["family"], group["method"], group["card"]) == ("llama", "lora", "cpu")
    assert group["high"] >= found["worst"][0]["error"]
    assert group["speed"] == pytest.approx(7.0 / second["projection"]["step_s"])
    assert found["left_out"] == {}
    short = yard.http.get(f"{PREFIX}/accuracy?limit=1").json()
    assert len(short["attempts"]) == 1 and short["left_out"] == {"older": 1}
    assert yard.http.get(f"{PREFIX}/accuracy?limit=0").status_code == 422


@pytest.mark.parametrize("measured", [{}, {"device_bytes": 1000}])
def test_a_trainer_that_ran_out_by_a_signal_is_a_miss_whatever_was_measured(yard, measured):
    """The host says it for the trainer (workers/agent/death_cause.py), with the memory of the last line if there
    was one.
    """
    host = FakeHost(yard, card(0, snug(yard)))
    yard.submit(**SIZES)
    traced(yard, host)
    host.report(attempts=end(1, 1, Outcome.OOM, message="memory ran out on cpu", **measured))
    yard.tick()
    found = yard.http.get(f"{PREFIX}/accuracy").json()
    assert (found["coverage"]["covered"], found["coverage"]["of"]) == (0, 1)
    assert [row["outcome"] for row in found["worst"]] == ["oom"] and found["worst"][0]["error"] > 0
    assert found["groups"][0]["high"] >= found["worst"][0]["error"]


def both(yard) -> list[tuple[float | None, str | None]]:
    """The error of each measured attempt and why it has none, as accuracy says, and as show does."""
    rows = yard.http.get(f"{PREFIX}/accuracy").json()["attempts"]
    for row in rows:
        shown = job(yard, row["job"])["attempts_detail"][row["attempt"] - 1]
        assert shown["errors"]["device_bytes"] == row["error"]
        assert shown["not_comparable"] == row["not_comparable"]
    return [(row["error"], row["not_comparable"]) for row in rows]


def test_show_and_accuracy_speak_of_one_error(yard):
    host = FakeHost(yard, card(0, snug(yard)))
    yard.submit(**SIZES)
    traced(yard, host)
    run_out(yard, host)
    projected = job(yard)["attempts_detail"][-1]["projection"]["device_bytes"]
    host.report(attempts=end(2, 2, Outcome.SUCCEEDED, device_bytes=round(projected * 1.25), step_s=7.0))
    yard.tick()
    (ran_out, _), (over, why_not) = both(yard)
    assert over == pytest.approx(0.25, abs=1e-4) and why_not is None  # took more than projected: above zero
    assert ran_out > 0


def test_what_says_nothing_of_a_projection_is_no_error_and_is_counted(yard):
    size = snug(yard)
    host = FakeHost(yard, card(0, 50 * size), card(1, size))
    told = {
        "roomy": {"device_bytes": 5 * 2**30, "step_s": 1.0},
        "short": {"device_bytes": 1000},
        "gone": {},
    }
    for name, news in told.items():
        needs = {"resources": {"min_memory": f"{10 * size:.3f}GiB"}} if name == "roomy" else {}
        number = yard.submit(name=name, **SIZES, **needs)["id"]
        traced(yard, host)
        (attempt,) = job(yard, number)["attempts_detail"]
        outcome = Outcome.CANCELLED if name == "gone" else Outcome.SUCCEEDED
        host.report(attempts=end(attempt["id"], 1, outcome, **news))
        yard.tick()
    assert both(yard) == [(None, "roomy_card"), (None, "no_peak")]
    found = yard.http.get(f"{PREFIX}/accuracy").json()
    assert found["left_out"] == {"roomy_card": 1, "no_peak": 1, "unmeasured": 1}
    assert found["worst"] == [] and found["counted"] == 0
