"""A job that gets an id which the backup did not know has nothing of the one that had it before."""

from __future__ import annotations

from jobs.state import Outcome
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
