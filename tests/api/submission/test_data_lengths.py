"""Lengths of a job's data: counted beside the trace, waited for, and what the plan makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
from safetensors.numpy import save_file

from jobs.memory.sequence_lengths import Lengths
from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from orchestrator.control.snapshot.sequence_lengths import (
    FRESH_S,
    LOOK_EVERY_S,
    PATIENCE_S,
    RECENT_S,
    RETRY_S,
    RecentLengths,
)
from tests.api.conftest import Yard
from tests.api.scheduling.test_scheduling import FakeHost, card, end, job
from tests.profiles import small_profile

SHORT = Lengths.counted({300: 5, 20: 95}, rows=100)
LONG_JOB = {"training": {"sequence_length": 4096, "global_batch": 8}}
WHOLE = {"memory": {"checkpointing": "off", "micro_batch": 8}}


def plan(yard: Yard, **sections: Any) -> dict[str, Any]:
    answer = yard.http.post(f"{PREFIX}/plan", json={"job": yard.job(**sections)})
    assert answer.status_code in (200, 202), answer.text
    found: dict[str, Any] = answer.json()
    return found


def answers(host: FakeHost, lengths: Lengths | None = SHORT) -> list[dict[str, Any]]:
    """Answer what the server asks the host for. Returns what that was."""
    wanted = host.report()["traces"]
    for one in wanted:
        told: dict[str, Any] = {}
        if one["key"]:
            told |= {"key": one["key"], "profile": small_profile().as_dict()}
        if one["data_key"]:
            found = {"lengths": lengths.as_dict()} if lengths else {"data_error": "no such file"}
            told |= {"data_key": one["data_key"], **found}
        host.report(traces=[told])
    return wanted


def asked(wanted: list[dict[str, Any]]) -> list[tuple[bool, bool]]:
    return [(bool(one["key"]), bool(one["data_key"])) for one in wanted]


def length_of(yard: Yard, number: int) -> int:
    """The sequence length that a job's projection was made for."""
    (attempt,) = yard.services.store.attempts(number)
    assert attempt.basis is not None
    found: int = attempt.basis["sequence_length"]
    return found


def test_a_job_is_projected_at_the_longest_row_of_its_data(yard: Yard) -> None:
    """4096 at most, 300 in fact: it starts on a card on which 4096 tokens would not fit."""
    host = FakeHost(yard, card(0, 64))
    needs: dict[int, int] = {}
    for length in (300, 4096):
        sections = {"training": {"sequence_length": length, "global_batch": 8}, **WHOLE}
        plan(yard, **sections)
        answers(host, None)
        needs[length] = plan(yard, **sections)["cards"][0]["projection"]["upper_bytes"]
    small = FakeHost(yard, card(9, (needs[300] + needs[4096]) / 2 / 2**30), name="small")
    yard.http.post(f"{PREFIX}/hosts/{host.id}/drain", json={"drained": True})
    yard.submit(**LONG_JOB, **WHOLE)
    yard.tick()  # its lengths could not be counted before
    assert (job(yard)["state"], job(yard)["reason"]["code"]) == ("queued", "memory")
    yard.data.write_text('{"text": "another file, and not yet counted"}\n')
    yard.submit(**LONG_JOB, **WHOLE)
    yard.tick()
    assert job(yard, 2)["reason"]["text"] == "the lengths of its data are being counted"
    assert asked(answers(small)) == [(False, True)]
    yard.tick()
    assert (job(yard, 2)["state"], job(yard, 2)["host"], length_of(yard, 2)) == ("running", "small", 300)
    assert job(yard, 2)["projected_bytes"] <= needs[300]


