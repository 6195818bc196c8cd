"""What follows a training: made of `then` at submission, started where the result is, shown with the job."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.messages.reports import Assignment
from jobs.state import Code, JobState, Outcome
from orchestrator.api.app import PREFIX
from tests.api.submission.test_jobs import faults
from tests.builders import a_report, an_end, joined, news, opened

JOBS = f"{PREFIX}/jobs"
MADE = {"kl": 2e-7, "max_kl": 1e-4}


def submitted(yard: Any, **sections: Any) -> dict[str, Any]:
    sections = {"name": "tune", "then": ["merge"], **sections}
    answer = yard.http.post(JOBS, json={"jobs": [yard.job(**sections)], "user": "ada"})
    assert answer.status_code == 201, answer.text
    return answer.json()


def trained(
    yard: Any, job_id: int, host_id: int, gpu_ids: list[int], result: str | None = "/out/job-1-tune"
) -> None:
    """The job's training, to its end, as a host tells it."""
    store = yard.services.store
    attempt = opened(store, store.job(job_id), host_id, gpu_ids, yard.now)
    tell(yard, host_id, attempt, an_end(result=result))


def tell(yard: Any, host_id: int, attempt: Any, ended: Any = None) -> None:
    yard.services.store.record_report(
        host_id,
        a_report(news(attempt, **({"ended": ended} if ended else {})), gpus=2, ray_ready=True),
        yard.now,
    )
    yard.tick()


def running(yard: Any, step: int) -> Any:
    (attempt,) = yard.services.store.attempts(step)
    return attempt


def test_a_step_is_a_job_of_its_own_that_waits_for_the_training(yard):
    answer = submitted(yard)
    assert [job["id"] for job in answer["jobs"]] == [1]
    assert answer["steps"] == [{"job": 2, "kind": "merge", "of": 1}]
    shown = yard.http.get(f"{JOBS}/2").json()
    assert (shown["name"], shown["step"], shown["step_of"], shown["gpus"]) == ("tune-merge", "merge", 1, 0)
    assert shown["after"] == [{"job": 1, "on": "success", "state": "queued"}]
    assert "then" not in shown["spec"] and shown["spec"]["step"] == {"merge": {}, "takes": "job"}
    assert [step["job"] for step in yard.http.get(f"{JOBS}/1").json()["steps"]] == [2]
    yard.tick()
    assert yard.services.store.job(2).reason.code is Code.AFTER


def test_each_job_of_a_sweep_has_its_steps_and_asking_again_makes_no_more(yard):
    body = {"jobs": [yard.job(name="lr", then=["merge"], matrix={"training.steps": [1, 2]})], "user": "ada"}
    first = yard.http.post(JOBS, json=body, headers={"Idempotency-Key": "k"}).json()
    assert [job["id"] for job in first["jobs"]] == [1, 2] and first["groups"][0]["jobs"] == [1, 2]
    assert [(step["job"], step["of"]) for step in first["steps"]] == [(3, 1), (4, 2)]
    again = yard.http.post(JOBS, json=body, headers={"Idempotency-Key": "k"}).json()
    assert again["again"] and again["steps"] == first["steps"] and len(again["jobs"]) == 2
    assert [job["id"] for job in yard.http.get(f"{JOBS}?group=lr").json()["jobs"]] == [2, 1]


@pytest.mark.parametrize(
    ("sections", "path", "words"),
    [
        ({"then": ["merge"], "method": "full"}, "then.0", "leave merge out"),
        (
            {"then": ["merge"], "trainer": "kto"},
            "then.0",
            "trainer is kto; leave merge out",
        ),
        ({"then": ["quantise"]}, "then.0", "known here: merge"),
        ({"then": [{"merge": {"rows": 0}}]}, "then.0.merge.rows", "from 1 to 1000"),
        ({"then": [], "step": {"merge": {}}}, "step", "then: [merge]"),
    ],
)
def test_what_can_not_follow_is_refused(yard, sections, path, words):
    answer = yard.http.post(JOBS, json={"jobs": [yard.job(**sections)]})
    assert words in faults(answer)[path]
    assert yard.http.get(JOBS).json()["total"] == 0


def test_a_quantised_base_needs_its_original_named(yard):
    folder = yard.data.parent / "packed"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"model_type": "llama", "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true}}'
    )
    answer = yard.http.post(JOBS, json={"jobs": [yard.job(model={"path": str(folder)}, then=["merge"])]})
    assert "is quantised; name the model that it was made from" in faults(answer)["then.0.merge.base"]
    named = yard.job(model={"path": str(folder)}, then=[{"merge": {"base": "org/base"}}])
    assert "then.0.merge.base" not in yard.http.post(JOBS, json={"jobs": [named]}).text


