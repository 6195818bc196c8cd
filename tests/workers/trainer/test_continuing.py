"""A job that goes on from another's checkpoint: taken over where it is, or fetched, if its weights are the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.messages.reports import Assignment, Ended, Kept
from jobs.state import Outcome
from tests.workers.builders import claimed, make_assignment
from tests.workers.checkpoints.test_transfer import Clock, Network
from tests.workers.trainer.test_rendezvous import homes
from tests.workers.trainer.test_stops import StopsAfter, losses, run
from workers.attempt_folder import AttemptFolder, checkpoints_root
from workers.checkpoints.folders import listed
from workers.checkpoints.manifest import MANIFEST, verify
from workers.trainer.saving.resume import follow_schedule
from workers.trainer.train import train


def job(
    rows: Path, tokenizer: Path, job_id: int, continues: int | None = None, **sections: Any
) -> Assignment:
    training = {"steps": 8, **sections.pop("training", {})}
    made = make_assignment(rows, tokenizer, job_id=job_id, attempt_id=job_id, training=training, **sections)
    return made.model_copy(update={"continues": continues})


def timed_out(home: Path, rows: Path, tokenizer: Path) -> Path:
    """Job 1 came to step 4."""
    stops = StopsAfter(home, 1, step=3, reason="timeout")
    ended = run(home, stops, job(rows, tokenizer, 1, time_limit="1h"))
    assert (ended.outcome, ended.steps) == (Outcome.TIMEOUT, 4)
    return Path(str(ended.last_checkpoint))


def go_on(home: Path, assignment: Assignment, network: Network | None = None) -> Ended:
    folder = claimed(home, assignment)
    return train(assignment, folder, home, home / "out", line_every_s=0.0, reach=network and network.reach)


def test_it_goes_on_as_if_it_had_had_that_time_limit(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    whole = run(tmp_path, AttemptFolder(tmp_path, 9), job(rows, tokenizer, 9))
    left = timed_out(tmp_path, rows, tokenizer)
    ended = go_on(tmp_path, job(rows, tokenizer, 2, continues=1, time_limit="8h"))
    assert (ended.outcome, ended.steps, ended.last_loss) == (Outcome.SUCCEEDED, 8, whole.last_loss)
    folder = AttemptFolder(tmp_path, 2)
    assert sorted(losses(folder)) == [5, 6, 7, 8]
    resumed = folder.resumed()
    assert resumed is not None and (resumed.step, resumed.job_id) == (4, 1)
    assert [step for _, step in listed(checkpoints_root(tmp_path, 2))] == [4, 8]
    shutil.rmtree(left)
    verify(checkpoints_root(tmp_path, 2) / left.name)  # its own does not need the other's


def test_it_is_fetched_from_the_host_that_has_it(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    a, b = homes(tmp_path)
    timed_out(a, rows, tokenizer)
    there = Kept(host="a", home=str(a), step=4, job_id=1)
    assignment = job(rows, tokenizer, 2, continues=1).model_copy(update={"kept": [there]})
    ended = go_on(b, assignment, Network({"a": a}, Clock(), piece=1 << 20))
    assert ended.outcome is Outcome.SUCCEEDED and sorted(losses(AttemptFolder(b, 2))) == [5, 6, 7, 8]


@pytest.mark.parametrize("fetched", [False, True], ids=["here", "there"])
@pytest.mark.parametrize("change", ["seed", "older"])
def test_other_weights_are_left_alone(
    change: str, fetched: bool, tmp_path: Path, tokenizer: Path, rows: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a job by that number with another job file, after a restore for instance; or one that says nothing."""
    a, b = homes(tmp_path)
    left = timed_out(a, rows, tokenizer)
    if change == "older":
        manifest = json.loads((left / MANIFEST).read_text())
        del manifest["weights_digest"]
        (left / MANIFEST).write_text(json.dumps(manifest))
    sections = {"training": {"seed": 5}} if change == "seed" else {}
    assignment = job(rows, tokenizer, 2, continues=1, **sections)
    if fetched:
        there = Kept(host="a", home=str(a), step=4, job_id=1)
        assignment = assignment.model_copy(update={"kept": [there]})
    go_on(b if fetched else a, assignment, Network({"a": a}, Clock(), piece=1 << 20))
    assert sorted(losses(AttemptFolder(b if fetched else a, 2)))[0] == 1


@pytest.mark.parametrize("older", [False, True])
def test_a_checkpoint_in_its_own_folder_must_be_its_own(
    older: bool, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    """Row ids come again after a restore. One of an older version says nothing, and was made for this folder."""
    left = timed_out(tmp_path, rows, tokenizer)
    if older:
        manifest = json.loads((left / MANIFEST).read_text())
        del manifest["weights_digest"]
        (left / MANIFEST).write_text(json.dumps(manifest))
    seed = {} if older else {"training": {"seed": 5}}
    assignment = job(rows, tokenizer, 1, **seed).model_copy(update={"attempt_id": 2, "number": 2})
    go_on(tmp_path, assignment)
    assert sorted(losses(AttemptFolder(tmp_path, 2)))[0] == (5 if older else 1)


def test_a_new_learning_rate_is_followed(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    timed_out(tmp_path, rows, tokenizer)
    assignment = job(rows, tokenizer, 2, continues=1, training={"learning_rate": 4e-3, "steps": 16})
    go_on(tmp_path, assignment)
    rates = {line.step: line.learning_rate for line in AttemptFolder(tmp_path, 2).progress()}
    assert rates == pytest.approx({step: 4e-3 * (16 - step + 1) / 16 for step in range(5, 17)})


def test_the_same_schedule_gives_the_same_rates_to_the_bit() -> None:
    def made() -> torch.optim.lr_scheduler.LambdaLR:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (7 - step) / 7)

    plain, followed = made(), made()
    for _ in range(5):
        plain.optimizer.step(), followed.optimizer.step()
        plain.step(), followed.step()
        follow_schedule(followed, 0.3)
        assert plain.optimizer.param_groups[0]["lr"] == followed.optimizer.param_groups[0]["lr"]
