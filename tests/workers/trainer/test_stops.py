"""Stopping, resuming, time limits: what an unfinished run leaves, and how the next goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.memory.project import Rung
from jobs.messages.reports import Ended, Progress
from jobs.state import Outcome
from tests.workers.builders import make_assignment
from workers.attempt_folder import STOP_REASONS, AttemptFolder, StopReason, checkpoints_root
from workers.checkpoints.folders import latest_good, listed
from workers.checkpoints.manifest import verify
from workers.trainer.ranks.decision import Decision
from workers.trainer.train import run_attempt, train


class StopsAfter(AttemptFolder):
    """Asked to stop as soon as a step is reported."""

    def __init__(self, host_home: Path, attempt_id: int, step: int, reason: StopReason) -> None:
        super().__init__(host_home, attempt_id)
        self._step, self._reason = step, reason

    def append_progress(self, progress: Progress) -> None:
        super().append_progress(progress)
        if progress.step == self._step:
            self.request_stop(self._reason)


def losses(folder: AttemptFolder) -> dict[int, float]:
    return {line.step: line.loss for line in folder.progress() if line.loss is not None}


def run(home: Path, folder: AttemptFolder, assignment: Any) -> Ended:
    assert folder.claim(assignment)
    return train(assignment, folder, home, home / "out", line_every_s=0.0)


def test_the_step_at_which_an_early_stop_compares_losses_has_a_line(
    tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    sweep = {"early_stop": {"after_steps": 4}}
    assignment = make_assignment(rows, tokenizer, training={"steps": 6}, sweep=sweep)
    folder = AttemptFolder(tmp_path, 1)
    assert folder.claim(assignment)
    train(assignment, folder, tmp_path, tmp_path / "out", line_every_s=1e6)
    assert sorted(losses(folder)) == [1, 4, 6]


@pytest.mark.parametrize(
    ("method", "rung"), [("full", Rung(0, 2, 2)), ({"kind": "lora", "dropout": 0.1}, Rung(1, 1, 4))]
)
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(
    method: Any, rung: Rung, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    def assignment(job_id: int, attempt_id: int) -> Any:
        return make_assignment(
            rows,
            tokenizer,
            job_id=job_id,
            attempt_id=attempt_id,
            rung=rung,
            method=method,
            training={"steps": 20},  # more than one pass over the 64 rows
        )

    whole = AttemptFolder(tmp_path, 1)
    assert run(tmp_path, whole, assignment(1, 1)).steps == 20

    first = StopsAfter(tmp_path, 2, step=17, reason="preempted")
    stopped = run(tmp_path, first, assignment(2, 2))
    assert (stopped.outcome, stopped.steps) == (Outcome.PREEMPTED, 18)
    checkpoint = latest_good(checkpoints_root(tmp_path, 2))
    assert checkpoint and checkpoint[1] == 18 and stopped.last_checkpoint == str(checkpoint[0])
    assert stopped.result is None

    second = AttemptFolder(tmp_path, 3)
    resumed = run(tmp_path, second, assignment(2, 3))
    assert (resumed.outcome, resumed.steps) == (Outcome.SUCCEEDED, 20)
    assert sorted(losses(second)) == [19, 20]
    assert losses(first) | losses(second) == pytest.approx(losses(whole), rel=1e-5)


def test_checkpoints_are_verified_and_pruned(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    training = {"steps": 7, "checkpoint_steps": 2}
    ended = run(tmp_path, AttemptFolder(tmp_path, 1), make_assignment(rows, tokenizer, training=training))
    root = checkpoints_root(tmp_path, 1)
    assert [step for _, step in listed(root)] == [6, 7]
    assert ended.last_checkpoint == str(listed(root)[-1][0])
    for path, step in listed(root):
        manifest = verify(path)
        assert (manifest["step"], manifest["attempt_id"]) == (step, 1)
        assert manifest["longest_first"] is False  # of a CPU card
        assert not list(path.glob("*.bin"))  # no pickle that nobody needs
    assert sorted(path.name for path in root.iterdir()) == ["step-00000006", "step-00000007"]


def test_a_corrupt_checkpoint_is_passed_over(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    training = {"steps": 7, "checkpoint_steps": 2}
    run(tmp_path, AttemptFolder(tmp_path, 1), make_assignment(rows, tokenizer, training=training, output="a"))
    newest = listed(checkpoints_root(tmp_path, 1))[-1][0]
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    folder = AttemptFolder(tmp_path, 2)
    again = make_assignment(rows, tokenizer, attempt_id=2, training=training, output="a")
    assert run(tmp_path, folder, again).outcome is Outcome.SUCCEEDED
    assert sorted(losses(folder)) == [7]
    verify(newest)  # step 7 came by again, and took the corrupt one's place


def test_the_last_step_ends_the_run_whatever_is_asked(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    """Its weights are the result: there is nothing left to stop. They are a checkpoint before they are published."""
    folder = StopsAfter(tmp_path, 1, step=3, reason="preempted")
    ended = run(tmp_path, folder, make_assignment(rows, tokenizer, training={"checkpoint_steps": 4}))
    last = checkpoints_root(tmp_path, 1) / "step-00000004"
    assert (ended.outcome, ended.steps, ended.last_checkpoint) == (Outcome.SUCCEEDED, 4, str(last))
    assert ended.result is not None
    result, checkpoint = verify(Path(ended.result))["files"], verify(last)["files"]
    assert {name: checkpoint[name] for name in result} == result
    assert "model.safetensors" in result and "optimizer.pt" not in result


@pytest.mark.parametrize(
    ("reason", "outcome", "saves"),
    [
        ("cancelled", Outcome.CANCELLED, True),
        ("timeout", Outcome.TIMEOUT, True),
        ("stale", Outcome.LOST, False),
        ("host_stopped", Outcome.HOST_STOPPED, True),
    ],
)
def test_the_stop_file_says_how_it_ends(
    reason: StopReason, outcome: Outcome, saves: bool, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    folder = StopsAfter(tmp_path, 1, step=1, reason=reason)
    ended = run(tmp_path, folder, make_assignment(rows, tokenizer))
    assert (ended.outcome, ended.steps) == (outcome, 2)
    assert bool(listed(checkpoints_root(tmp_path, 1))) is saves  # a stale attempt must not write any more


def test_the_time_limit_is_the_jobs(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    assignment = make_assignment(rows, tokenizer, time_limit="1s", training={"steps": 10_000})
    ended = run(tmp_path, AttemptFolder(tmp_path, 1), assignment)
    assert ended.outcome is Outcome.TIMEOUT and 0 < ended.steps < 10_000 and ended.last_checkpoint


def test_progress_that_cant_be_written_stops_no_training(
    tmp_path: Path, tokenizer: Path, rows: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = AttemptFolder(tmp_path, 1)
    folder.progress_path.mkdir(parents=True)  # no line can be put there, as on a full disk
    ended = run(tmp_path, folder, make_assignment(rows, tokenizer))
    assert ended.outcome is Outcome.SUCCEEDED and ended.last_loss is not None
    assert caplog.text.count("progress can't be written") == 1


def test_a_stop_before_the_first_step(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    folder = AttemptFolder(tmp_path, 1)
    folder.request_stop("cancelled")
    ended = run_attempt(make_assignment(rows, tokenizer), folder, tmp_path, tmp_path / "out")
    assert (ended.outcome, ended.steps) == (Outcome.CANCELLED, 0)
    assert folder.ended() == ended


def test_a_decision_reaches_the_other_ranks() -> None:
    for stop in (None, *STOP_REASONS):
        for save in (False, True):
            decision = Decision(log=not save, save=save, stop=stop)
            assert Decision.of(decision.code()) == decision
