"""An ended job is submitted again: what it goes on from, which changes it may have, and what is kept for it."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from tests.api.conftest import Yard
from tests.api.scheduling.test_scheduling import FakeHost, card, end
from tests.api.scheduling.test_travel import STEP, drain, kept

LIMIT = "its time limit of 1h00m is over"


@pytest.fixture
def host(yard: Yard) -> FakeHost:
    """Job 1 trained for its hour, to step 40."""
    made = FakeHost(yard, card(0, 2), name="a", home="/tmp/a")
    yard.submit(name="long", time_limit="1h", training={"steps": 1000})
    made.trace()
    ended(yard, made, 1, Outcome.TIMEOUT)
    return made


def ended(yard: Yard, host: FakeHost, attempt: int, outcome: Outcome, **fields: Any) -> None:
    at = {"steps": 45, "total_steps": 1000, "last_checkpoint": STEP, "checkpoint_bytes": 9, **fields}
    host.report(attempts=end(attempt, 1, outcome, **at))
    yard.tick()


def requeue(yard: Yard, job_id: int = 1, code: int = 201, **body: Any) -> Any:
    overrides = body.pop("overrides", {})
    answer = yard.http.post(f"{PREFIX}/jobs/{job_id}/requeue", json={"overrides": overrides, **body})
    assert answer.status_code == code, answer.text
    return answer.json() if code == 201 else answer.json()["error"]


def told(yard: Yard) -> dict[str, Any]:
    yard.tick()
    found: dict[str, Any] = yard.dispatch.started[-1]["assignments"][0]
    return found


def test_a_longer_time_limit_goes_on_from_the_checkpoint(yard, host):
    why = yard.http.get(f"{PREFIX}/jobs/1/why").json()
    assert why["advice"] == ["`tuneyard requeue 1 --set time_limit=2h` goes on from step 40"]
    made = requeue(yard, overrides={"time_limit": "8h"})
    assert made["id"] == 2
    assert made["goes_on"] == {
        "job": 1,
        "step": 40,
        "text": "goes on from step 40 of job 1",
        "changes": ["time_limit 3600s -> 28800s"],
    }
    given = told(yard)
    assert (given["job_id"], given["continues"], given["kept"]) == (2, 1, [])
    assert given["spec"]["time_limit"] == "28800s"


def test_on_another_host_it_is_told_whose_checkpoint_it_fetches(yard, host):
    b = FakeHost(yard, card(9, 2), name="b", home="/tmp/b")
    b.report()
    drain(yard, True, host)
    requeue(yard)
    told(yard)
    (place,) = kept(yard)
    assert (place["host"], place["step"], place["job_id"]) == ("a", 40, 1)


def test_what_waits_counts_as_done_what_it_goes_on_from(yard, host):
    requeue(yard)
    yard.tick()
    _, decided, _ = yard.services.controller.seen
    assert 2 in decided.starts
    fleet = yard.services.controller.seen[0]
    (waits,) = fleet.queue
    assert (waits.steps_done, waits.steps_left, waits.home) == (40, 960, host.id)


@pytest.mark.parametrize(
    ("overrides", "path", "sides", "why"),
    [
        ({"method.rank": 8}, "method.rank", "16 -> 8", "the checkpoint holds another adapter"),
        (
            {"training.seed": 1, "time_limit": "8h"},
            "training.seed",
            "0 -> 1",
            "the steps that are done were made of other batches",
        ),
        (
            {"training.sequence_length": 64},
            "training.sequence_length",
            "1024 -> 64",
            "the steps that are done were made of other batches",
        ),
        (
            {"model.dtype": "float32"},
            "model.dtype",
            "bfloat16 -> float32",
            "the checkpoint holds the weights of another model",
        ),
        (
            {"model.config.num_hidden_layers": 3},
            "model.config.num_hidden_layers",
            "2 -> 3",
            "the checkpoint holds the weights of another model",
        ),
    ],
)
def test_what_was_trained_otherwise_is_refused_unless_it_is_to_begin_anew(
    overrides, path, sides, why, yard, host
):
    error = requeue(yard, code=422, overrides=overrides)
    (fault,) = error["faults"]
    assert fault["path"] == path
    assert fault["problem"] == f"can't change ({sides}) where a job goes on from step 40 of job 1: {why}"
    assert fault["fix"] == "--from-start trains from step 0 with it"
    assert yard.http.get(f"{PREFIX}/jobs").json()["total"] == 1
    made = requeue(yard, overrides=overrides, from_start=True)
    assert (made["goes_on"]["job"], made["goes_on"]["text"]) == (None, "begins at step 0")
    assert told(yard)["continues"] is None


def test_a_new_schedule_holds_from_there_on(yard, host):
    made = requeue(yard, overrides={"training.steps": 2000, "training.learning_rate": 1e-5})
    assert made["goes_on"]["text"] == (
        "goes on from step 40 of job 1, from there on with "
        "training.learning_rate 0.0002 -> 1e-05, training.steps 1000 -> 2000"
    )


def test_fewer_steps_than_are_done_are_refused(yard, host):
    error = requeue(yard, code=422, overrides={"training.steps": 30})
    assert "training.steps: is less than the 40 steps already done (given: 30)" in error["message"]
    assert requeue(yard, overrides={"training.steps": 40})["goes_on"]["step"] == 40


@pytest.mark.parametrize(
    ("overrides", "path"),
    [({"training.stepz": 3}, "training.stepz"), ({"time_limit": "8"}, "time_limit"), ({"after": 1}, "after")],
)
def test_a_change_that_is_none_is_named(overrides, path, yard, host):
    error = requeue(yard, code=422, overrides=overrides)
    assert path in error["message"]
    assert yard.http.get(f"{PREFIX}/jobs").json()["total"] == 1


def test_a_job_without_a_checkpoint_begins_at_step_0_and_says_why(yard):
    yard.submit(name="a")
    yard.http.post(f"{PREFIX}/jobs/1/cancel")
    made = requeue(yard, overrides={"method.rank": 8})
    assert made["goes_on"]["text"] == "begins at step 0: job 1 has no checkpoint"


def test_a_job_that_succeeded_is_done_again(yard, host):
    requeue(yard)
    yard.tick()
    ended(yard, host, 2, Outcome.SUCCEEDED, steps=1000)
    made = requeue(yard, 2)
    assert made["goes_on"]["text"].startswith("begins at step 0: job 2 succeeded")


def test_a_chain_goes_on_from_whoever_has_the_checkpoint(yard, host):
    requeue(yard)
    yard.http.post(f"{PREFIX}/jobs/2/cancel")
    assert requeue(yard, 2)["goes_on"]["job"] == 1
    yard.tick()
    ended(yard, host, 2, Outcome.TIMEOUT, steps=90, last_checkpoint=f"{STEP[:-2]}80")
    assert requeue(yard, 3)["goes_on"] | {"changes": 0} == {
        "job": 3,
        "step": 80,
        "text": "goes on from step 80 of job 3",
        "changes": 0,
    }


def test_checkpoints_stay_while_a_job_that_goes_on_from_them_waits(yard, host):
    yard.now += 6 * 86_400
    requeue(yard)
    yard.now += 3 * 86_400
    assert host.report(kept=[1])["drop"] == []
    yard.http.post(f"{PREFIX}/jobs/2/cancel")
    assert host.report(kept=[1])["drop"] == []
    yard.now += 7 * 86_400
    assert host.report(kept=[1])["drop"] == [1]
    assert "have been removed" in requeue(yard, 2)["goes_on"]["text"]


def test_a_job_that_waits_to_go_on_keeps_its_weights(yard, host):
    """`tuneyard set` would else have it begin again without a word."""
    drain(yard, True, host)
    requeue(yard)
    answer = yard.http.patch(f"{PREFIX}/jobs/2", json={"overrides": {"method.rank": 8}})
    assert answer.status_code == 422, answer.text
    (fault,) = answer.json()["error"]["faults"]
    assert (fault["path"], fault["fix"]) == (
        "method.rank",
        "`tuneyard cancel 2`, then `tuneyard requeue 2 --set method.rank=.. --from-start`",
    )
    assert yard.http.patch(f"{PREFIX}/jobs/2", json={"overrides": {"time_limit": "9h"}}).status_code == 200


def test_a_job_that_has_not_ended_is_refused(yard):
    yard.submit(name="a")
    assert "only an ended job can be requeued" in requeue(yard, code=409)["message"]
