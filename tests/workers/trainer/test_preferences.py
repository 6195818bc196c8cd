"""Trainers of preferences, small and real: what they learn, what they leave, resume, and TRL's defaults."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, TrainerCallback
from transformers.modeling_layers import GradientCheckpointingLayer
from trl import DPOConfig, KTOConfig, RewardConfig

from jobs.jobfile.sections.base import Section
from jobs.jobfile.sections.dpo import DpoSpec
from jobs.jobfile.sections.kto import KtoSpec
from jobs.jobfile.sections.reward import RewardSpec
from jobs.jobfile.trainers.facts import TRAINERS
from jobs.memory.rung import Rung
from jobs.state import Outcome
from tests.workers.builders import answer, claimed, make_assignment, question, write_rows
from tests.workers.trainer.test_stops import StopsAfter, losses, run
from workers.attempt_folder import AttemptFolder
from workers.checkpoints.manifest import verify
from workers.trainer.config import trl_config
from workers.trainer.train import build_trainer, run_attempt

GOOD, BAD = " yes, that is right", " no"
LORA = {"kind": "lora", "rank": 4}
ROWS: dict[str, list[dict[str, Any]]] = {
    "dpo": [{"prompt": question(i), "chosen": GOOD + answer(i), "rejected": BAD} for i in range(32)],
    "reward": [{"prompt": question(i), "chosen": GOOD, "rejected": answer(i) + BAD} for i in range(32)],
    "kto": [
        {"prompt": question(i), "completion": BAD if i % 2 else GOOD, "label": i % 2 == 0} for i in range(32)
    ],
}


def trained(tmp_path: Path, tokenizer: Path, trainer: str, rung: Rung, **sections: Any) -> Any:
    data = write_rows(tmp_path / "rows.jsonl", ROWS[trainer])
    training = {"steps": 12, "sequence_length": 64, **sections.pop("training", {})}
    assignment = make_assignment(data, tokenizer, rung=rung, trainer=trainer, training=training, **sections)
    folder = claimed(tmp_path / "home", assignment)
    return run_attempt(assignment, folder, tmp_path / "home", tmp_path / "out")


def moved(message: str, metric: str) -> tuple[float, float]:
    """From where to where a metric went, as an ended job says."""
    found = re.search(rf"{metric} (-?[\d.]+) to (-?[\d.]+)", message)
    assert found, message
    return float(found[1]), float(found[2])


@pytest.mark.parametrize(
    ("trainer", "method", "rung", "metric"),
    [
        ("dpo", "full", Rung(0, 2, 2), "rewards/margins"),
        ("dpo", LORA, Rung(1, 2, 2), "rewards/margins"),
        ("dpo", "full", Rung(0, 2, 2, precompute=True), "rewards/margins"),
        ("kto", "full", Rung(0, 4), "rewards/margins"),
        ("kto", LORA, Rung(0, 2, 2, precompute=True), "rewards/margins"),
        ("reward", "full", Rung(0, 2, 2), "margin"),
        ("reward", LORA, Rung(1, 4), "margin"),
    ],
    ids=str,
)
def test_it_learns_what_is_preferred(
    tmp_path: Path, tokenizer: Path, trainer: str, method: Any, rung: Rung, metric: str
) -> None:
    ended = trained(tmp_path, tokenizer, trainer, rung, method=method)
    assert ended.outcome is Outcome.SUCCEEDED, ended.message
    before, after = moved(ended.message, metric)
    assert after > before + 0.1, ended.message
    manifest = verify(Path(ended.result))
    assert manifest["kind"] == ("model" if method == "full" else "adapter")
    if method == "full":
        kind = AutoModelForSequenceClassification if trainer == "reward" else AutoModelForCausalLM
        assert kind.from_pretrained(ended.result).num_parameters() > 0


CONFIGS = [("dpo", DpoSpec, DPOConfig), ("kto", KtoSpec, KTOConfig), ("reward", RewardSpec, RewardConfig)]


@pytest.mark.parametrize(("trainer", "section", "config"), CONFIGS, ids=lambda one: str(one)[:6])
def test_defaults_are_trls(trainer: str, section: type[Section], config: Any, tmp_path: Path) -> None:
    """auto is TRL's own where it fits: the reference is not worked with before training."""
    theirs = config(str(tmp_path), use_cpu=True)
    ours = section().model_dump()
    ours |= {"precompute_ref_log_probs": False} if "precompute_ref_log_probs" in ours else {}
    assert set(ours) <= {one.name for one in fields(theirs)}
    assert {name: getattr(theirs, name) for name in ours} == ours
    assert TRAINERS[trainer].learning_rate == theirs.learning_rate
    assert theirs.disable_dropout is True  # as a trace has it


