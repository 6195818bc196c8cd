"""The best checkpoint by the rows held out, early stopping, how many checkpoints stay."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from jobs.jobfile.sections.training import EarlyStopping
from jobs.messages.reports import Assignment
from jobs.state import Outcome
from tests.workers.builders import claimed, make_assignment
from workers.attempt_folder import AttemptFolder, checkpoints_root
from workers.checkpoints.folders import listed
from workers.trainer.saving.best import best_of, stands_still
from workers.trainer.train import train

# A rate at which the loss falls, and then rises with every step.
RISES = {"learning_rate": 5.0, "steps": 12, "eval_steps": 1, "max_grad_norm": 0, "scheduler": "constant"}


def losses_of(folder: AttemptFolder) -> dict[int, float]:
    lines = [json.loads(line) for line in folder.evaluations_path.read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if line.get("loss") is not None}


def job(rows: Path, tokenizer: Path, **training: Any) -> Assignment:
    return make_assignment(rows, tokenizer, holdout=0.25, training={**RISES, **training})


def test_it_ends_once_the_loss_stands_still(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    assignment = job(rows, tokenizer, early_stopping={"patience": 2})
    folder = claimed(tmp_path, assignment)
    ended = train(assignment, folder, tmp_path, tmp_path / "out")
    assert ended.outcome is Outcome.SUCCEEDED and ended.result
    assert 3 <= ended.steps < 12
    assert "stopped early: no better loss on the rows held out in 2 evaluations" in ended.message
    losses = list(losses_of(folder).values())
    assert len(losses) == ended.steps and min(losses[-2:]) >= min(losses[:-2])


def test_an_attempt_after_an_early_end_trains_no_more(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    first = job(rows, tokenizer, early_stopping={"patience": 2})
    ended = train(first, claimed(tmp_path, first), tmp_path, tmp_path / "out")
    again = first.model_copy(update={"attempt_id": 2, "number": 2})
    second = train(again, claimed(tmp_path, again), tmp_path, tmp_path / "other")
    assert second.outcome is Outcome.SUCCEEDED and second.steps == ended.steps
    assert second.train_s is None, "only its result was made"


def test_the_result_is_of_the_best_checkpoint(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    assignment = job(rows, tokenizer, keep_best=True, checkpoint_steps=1)
    folder = claimed(tmp_path, assignment)
    ended = train(assignment, folder, tmp_path, tmp_path / "out")
    losses = losses_of(folder)
    best = min(losses, key=lambda step: losses[step])
    assert best < 11, "older than what is kept anyhow"
    assert f"the result is of step {best}, with a loss of {losses[best]:.4f}" in ended.message
    kept = {step: path for path, step in listed(checkpoints_root(tmp_path, assignment.job_id))}
    assert set(kept) == {best, 11, 12}
    result = load_file(Path(ended.result or "") / "model.safetensors")
    expected, last = (load_file(kept[step] / "model.safetensors") for step in (best, 12))
    assert all(result[name].equal(weight) for name, weight in expected.items())
    assert not all(result[name].equal(weight) for name, weight in last.items())


def test_how_many_checkpoints_stay(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    training = {"steps": 5, "checkpoint_steps": 1, "keep_checkpoints": 3}
    assignment = make_assignment(rows, tokenizer, training=training)
    train(assignment, claimed(tmp_path, assignment), tmp_path, tmp_path / "out")
    assert [step for _, step in listed(checkpoints_root(tmp_path, assignment.job_id))] == [3, 4, 5]


@pytest.mark.parametrize(
    ("losses", "patience", "threshold", "still"),
    [
        ([], 1, 0, False),
        ([1.0, 0.9, 0.8], 1, 0, False),
        ([1.0, 1.0], 1, 0, True),
        ([1.0, 1.1, 0.9], 2, 0, False),
        ([1.0, 0.95, 0.91], 2, 0.1, True),
        ([math.nan, math.nan], 2, 0, True),
    ],
)
def test_when_a_loss_stands_still(losses: list[float], patience: int, threshold: float, still: bool) -> None:
    early = EarlyStopping(patience=patience, threshold=threshold)
    assert stands_still(list(enumerate(losses, 1)), early) is still


def test_which_step_is_the_best() -> None:
    assert best_of([(1, 2.0), (2, 1.0), (3, 1.0), (4, math.nan)]) == 2
    assert best_of([(1, math.nan), (2, math.inf)]) is None