def test_a_host_without_a_library_for_the_model_gets_no_job(yard: Yard, tmp_path: Path) -> None:
    """Another one does, and this one once it has it or the folder needs none any more."""
    folder = tmp_path / "model"
    folder.mkdir()
    quantised = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    config: dict[str, Any] = yard.job()["spec"]["model"]["config"]
    (folder / "config.json").write_text(json.dumps({**config, **quantised}))
    save_file({"model.norm.weight": numpy.zeros(2)}, folder / "model.safetensors")
    model = {"model": {"path": str(folder), "tokenizer": "org/tokenizer"}, "method": "lora"}
    without = FakeHost(yard, card(0, 2))
    yard.submit(**model)
    yard.tick()
    answers(without)
    yard.tick()
    assert (job(yard)["state"], job(yard)["reason"]["code"]) == ("queued", "library")
    assert "has no optimum" in job(yard)["reason"]["text"] and "quantised" in job(yard)["reason"]["text"]
    assert "has no optimum" in str(plan(yard, **model))
    stack = {"torch": "2.13.0", "optimum": "1.27", "gptqmodel": "5.0"}
    other = FakeHost(yard, card(9, 2), name="with", stack=stack)
    yard.tick()
    answers(other)
    yard.tick()
    assert (job(yard)["state"], job(yard)["host"]) == ("running", "with")
    yard.submit(**model)
    yard.http.post(f"{PREFIX}/hosts/{other.id}/drain", json={"drained": True})
    yard.tick()
    assert job(yard, 2)["reason"]["code"] == "library"
    (folder / "config.json").write_text(json.dumps(config))
    yard.now += LOOK_EVERY_S
    without.report()
    yard.tick()
    answers(without)
    yard.tick()
    assert (job(yard, 2)["state"], job(yard, 2)["host"]) == ("running", "h1")


def test_one_order_asks_for_profile_and_lengths_and_later_data_alone(yard: Yard, tmp_path: Path) -> None:
    host = FakeHost(yard, card(0, 2), card(1, 2), card(2, 2), card(3, 2))
    yard.submit()
    yard.tick()
    assert asked(answers(host)) == [(True, True)]
    yard.submit()
    yard.tick()
    assert [job(yard, number)["state"] for number in (1, 2)] == ["running"] * 2  # nothing new to count
    assert answers(host) == []
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "a line"}\n')
    yard.submit(data=str(other))
    yard.tick()
    assert job(yard, 3)["reason"]["text"] == "the lengths of its data are being counted"
    assert asked(answers(host)) == [(False, True)]
    yard.tick()
    assert job(yard, 3)["state"] == "running"
    other.write_text('{"text": "a line that is longer"}\n')
    yard.submit(data=str(other))
    yard.tick()
    assert asked(host.report()["traces"]) == [(False, True)]