@pytest.mark.parametrize("trainer", ["dpo", "kto", "reward"])
def test_the_settings_of_a_job_reach_trl(trainer: str, tmp_path: Path) -> None:
    own = {
        "dpo": {"beta": 0.3, "loss_type": "ipo"},
        "kto": {"beta": 0.3, "loss_type": "apo_zero_unpaired"},
        "reward": {"center_rewards_coefficient": 0.01},
    }[trainer]
    spec = make_assignment(tmp_path / "rows", tmp_path, trainer=trainer, **{trainer: own}).spec
    config = trl_config(spec, Rung(0, 2, 2), tmp_path, use_cpu=True)
    wanted = {**own, "loss_type": ["ipo"]} if trainer == "dpo" else own
    assert {name: getattr(config, name) for name in wanted} == wanted
    assert config.max_length == spec.training.sequence_length


def test_a_reward_adapter_brings_its_head(tmp_path: Path, tokenizer: Path) -> None:
    ended = trained(tmp_path, tokenizer, "reward", Rung(0, 4), method=LORA, training={"steps": 2})
    assert any("score" in name for name in load_file(Path(ended.result) / "adapter_model.safetensors"))


@pytest.mark.parametrize(
    ("trainer", "method", "rung"),
    [("dpo", "full", Rung(0, 2, 2)), ("kto", LORA, Rung(0, 2, 2)), ("reward", LORA, Rung(0, 2, 2))],
    ids=["dpo", "kto", "reward"],
)
def test_it_goes_on_as_if_it_had_not_stopped(
    tmp_path: Path, tokenizer: Path, trainer: str, method: Any, rung: Rung
) -> None:
    """The reference is the model before its first step, in a resumed attempt too; and so it is with other rungs."""
    data = write_rows(tmp_path / "rows.jsonl", ROWS[trainer])
    home = tmp_path / "home"
    given = {"trainer": trainer, "method": method, "training": {"steps": 6, "sequence_length": 64}}
    whole = make_assignment(data, tokenizer, attempt_id=9, job_id=9, rung=rung, **given)
    run(tmp_path, AttemptFolder(tmp_path, 9), whole)
    first = make_assignment(data, tokenizer, attempt_id=1, rung=rung, **given)
    ended = run(home, StopsAfter(home, 1, step=2, reason="preempted"), first)
    assert (ended.outcome, ended.steps) == (Outcome.PREEMPTED, 3)
    lower = Rung(1, rung.micro_batch, rung.accumulation, precompute=trainer != "reward")
    again = make_assignment(data, tokenizer, attempt_id=2, rung=lower, **given)
    ended = run(home, AttemptFolder(home, 2), again)
    assert (ended.outcome, ended.steps) == (Outcome.SUCCEEDED, 6)
    made = losses(AttemptFolder(home, 1)) | losses(AttemptFolder(home, 2))
    assert made == pytest.approx(losses(AttemptFolder(tmp_path, 9)), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("trainer", ["dpo", "kto", "reward"])
def test_rows_held_out_are_evaluated(tmp_path: Path, tokenizer: Path, trainer: str) -> None:
    rung = Rung(0, 2, 2, precompute=trainer != "reward")
    training = {"steps": 4, "eval_steps": 2}
    ended = trained(tmp_path, tokenizer, trainer, rung, method="full", training=training, holdout=0.25)
    assert ended.outcome is Outcome.SUCCEEDED, ended.message
    assert ended.eval_loss is not None and ended.eval_loss > 0


@pytest.mark.parametrize("trainer", ["dpo", "kto"])
@pytest.mark.parametrize("method", ["full", LORA], ids=["full", "lora"])
def test_the_reference_leaves_checkpointing_as_the_rung_has_it(
    tmp_path: Path, tokenizer: Path, trainer: str, method: Any
) -> None:
    """TRL would checkpoint every layer from the second micro-batch on, without offload."""
    data = write_rows(tmp_path / "rows.jsonl", ROWS[trainer])
    assignment = make_assignment(
        data,
        tokenizer,
        rung=Rung(2, 2, 2),
        trainer=trainer,
        method=method,
        training={"steps": 3, "sequence_length": 64},
    )
    made = build_trainer(assignment, tmp_path / "out")
    seen: list[tuple[list[bool], list[set[str]], int]] = []

    class Looks(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            layers = [one for one in made.model.modules() if isinstance(one, GradientCheckpointingLayer)]
            given = [set(one._gradient_checkpointing_func.keywords) for one in layers]
            (base,) = {made.accelerator.unwrap_model(made.model).get_input_embeddings()}
            seen.append(([one.gradient_checkpointing for one in layers], given, len(base._forward_hooks)))

    made.add_callback(Looks())
    made.train()
    assert seen[0][0][:2] == [True, False] and seen[0][1][0] == {"use_reentrant"}
    assert seen == [seen[0]] * 3
