"""Evaluation between steps: rows held out, no logits kept, its peak traced."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from trl.trainer.utils import add_fused_lm_head

from benchmarks.memory import real
from benchmarks.memory.shapes import job
from jobs.jobfile.spec import JobSpec, parse_spec
from jobs.memory.rung import Rung
from jobs.messages.reports import AttemptOffsets
from jobs.state import Outcome
from tests.workers.builders import TINY, claimed, make_assignment, prompt_rows, write_rows
from workers.agent.outbox import Shipper
from workers.data.datasets import build_dataset, split
from workers.input_errors import Refused
from workers.model.build import build_model, build_tokenizer
from workers.profiler.fake_model import FakeModel, build, load_config
from workers.profiler.length_scan import scan
from workers.profiler.step import trace_step
from workers.profiler.trace import trace
from workers.trainer.train import build_trainer, run_attempt

SHAPE = {
    **TINY,
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "vocab_size": 2048,
    "max_position_embeddings": 8192,
}


def spec_of(holdout: float) -> JobSpec:
    model = {"config": SHAPE, "tokenizer": "unused"}
    return parse_spec({"model": model, "data": {"path": "unused", "holdout": holdout}, "method": "full"})


def test_rows_are_held_out_and_evaluated_on(
    tmp_path: Path, tokenizer: Path, rows: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assignment = make_assignment(rows, tokenizer, holdout=0.25, training={"steps": 4, "eval_steps": 2})
    with caplog.at_level("INFO"):
        folder = claimed(tmp_path, assignment)
        ended = run_attempt(assignment, folder, tmp_path, tmp_path / "out")
    assert ended.outcome is Outcome.SUCCEEDED, ended.message
    known = AttemptOffsets(attempt_id=assignment.attempt_id, job_id=assignment.job_id, number=1)
    (told,) = Shipper(tmp_path).news([known], {assignment.attempt_id}, 0.0).attempts
    assert [one.step for one in told.evaluations] == [2, 4]
    assert ended.eval_loss == told.evaluations[-1].loss is not None
    said = [record.getMessage() for record in caplog.records if "evaluation loss" in record.getMessage()]
    assert [line.split(":")[0] for line in said] == ["step 2", "step 4"]


def test_the_split_is_whole_and_the_same_each_time(tokenizer: Path, rows: Path, tmp_path: Path) -> None:
    spec = make_assignment(rows, tokenizer, holdout=0.25).spec
    whole = build_dataset(spec, build_tokenizer(spec.model, []), tmp_path)
    kept, held = split(whole, spec)
    assert held is not None and (len(kept), len(held)) == (48, 16)
    assert not {tuple(row["input_ids"]) for row in kept} & {tuple(row["input_ids"]) for row in held}
    again = split(whole, spec)[1]
    assert again is not None and again["input_ids"] == held["input_ids"]
    with pytest.raises(Refused, match=r"data\.holdout"):
        split(whole.select([0]), spec)


def test_no_logits_are_kept(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    assignment = make_assignment(rows, tokenizer, holdout=0.25)
    trainer = build_trainer(assignment, tmp_path)
    outputs = trainer.predict(trainer.eval_dataset)
    assert outputs.predictions is None and outputs.metrics["test_loss"] > 0


@pytest.mark.parametrize(
    ("method", "dtype", "micro_batch"),
    [("full", "bfloat16", 2), ("full", "float32", 1), ("lora", "bfloat16", 2)],
)
def test_a_real_evaluation_takes_what_is_projected_and_no_more_for_more_batches(
    method: str, dtype: str, micro_batch: int
) -> None:
    """Trained with TRL, counted through an evaluation of two batches and of six: its logits are not kept."""
    taken = []
    for batches in (2, 6):
        config = {**SHAPE, "vocab_size": 4096}
        training = {
            "sequence_length": 200,
            "global_batch": micro_batch,
            "steps": real.STEPS,
            "eval_steps": real.STEPS,
        }
        if dtype == "float32":
            training["autocast"] = "bfloat16"
        values = "full" if method == "full" else {"kind": method, "rank": 8, "dropout": 0.05}
        spec = job(config, values, model={"dtype": dtype}, training=training, holdout=0.5)
        one = real.Run("llama", method, spec, Rung(0, micro_batch), evaluation_batches=batches)
        found = real.in_child(one)
        assert not isinstance(found, str), found
        measured, projected, phase = found
        assert phase == "evaluation" and projected == pytest.approx(measured, rel=0.03)
        taken.append(measured)
    logits = 4 * micro_batch * 200 * 4096
    assert abs(taken[1] - taken[0]) < logits / 10


def test_its_memory_is_traced_when_it_will_run() -> None:
    held, plain = trace(spec_of(0.1), []), trace(spec_of(0.0), [])
    assert {name for name in held.passes if name.endswith(".eval")} == {"cuda.eval", "cpu.eval"}
    assert set(held.passes) - set(plain.passes) == {"cuda.eval", "cpu.eval"}
    assert list(held.passes["cpu.eval"].segments) == ["before", "first", "layer", "last", "loss"]


def test_the_trace_is_what_a_real_evaluation_takes() -> None:
    spec, mode = spec_of(0.1), FakeTensorMode()
    fake = build(spec, load_config(spec, []), mode)
    base = build_model(spec, load_config(spec, []), trust=False)
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    true = FakeModel(base, base, list(base.model.layers), fake.names, fake.order)
    found = []
    for model, under in ((fake, mode), (true, nullcontext())):
        shape = {"rows": 2, "length": 96, "marked": False, "training": False}
        found.append(trace_step(model, spec, under, kind="cpu", padded=False, **shape))
    assert found[0] == found[1]
    assert all(p.grad is None for p in base.parameters()) and base.training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("holdout", "epochs", "count"), [(0.0, 1, 30), (0.25, 1, 30), (0.5, 1.5, 31), (0.01, 2, 9)]
)
def test_the_steps_that_are_planned_are_those_of_the_trainer(
    holdout: float, epochs: float, count: int, tokenizer: Path, tmp_path: Path
) -> None:
    """Of the rows that are left: first those without a word to learn go, then those that are held out."""
    rows = [*prompt_rows(count), *[{"prompt": "long " * 60, "completion": "cut off"}] * 11]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    training = {"steps": None, "epochs": epochs, "sequence_length": 64}
    assignment = make_assignment(data, tokenizer, holdout=holdout, training=training)
    trainer = build_trainer(assignment, tmp_path / "out")
    trainer.train()
    found = scan(assignment.spec, [])
    assert found.dropped == 11
    assert trainer.state.max_steps == found.steps(assignment.spec)
