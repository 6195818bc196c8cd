"""Losses, gradients and weights that are not finite: real TRL steps, with a number spoilt at a chosen place."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, TrainerCallback

import workers.trainer.train
from jobs.messages.reports import Assignment, Ended
from jobs.recovery import SPOILT_FROM_THE_START
from jobs.state import Outcome
from tests.workers.builders import TINY, claimed, make_assignment
from tests.workers.trainer.test_entrypoint import ROOT, gang
from workers.attempt_folder import AttemptFolder, checkpoints_root
from workers.checkpoints.folders import listed
from workers.trainer.finite import OVERFLOWS_IN_A_ROW, SKIPS_IN_A_ROW, Guard, first_not_finite, not_finite_in
from workers.trainer.train import run_attempt

NAN, INF = math.nan, math.inf


class Spoiler(TrainerCallback):
    """Puts `value` where it is told to, in these steps: "weights" before one, "gradients" in it, "update" after it."""

    def __init__(self, where: str, value: float, steps: range, rank: int | None = None) -> None:
        self.where, self.value, self.steps = where, value, steps
        self.rank = rank
        self.here = self.armed = False

    def _spoil(self, model: Any) -> None:
        with torch.no_grad():
            self._weight(model).view(-1)[3] = self.value

    def _weight(self, model: Any) -> torch.nn.Parameter:
        return next(weight for weight in model.parameters() if weight.requires_grad)

    def _hook(self, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.index_fill(0, torch.tensor([1]), self.value) if self.armed else gradient

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.here = self.rank in (None, args.process_index)
        self._weight(kwargs["model"]).register_hook(self._hook)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = self.here and state.global_step + 1 in self.steps
        self.armed = now and self.where == "gradients"
        if now and self.where == "weights":
            self._spoil(kwargs["model"])

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.here and self.where == "update" and state.global_step + 1 in self.steps:
            self._spoil(kwargs["model"])


def spoil(monkeypatch: pytest.MonkeyPatch, *spoilers: Spoiler) -> None:
    build = workers.trainer.train.build_trainer

    def built(*args: Any, **kwargs: Any) -> Any:
        trainer = build(*args, **kwargs)
        for one in spoilers:
            trainer.add_callback(one)
        return trainer

    monkeypatch.setattr(workers.trainer.train, "build_trainer", built)


def run(tmp_path: Path, assignment: Assignment) -> tuple[Ended, AttemptFolder]:
    folder = claimed(tmp_path / "home", assignment)
    return run_attempt(assignment, folder, tmp_path / "home", tmp_path / "out"), folder


def checkpoints(tmp_path: Path) -> list[int]:
    """Steps of what was kept; all of it is finite."""
    kept = listed(checkpoints_root(tmp_path / "home", 1))
    assert [not_finite_in(path) for path, _ in kept] == [None] * len(kept)
    return [step for _, step in kept]


@pytest.mark.parametrize("method", ["full", {"kind": "lora", "rank": 2}])
@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("weights", NAN, "diverged in step 4: the weights are not finite before it, such as "),
        ("weights", INF, "diverged in step 4: the weights are not finite before it, such as "),
        ("gradients", NAN, "diverged in step 4: the gradients' norm is nan"),
        ("gradients", INF, "diverged in step 4: the gradients' norm is inf"),
        ("update", NAN, "diverged in step 3: the weights are not finite after it, such as "),
        ("update", -INF, "diverged in step 3: the weights are not finite after it, such as "),
    ],
)
def test_it_ends_with_the_step_and_the_last_good_checkpoint(
    tmp_path: Path,
    tokenizer: Path,
    rows: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    value: float,
    says: str,
    method: Any,
) -> None:
    step = 3 if where == "update" else 4
    spoil(monkeypatch, Spoiler(where, value, range(step, 99)))
    assignment = make_assignment(
        rows, tokenizer, method=method, training={"steps": 8, "checkpoint_steps": 1}, name="bad"
    )
    ended, folder = run(tmp_path, assignment)
    assert ended.outcome is Outcome.DIVERGED, ended.message
    assert ended.message.startswith(says)
    assert ended.message.endswith(f"; the last good checkpoint is of step {step - 1}")
    assert ended.last_checkpoint and ended.last_checkpoint.endswith(f"step-0000000{step - 1}")
    assert checkpoints(tmp_path)[-1] == step - 1
    assert ended.result is None and not (tmp_path / "out").exists()
    assert ended.last_loss is not None and math.isfinite(ended.last_loss)
    if where == "weights":
        last = folder.progress()[-1]
        assert (last.step, last.loss, last.loss_text) == (4, None, "nan")


@pytest.mark.parametrize("where", ["weights", "gradients", "update"])
def test_the_last_step_counts_as_any_other(
    tmp_path: Path, tokenizer: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """After it nothing is trained any more: what would be published is looked at itself."""
    spoil(monkeypatch, Spoiler(where, NAN, range(4, 5)))
    ended, _ = run(tmp_path, make_assignment(rows, tokenizer, training={"steps": 4}))
    assert ended.outcome is Outcome.DIVERGED, ended.message
    assert ended.result is None and not list((tmp_path).glob("out/*"))


@pytest.mark.parametrize("on_nan", ["fail", "skip"])
def test_weights_that_are_not_finite_from_the_start_are_named(
    tmp_path: Path, tokenizer: Path, rows: Path, on_nan: str
) -> None:
    config = {name: value for name, value in TINY.items() if name != "model_type"}
    AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **config)).save_pretrained(
        tmp_path / "base"
    )
    weights = load_file(tmp_path / "base" / "model.safetensors")
    weights["model.layers.2.mlp.up_proj.weight"][1, 1] = NAN
    save_file(weights, tmp_path / "base" / "model.safetensors", {"format": "pt"})
    assert not_finite_in(tmp_path / "base") == "model.layers.2.mlp.up_proj.weight"
    model = {"config": None, "path": str(tmp_path / "base"), "tokenizer": str(tokenizer)}
    training = {"on_nan": on_nan, "steps": 6}
    ended, _ = run(tmp_path, make_assignment(rows, tokenizer, model=model, method="lora", training=training))
    assert (ended.outcome, ended.steps) == (Outcome.DIVERGED, 1), ended.message
    assert ended.result is None and not list(tmp_path.glob("out/*"))
    assert ended.message.startswith(SPOILT_FROM_THE_START)
    assert "layers.2.mlp.up_proj" in ended.message and "no good checkpoint" in ended.message


def test_skip_leaves_out_those_steps_alone(
    tmp_path: Path, tokenizer: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, Spoiler("gradients", NAN, range(2, 3)), Spoiler("gradients", INF, range(4, 6)))
    training = {"steps": 7, "on_nan": "skip", "checkpoint_steps": 1}
    monkeypatch.setattr("workers.trainer.callbacks.LINE_EVERY_S", 0.0)
    assignment = make_assignment(rows, tokenizer, training=training)
    folder = claimed(tmp_path / "home", assignment)
    seen: dict[int, torch.Tensor] = {}

    class Look(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen[state.global_step] = kwargs["model"].lm_head.weight.detach().clone()

    spoil(monkeypatch, Look())  # type: ignore[arg-type]
    ended = workers.trainer.train.train(
        assignment, folder, tmp_path / "home", tmp_path / "out", line_every_s=0.0
    )
    assert (ended.outcome, ended.steps, ended.skipped) == (Outcome.SUCCEEDED, 7, 3), ended.message
    assert "3 steps skipped" in ended.message
    same = [step for step in range(2, 8) if torch.equal(seen[step], seen[step - 1])]
    assert same == [2, 4, 5]
    lines = folder.progress()
    assert [line.skipped for line in lines] == [0, 1, 1, 2, 3, 3, 3]
    assert [line.step for line in lines if line.loss is None] == [2, 4, 5]
    assert ended.result and not_finite_in(Path(ended.result)) is None
    assert ended.last_loss and ended.first_loss and ended.last_loss < ended.first_loss


def test_skip_means_over_the_steps_that_were_trained(
    tmp_path: Path, tokenizer: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, Spoiler("gradients", NAN, range(3, 5)))
    training = {"steps": 6, "on_nan": "skip", "learning_rate": 1e-9}
    assignment = make_assignment(rows, tokenizer, training=training)
    folder = claimed(tmp_path / "home", assignment)
    workers.trainer.train.train(assignment, folder, tmp_path / "home", tmp_path / "out", line_every_s=999)
    first, last = folder.progress()
    assert first.loss and last.loss == pytest.approx(first.loss, rel=0.05), "of 3 steps, not of 5"


def test_skip_gives_up_in_the_end_and_the_weights_are_as_before(
    tmp_path: Path, tokenizer: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, Spoiler("gradients", NAN, range(3, 99)))
    training = {"steps": 20, "on_nan": "skip", "checkpoint_steps": 2}
    ended, _ = run(tmp_path, make_assignment(rows, tokenizer, training=training))
    assert (ended.outcome, ended.skipped) == (Outcome.DIVERGED, SKIPS_IN_A_ROW)
    assert ended.steps == 2 + SKIPS_IN_A_ROW
    assert (
        f"in step 3: the gradients' norm is nan, as in the {SKIPS_IN_A_ROW - 1} steps after it"
        in ended.message
    )
    assert "the last good checkpoint is of step 10" in ended.message
    assert checkpoints(tmp_path)


def test_weights_that_are_spoilt_later_are_found_at_the_first_skip(
    tmp_path: Path, tokenizer: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, Spoiler("weights", NAN, range(4, 99)))
    training = {"steps": 12, "on_nan": "skip"}
    ended, _ = run(tmp_path, make_assignment(rows, tokenizer, training=training))
    assert (ended.outcome, ended.steps) == (Outcome.DIVERGED, 4), ended.message
    assert "in step 4: the weights are not finite before it" in ended.message


@pytest.mark.parametrize("steps", [1, 2, SKIPS_IN_A_ROW - 1])
def test_a_run_of_which_no_step_was_trained_has_no_result(
    tmp_path: Path, tokenizer: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    spoil(monkeypatch, Spoiler("gradients", NAN, range(1, 99)))
    training = {"steps": steps, "on_nan": "skip"}
    method = {"kind": "lora", "rank": 2}
    ended, _ = run(tmp_path, make_assignment(rows, tokenizer, method=method, training=training))
    assert (ended.outcome, ended.skipped) == (Outcome.DIVERGED, steps), ended.message
    assert "no step was trained" in ended.message
    assert ended.result is None and not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("trained", [range(0), range(2, 3)])
def test_what_an_earlier_attempt_trained_counts(
    tmp_path: Path, tokenizer: Path, rows: Path, monkeypatch: pytest.MonkeyPatch, trained: range
) -> None:
    """The first attempt ends at its time limit, after step 3; of the second all steps are skipped."""
    bad = [step for step in range(1, 7) if step not in trained]
    spoil(monkeypatch, *(Spoiler("gradients", NAN, range(step, step + 1)) for step in bad))
    training = {"steps": 6, "on_nan": "skip", "checkpoint_steps": 3}

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = state.global_step == 3
            if control.should_training_stop:
                reporters[0].stopped = "preempted"

    reporters: list[Any] = []
    build = workers.trainer.train.build_trainer

    def built(assignment: Assignment, *args: Any, **kwargs: Any) -> Any:
        trainer = build(assignment, *args, **kwargs)
        if assignment.attempt_id == 1:
            reporters.extend(one for one in trainer.callback_handler.callbacks if hasattr(one, "stopped"))
            trainer.add_callback(Stop())
        return trainer

    monkeypatch.setattr(workers.trainer.train, "build_trainer", built)
    first, _ = run(tmp_path, make_assignment(rows, tokenizer, training=training))
    assert (first.outcome, first.steps) == (Outcome.PREEMPTED, 3), first.message
    second, _ = run(tmp_path, make_assignment(rows, tokenizer, attempt_id=2, training=training))
    assert (second.steps, second.skipped) == (6, 3), second.message
    assert second.outcome is (Outcome.SUCCEEDED if trained else Outcome.DIVERGED), second.message


RANK = """
import sys
import pytest
from tests.workers.trainer.test_diverging import NAN, Spoiler, spoil
from workers.trainer import ray_actor
where, sys.argv[1:] = sys.argv[1], sys.argv[2:]
with pytest.MonkeyPatch.context() as patch:
    import workers.trainer.train
    spoil(patch, Spoiler(where, NAN, range(3, 99), rank=1))
    sys.exit(ray_actor.main())
