"""A job that gets an id which the backup did not know has nothing of the one that had it before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from tests import invariants
from tests.api.scheduling.test_scheduling import HOST
from tests.restore.conftest import Fleet
from tests.workers.builders import prompt_rows, write_rows


def test_a_new_job_begins_at_step_1_beside_the_checkpoints_of_one_that_had_its_id(fleet: Fleet) -> None:
    copy = fleet.backup()
    job = fleet.submit()
    before = fleet.handed()
    assert fleet.train(before, until=4).outcome is Outcome.PREEMPTED
    fleet.forget(before)
    fleet.restore(copy)
    write_rows(
        fleet.rows, prompt_rows(128)[64:]
    )  # under the same path: the digest of what decides is the same
    assert fleet.submit() == job
    after = fleet.handed()
    assert (after.job_id, after.attempt_id, after.number) == (
        before.job_id,
        before.attempt_id,
        before.number,
    )
    assert fleet.train(after).outcome is Outcome.SUCCEEDED
    assert fleet.steps(after) == [1, 2, 3, 4, 5, 6, 7, 8]
    (kept,) = fleet.root.glob("aside/job-1-????????/checkpoints")
    assert [path.name for path in kept.iterdir()] != [], "set aside, not deleted"
    invariants.check_folders(fleet.store, fleet.root)


def test_its_result_lies_beside_the_one_that_is_there(fleet: Fleet) -> None:
    copy = fleet.backup()
    job = fleet.submit()
    before = fleet.handed()
    first = fleet.train(before)
    fleet.forget(before)
    weights = (Path(str(first.result)) / "model.safetensors").read_bytes()
    fleet.restore(copy)
    write_rows(fleet.rows, prompt_rows(128)[64:])
    assert fleet.submit() == job
    second = fleet.train(fleet.handed())
    assert second.outcome is Outcome.SUCCEEDED and second.result != first.result
    assert (Path(str(first.result)) / "model.safetensors").read_bytes() == weights
    assert (Path(str(second.result)) / "model.safetensors").read_bytes() != weights


def test_a_job_that_the_backup_knows_goes_on(fleet: Fleet) -> None:
    fleet.submit()
    first = fleet.handed()
    copy = fleet.backup()
    ended = fleet.train(first, until=4)
    fleet.ended(first, ended)
    second = fleet.handed()
    ended = fleet.train(second, until=6)  # the backup does not know this attempt, but its job
    fleet.forget(second)
    fleet.restore(copy)
    fleet.ended(first, ended)
    third = fleet.handed()
    assert (third.attempt_id, third.number) == (second.attempt_id, second.number)
    assert third.uuid != second.uuid and third.epoch > second.epoch
    assert fleet.train(third).outcome is Outcome.SUCCEEDED
    assert fleet.steps(third)[-1] == 8 and fleet.steps(third)[0] > 6
    assert not list(fleet.root.glob("aside/*"))
    invariants.check_folders(fleet.store, fleet.root)


def test_a_job_goes_on_from_another_after_a_restore(fleet: Fleet) -> None:
    job = fleet.submit(time_limit="1h")
    first = fleet.handed()
    fleet.ended(first, fleet.train(first, until=4).model_copy(update={"outcome": Outcome.TIMEOUT}))
    copy = fleet.backup()
    fleet.restore(copy)
    answer = fleet.yard.http.post(f"{PREFIX}/jobs/{job}/requeue", json={"overrides": {"time_limit": "8h"}})
    assert answer.status_code == 201, answer.text
    heir = fleet.handed()
    assert (heir.job_id, heir.continues) == (2, job)
    assert fleet.train(heir, until=6).outcome is Outcome.PREEMPTED
    assert fleet.steps(heir)[0] == 6
    invariants.check_folders(fleet.store, fleet.root)


def test_an_upgraded_fleet_goes_on_from_checkpoints_without_uuids(fleet: Fleet) -> None:
    fleet.join(named=False)
    fleet.submit()
    first = fleet.handed()
    older = first.model_copy(update={"uuid": "", "epoch": 0, "owner": None})  # what its trainer makes of it
    fleet.ended(older, fleet.train(older, until=4))
    fleet.join(named=True)
    second = fleet.handed()
    assert second.mine.unnamed == (first.attempt_id,)
    fleet.train(second, until=7)
    assert fleet.steps(second)[0] == 6 and not list(fleet.root.glob("aside/*"))


def test_an_agent_without_uuids_is_refused_once_a_database_was_restored(fleet: Fleet) -> None:
    info: dict[str, Any] = {**HOST, "name": "old", "gpus": []}
    assert fleet.yard.http.post(f"{PREFIX}/hosts/join", json=info).status_code == 200
    fleet.restore(fleet.backup())
    refused = fleet.yard.http.post(f"{PREFIX}/hosts/join", json=info)
    assert refused.status_code == 409 and "upgrade it" in refused.text


@pytest.mark.parametrize("given", ["epoch", "host"])
def test_a_report_of_before_is_answered_with_join_anew(fleet: Fleet, given: str) -> None:
    news = {"boot": "b", "sent": 1, "gpus": [], "epoch": fleet.host.epoch, "host": "h1"}
    wrong = {"epoch": {"epoch": fleet.host.epoch - 1}, "host": {"host": "another"}}[given]
    route = f"{PREFIX}/hosts/{fleet.host.id}/report"
    assert fleet.yard.http.post(route, json=news).status_code == 200
    assert fleet.yard.http.post(route, json={**news, **wrong}).status_code == 404


def test_what_hosts_set_aside_is_told(fleet: Fleet) -> None:
    job = fleet.submit()
    thing = {"name": "job-1-0a1b2c3d", "ts": 1.0, "text": "the folder of another job", "job_id": job}
    fleet.host.report(aside=[thing])
    (host,) = fleet.yard.http.get(f"{PREFIX}/hosts").json()["hosts"]
    assert host["aside"] == ["the folder of another job, in aside/job-1-0a1b2c3d"]
    events = fleet.yard.http.get(f"{PREFIX}/jobs/{job}").json()["events"]
    assert events[-1]["text"] == "set aside on h1: the folder of another job"