def test_it_runs_where_the_result_is_without_a_card_and_says_what_it_found(yard):
    submitted(yard)
    store = yard.services.store
    joined(store, "beta", steps=True)
    host_id, gpu_ids = joined(store, "alpha", 2, steps=True)
    trained(yard, 1, host_id, gpu_ids[:1])
    assert store.job(1).state is JobState.SUCCEEDED
    step = running(yard, 2)
    assert step.host_id == host_id and step.gpus == () and store.gpus()[0].job_id is None
    sent = Assignment.model_validate(yard.dispatch.started[-1]["assignments"][0])
    assert sent.taken and sent.taken.folder == "/out/job-1-tune"
    assert sent.taken.owner.job_uuid == store.job(1).uuid and sent.mine.job_uuid == store.job(2).uuid
    assert sent.gpus == [] and sent.world_size == 1 and sent.spec.step

    ended = an_end(steps=0, message="merged into org/base", result="/out/job-2-tune-merge", made=MADE)
    tell(yard, host_id, step, ended)
    shown = yard.http.get(f"{JOBS}/1").json()["steps"][0]
    assert (
        shown["state"] == "succeeded" and shown["made"] == MADE and shown["result"] == "/out/job-2-tune-merge"
    )
    assert shown["reason"]["text"] == "merged into org/base"
    (tried,) = yard.http.get(f"{JOBS}/2").json()["attempts_detail"]
    assert tried["made"] == MADE and tried["rung"] is None and tried["card_bytes"] is None
    assert "pull 2" in yard.http.get(f"{JOBS}/2/why").json()["advice"][0]
    assert yard.http.get(JOBS).json()["total"] == 2


def test_a_host_runs_one_step_at_a_time_and_an_older_one_none(yard):
    submitted(yard), submitted(yard)
    store = yard.services.store
    host_id, gpu_ids = joined(store, "alpha", 2, steps=True)
    for job, gpu in ((1, gpu_ids[:1]), (3, gpu_ids[1:])):
        trained(yard, job, host_id, gpu)
    first = running(yard, 2)
    yard.tick()
    assert store.attempts(4) == [] and store.job(4).reason.code is Code.BUSY
    assert "that of job 2 now" in yard.http.get(f"{JOBS}/4/why").json()["job"]["reason"]["text"]
    tell(yard, host_id, first, an_end(made=MADE))
    assert running(yard, 4).host_id == host_id

    old, cards = joined(store, "old")
    submitted(yard)
    attempt = opened(store, store.job(5), old, cards, yard.now)
    store.record_report(
        old, a_report(news(attempt, ended=an_end(result="/r")), host="old", ray_ready=True), yard.now
    )
    yard.tick()
    yard.tick()
    assert store.attempts(6) == [] and "upgrade it" in store.job(6).reason.text


def test_it_is_tried_again_where_it_was_lost_and_fails_for_its_own_faults(yard):
    submitted(yard, then=[{"merge": {"retries": 1}}])
    store = yard.services.store
    host_id, gpu_ids = joined(store, "alpha", 2, steps=True)
    trained(yard, 1, host_id, gpu_ids[:1])
    tell(yard, host_id, running(yard, 2), an_end(Outcome.LOST, steps=0, message="the process ended"))
    assert [attempt.outcome for attempt in store.attempts(2)] == [Outcome.LOST, None]
    for number in (2, 3):
        yard.now += 60
        tell(yard, host_id, store.attempts(2)[-1])
        assert len(store.attempts(2)) == number
        tell(yard, host_id, store.attempts(2)[-1], an_end(Outcome.FAILED, steps=0, message="no such tensor"))
    assert store.job(2).state is JobState.FAILED and "failed after 2 tries" in store.job(2).reason.text
    assert store.job(1).state is JobState.SUCCEEDED
    advice = yard.http.get(f"{JOBS}/2/why").json()["advice"]
    assert "`tuneyard requeue 2` runs it again" in advice[1]
    copy = yard.http.post(f"{JOBS}/2/requeue").json()
    assert (copy["step"], copy["step_of"]) == ("merge", 1)
    yard.tick()
    assert running(yard, copy["id"]).host_id == host_id


def test_a_step_is_cancelled_and_ends_where_its_training_fails(yard):
    submitted(yard), submitted(yard)
    store = yard.services.store
    host_id, gpu_ids = joined(store, "alpha", 2, steps=True)
    trained(yard, 1, host_id, gpu_ids[:1])
    assert yard.http.post(f"{JOBS}/2/cancel").status_code == 200
    assert running(yard, 2).stop_requested_at is not None
    tell(yard, host_id, running(yard, 2), an_end(Outcome.CANCELLED, steps=0))
    assert store.job(2).state is JobState.CANCELLED
    attempt = opened(store, store.job(3), host_id, gpu_ids[:1], yard.now)
    tell(yard, host_id, attempt, an_end(Outcome.FAILED, bad_input=True, message="no rows"))
    yard.tick()
    assert store.job(4).state is JobState.FAILED and store.job(4).reason.code is Code.AFTER


def test_a_training_that_is_submitted_again_has_its_steps_again(yard):
    submitted(yard)
    store = yard.services.store
    yard.http.post(f"{JOBS}/1/cancel")
    yard.tick()
    copy = yard.http.post(f"{JOBS}/1/requeue").json()
    (step,) = store.steps_of([copy["id"]])[copy["id"]]
    assert [link.after_id for link in store.links([step.id])[step.id]] == [copy["id"]]
    answer = yard.http.post(f"{JOBS}/1/requeue", json={"overrides": {"then": []}})
    assert "is settled when a job is submitted" in faults(answer)["then"]