def test_data_that_nobody_can_count_holds_nobody_up(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit(training={"sequence_length": 256})
    yard.tick()
    answers(host, None)
    yard.tick()
    assert (job(yard)["state"], length_of(yard, 1)) == ("running", 256)
    assert job(yard)["data"] is None


def test_a_sample_bounds_nothing(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit(training={"sequence_length": 256})
    yard.tick()
    answers(host, Lengths.counted({20: 5}, rows=1000, sampled=True))
    yard.tick()
    assert length_of(yard, 1) == 256
    assert (job(yard)["data"]["sampled"], job(yard)["data"]["longest"]) == (True, 20)


def test_a_host_that_never_answers_is_waited_for_so_long(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    yard.tick()
    (wanted,) = host.report()["traces"]
    host.report(
        traces=[{"key": wanted["key"], "profile": small_profile().as_dict()}]
    )  # an old version's answer
    yard.tick()
    assert job(yard)["state"] == "queued"
    yard.now += PATIENCE_S
    host.report()
    yard.tick()
    assert job(yard)["state"] == "running"


def test_another_host_counts_when_the_first_goes_away(yard: Yard) -> None:
    first = FakeHost(yard, card(0, 2))
    yard.submit()
    yard.tick()
    assert asked(first.report()["traces"]) == [(True, True)]
    yard.now += 100
    second = FakeHost(yard, card(5, 2), name="h2")
    second.report()
    yard.tick()
    yard.tick()
    assert asked(answers(second)) == [(True, True)]
    yard.tick()
    assert (job(yard)["state"], job(yard)["host"]) == ("running", "h2")


def test_an_error_is_asked_again_after_a_while(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    plan(yard)
    answers(host, None)
    found = plan(yard)
    assert found["data"] is None
    assert "the data was not counted (no such file)" in found["notes"][0]
    assert answers(host) == []
    yard.now += RETRY_S
    host.report()
    assert "counted" in plan(yard)["text"]
    assert asked(answers(host)) == [(False, True)]
    assert plan(yard)["data"]["longest"] == 300


def test_data_written_anew_while_its_job_waits_is_counted_anew(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit(resources={"min_memory": "1GiB"}, training={"sequence_length": 512})
    yard.submit(resources={"min_memory": "1GiB"}, training={"sequence_length": 512})
    yard.tick()
    answers(host)
    yard.tick()
    assert [job(yard, number)["state"] for number in (1, 2)] == ["running", "queued"]
    yard.data.write_text('{"text": "written again, and longer than it was"}\n')
    yard.now += LOOK_EVERY_S
    host.report(attempts=end(1, 1, Outcome.SUCCEEDED))
    yard.tick()
    assert job(yard, 2)["state"] == "queued"
    assert asked(answers(host, Lengths.counted({512: 9}, rows=9))) == [(False, True)]
    yard.tick()
    assert (job(yard, 2)["state"], length_of(yard, 2)) == ("running", 512)


def test_plan_shows_the_data_and_suggests_packing(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    asked_for = {**LONG_JOB, "memory": {"micro_batch": 8}}
    assert plan(yard, **asked_for)["pending"]
    answers(host)
    found = plan(yard, **asked_for)
    data = found["data"]
    assert (data["rows"], data["longest"], data["p50"], data["p99"]) == (100, 300, 20, 300)
    assert data["mean"] == pytest.approx(SHORT.mean_tokens) and not data["sampled"]
    assert (found["sequence_length"], found["length"]) == (4096, 300)
    assert data["padding"] == pytest.approx(SHORT.padding_waste(8)) and data["padding"] > 0.3
    assert any("training.packing: true" in text for text in found["notes"])


def test_plan_waits_for_the_lengths_where_the_profile_is_known(yard: Yard, tmp_path: Path) -> None:
    host = FakeHost(yard, card(0, 2))
    plan(yard)
    answers(host)
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "a line"}\n')
    assert plan(yard, data=str(other))["text"] == "the lengths of its data are being counted"
    answers(host)
    assert plan(yard, data=str(other))["data"]["longest"] == 300


FAULT = "data.path: line 7: text is missing (given: /data/rows.jsonl)"


def refuses(host: FakeHost, missing: bool = False) -> list[dict[str, Any]]:
    """Answer that data, tokenizer or model won't do. Returns what was asked."""
    wanted = host.report()["traces"]
    for one in wanted:
        told: dict[str, Any] = {"data_key": one["data_key"], "data_error": FAULT, "data_bad_input": True}
        if one["key"]:
            told |= {"key": one["key"], "profile": small_profile().as_dict()}
        host.report(traces=[{**told, "data_missing": missing}])
    return wanted


def test_bad_data_ends_its_jobs_before_they_are_placed_and_names_the_row(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2), card(1, 2))
    yard.submit()
    yard.submit()
    yard.tick()
    assert asked(refuses(host)) == [(True, True)]
    yard.tick()
    for number in (1, 2):
        shown = job(yard, number)
        assert (shown["state"], shown["attempts"]) == ("failed", 0)
        assert (shown["reason"]["code"], shown["reason"]["text"]) == ("bad_input", FAULT)
        told = yard.http.get(f"{PREFIX}/jobs/{number}/why").json()
        assert "requeue" not in str(told["advice"]) and "`tuneyard submit`" in told["advice"][0]
    assert yard.dispatch.started == []


def test_bad_data_is_refused_by_plan(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    plan(yard)
    refuses(host)
    answer = yard.http.post(f"{PREFIX}/plan", json={"job": yard.job()})
    assert answer.status_code == 422 and FAULT in answer.text


def test_a_fault_is_looked_for_again_for_a_job_that_comes_later_or_when_the_file_changed(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    yard.tick()
    refuses(host)
    yard.tick()
    yard.data.write_text('{"text": "corrected"}\n')
    yard.submit()
    yard.now += 1
    yard.tick()
    assert asked(refuses(host)) == [(False, True)]
    yard.tick()
    assert job(yard, 2)["state"] == "failed"
    yard.now += FRESH_S + 1  # the same file; something else may have been put right
    host.report()
    yard.submit()
    yard.tick()
    assert job(yard, 3)["state"] == "queued"
    assert asked(answers(host)) == [(False, True)]
    yard.tick()
    assert job(yard, 3)["state"] == "running"


def test_what_is_missing_on_one_of_several_hosts_is_that_hosts_fault(yard: Yard) -> None:
    first, second = FakeHost(yard, card(0, 2)), FakeHost(yard, card(5, 2), name="h2")
    yard.submit()
    yard.tick()
    asked_first = refuses(first, missing=True)
    assert asked_first or refuses(second, missing=True)
    yard.tick()
    assert job(yard)["state"] == "running"


def test_what_is_missing_on_the_only_host_ends_the_job(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    yard.tick()
    refuses(host, missing=True)
    yard.tick()
    assert (job(yard)["state"], job(yard)["reason"]["code"]) == ("failed", "bad_input")


def test_jobs_of_one_file_that_differ_in_model_or_holdout_are_checked_apart(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    config = yard.job()["spec"]["model"]["config"]
    tokenizer = {"tokenizer": "org/tokenizer"}
    held = {"path": str(yard.data), "holdout": 0.5}
    for sections in (
        {"training": {"seed": 1}},
        {"training": {"seed": 2}},
        {"data": held, "training": {"seed": 1}},
        {"data": held, "training": {"seed": 2}},
        {"model": {"config": {**config, "vocab_size": 128}, **tokenizer}},
    ):
        yard.submit(**sections)
    yard.tick()
    keys = {one["data_key"] for one in host.report()["traces"] if one["data_key"]}
    assert len(keys) == 3


def test_a_trainer_that_is_refused_its_input_is_not_tried_again(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit(retries=3)
    yard.tick()
    answers(host)
    yard.tick()
    host.report(attempts=end(1, 1, Outcome.FAILED, message=FAULT, bad_input=True))
    yard.tick()
    shown = job(yard)
    assert (shown["state"], shown["reason"]["code"], shown["reason"]["text"]) == (
        "failed",
        "bad_input",
        FAULT,
    )
    assert "requeue" not in yard.http.get(f"{PREFIX}/jobs/1/why").text


CUT = Lengths.counted({30: 4}, rows=40, dropped=36, longest_row=410)
SAID = (
    "36 of 40 rows are left out: no trained token is left within training.sequence_length 256 "
    "(longest row 410 tokens)"
)


def test_rows_that_are_left_out_are_told_by_plan_show_and_the_next_submit(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2), card(1, 2))
    sections = {"training": {"sequence_length": 256}}
    first = yard.http.post(f"{PREFIX}/jobs", json={"jobs": [yard.job(**sections)]}).json()
    assert first["warnings"] == []  # nobody has counted yet
    yard.tick()
    answers(host, CUT)
    yard.tick()
    data = job(yard)["data"]
    assert (data["left_out"], data["warnings"], data["longest_row"]) == (SAID, [SAID], 410)
    assert plan(yard, **sections)["data"]["warnings"] == [SAID]
    jobs = [yard.job(**sections), yard.job(**sections)]
    assert yard.http.post(f"{PREFIX}/jobs", json={"jobs": jobs}).json()["warnings"] == [SAID]


def test_data_that_changed_since_the_checkpoint_is_told_once(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    yard.tick()
    answers(host)
    yard.tick()
    text = "the data changed since step 4: 32 rows then, 40 now"
    line = {"ts": 1.0, "step": 5, "total_steps": 16, "note": text}
    started = {"ts": 0.5, "pid": 1, "create_time": 1.0}
    for _ in range(2):
        host.report(attempts=[{"attempt_id": 1, "number": 1, "started": started, "progress": [line]}])
    told = [event["text"] for event in job(yard)["events"] if event["kind"] == "data_changed"]
    assert told == [text]


def test_a_burst_of_submissions_reads_what_was_counted_once_a_second(yard: Yard) -> None:
    now, asked = [100.0], []

    class Told:
        def lengths(self, keys):  # type: ignore[no-untyped-def]
            asked.append(sorted(keys))
            return yard.services.store.lengths(keys)

    recent = RecentLengths(Told(), lambda: now[0])  # type: ignore[arg-type]
    for _ in range(3):
        assert recent.of(["a", "b"]) == {}
    assert recent.of(["b", "c"]) == {}
    assert asked == [["a", "b"], ["c"]]
    now[0] += RECENT_S + 0.1
    recent.of(["a"])
    recent.forget()
    recent.of(["a"])
    assert asked[2:] == [["a"], ["a"]]