"""


@pytest.mark.parametrize(("where", "on_nan"), [("weights", "fail"), ("gradients", "skip")])
def test_what_one_rank_sees_ends_all(
    tmp_path: Path, tokenizer: Path, rows: Path, where: str, on_nan: str
) -> None:
    """Its gradients spoil those of the others in the same step; none publishes anything."""
    started = []
    training = {"steps": 16, "checkpoint_steps": 2, "on_nan": on_nan}
    for each in gang(rows, tokenizer, training=training):
        path = tmp_path / f"given-{each.rank}.json"
        path.write_text(each.model_dump_json())
        command = [
            sys.executable,
            "-c",
            RANK,
            where,
            str(path),
            str(tmp_path / "home"),
            str(tmp_path / "out"),
        ]
        env = {**os.environ, "TUNEYARD_CPU_THREADS": "1", "PYTHONPATH": str(ROOT)}
        started.append(subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL))
    codes = [process.wait(timeout=150) for process in started]
    folder = AttemptFolder(tmp_path / "home", 1)
    log = folder.read_log().decode()
    assert codes == [1, 1], log
    for rank in (0, 1):
        ended = folder.ended(rank)
        assert ended and ended.outcome is Outcome.DIVERGED, log
        assert "in step 3: " in ended.message
    assert ended.steps == (3 if on_nan == "fail" else 2 + SKIPS_IN_A_ROW)
    assert checkpoints(tmp_path)[-1] == (2 if on_nan == "fail" else 10) and not list(tmp_path.glob("out/*"))


def judged(guard: Guard, step: int, loss: float, norm: float, scaled: bool = False) -> bool:
    guard.count(torch.tensor(loss))
    return guard.judge(step, torch.tensor(norm), scaled)


def test_a_scaler_that_looks_for_its_scale_is_no_divergence() -> None:
    """float16: gradients overflow until the scale is low enough, and the scaler passes over them itself."""
    guard = Guard(skip=False)
    for step in range(1, OVERFLOWS_IN_A_ROW):
        assert not judged(guard, step, 2.0, INF, scaled=True)
    assert not judged(guard, 30, 2.0, 1.0, scaled=True) and guard.fault is None
    for step in range(31, 31 + OVERFLOWS_IN_A_ROW - 1):
        judged(guard, step, 2.0, NAN, scaled=True)
    assert guard.fault is None and guard.skipped == 0
    assert judged(guard, 31 + OVERFLOWS_IN_A_ROW - 1, 2.0, NAN, scaled=True)
    assert guard.fault and guard.fault.step == 31


def test_a_short_float16_run_of_overflows_alone_trained_nothing() -> None:
    guard = Guard(skip=False)
    for step in range(1, 7):
        judged(guard, step, 2.0, INF, scaled=True)
    assert guard.fault is None
    assert str(guard.untrained(6)) == (
        "diverged in step 1: the gradients' norm is inf, as in the 5 steps after it, so no step was trained"
    )
    judged(guard, 7, 2.0, 1.0, scaled=True)
    assert guard.untrained(7) is None


def test_a_loss_that_overflows_in_float16_is_one() -> None:
    guard = Guard(skip=False)
    assert judged(guard, 1, INF, INF, scaled=True)
    assert str(guard.fault) == "diverged in step 1: the loss is inf"


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_number_is_found_wherever_it_is(tmp_path: Path, bad: float, dtype: torch.dtype) -> None:
    count = 5_000_011  # more than a piece in float32
    for position in (0, 4_200_000, count - 1):
        spoilt = torch.ones(count, dtype=dtype)
        spoilt[position] = bad
        whole = {"a": torch.full((3,), torch.finfo(dtype).max, dtype=dtype), "n": torch.tensor([1, 2])}
        assert first_not_finite(whole.items()) is None
        assert first_not_finite([*whole.items(), ("b", spoilt)]) == "b"
        save_file({**whole, "b": spoilt}, tmp_path / "x.safetensors")
        assert not_finite_in(tmp_path) == "b"
    save_file(whole, tmp_path / "x.safetensors")
    assert not_finite_in(tmp_path) is None
