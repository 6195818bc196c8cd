"""Every option of `training` and `method` reaches TRL's and PEFT's configuration, and the trainer that is built."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig
from torch import nn
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
from transformers.trainer_utils import SchedulerType
from trl import SFTConfig

from jobs.errors import SpecError
from jobs.jobfile.options import extra
from jobs.jobfile.options.schedulers import SCHEDULES
from jobs.jobfile.sections.method import MethodSpec
from jobs.jobfile.sections.training import TrainingSpec
from jobs.memory.project import Rung
from jobs.state import Outcome
from tests.workers.builders import claimed, make_assignment
from workers.input_errors import Refused
from workers.trainer.config import trl_config
from workers.trainer.train import build_trainer, train

# Another value for each key, and what the configuration then has. None: held elsewhere.
TRAINING: dict[str, tuple[Any, dict[str, Any]] | None] = {
    "learning_rate": (3e-3, {"learning_rate": 3e-3}),
    "epochs": None,
    "steps": (3, {"max_steps": 3}),
    "sequence_length": (16, {"max_length": 16}),
    "global_batch": None,
    "packing": (True, {"packing": True}),
    "warmup_ratio": (0.25, {"warmup_steps": 0.25}),
    "warmup_steps": (2, {"warmup_steps": 2}),
    "scheduler": ("cosine", {"lr_scheduler_type": "cosine"}),
    "scheduler_kwargs": None,
    "optimizer": ("sgd", {"optim": "sgd"}),
    "autocast": ("bfloat16", {"bf16": True}),
    "on_nan": None,
    "weight_decay": (0.25, {"weight_decay": 0.25}),
    "max_grad_norm": (0.25, {"max_grad_norm": 0.25}),
    "betas": ([0.8, 0.95], {"adam_beta1": 0.8, "adam_beta2": 0.95}),
    "epsilon": (1e-6, {"adam_epsilon": 1e-6}),
    "loss": ("dft", {"loss_type": "dft"}),
    "neftune_alpha": (5, {"neftune_noise_alpha": 5}),
    "seed": (7, {"seed": 7}),
    "eval_steps": None,
    "checkpoint_steps": None,
    "keep_checkpoints": None,
    "keep_best": None,
    "early_stopping": None,
    "extra": ({"eval_delay": 2, "data_seed": 3}, {"eval_delay": 2, "data_seed": 3}),
}
METHOD: dict[str, tuple[Any, dict[str, Any]] | None] = {
    "kind": None,
    "rank": (2, {"r": 2}),
    "alpha": (8, {"lora_alpha": 8}),
    "dropout": (0.25, {"lora_dropout": 0.25}),
    "targets": (["q_proj", "v_proj"], {"target_modules": {"q_proj", "v_proj"}}),
    "dora": (True, {"use_dora": True}),
    "rslora": (True, {"use_rslora": True}),
    "adapter_dtype": None,
    "exclude": (["v_proj"], {"exclude_modules": {"v_proj"}}),
    "modules_to_save": (["embed_tokens"], {"modules_to_save": ["embed_tokens"]}),
    "ensure_weight_tying": (True, {"ensure_weight_tying": True}),
    "rank_pattern": ({"q_proj": 4}, {"rank_pattern": {"q_proj": 4}}),
    "alpha_pattern": ({"q_proj": 4.0}, {"alpha_pattern": {"q_proj": 4.0}}),
    "init": ("gaussian", {"init_lora_weights": "gaussian"}),
}
# Where the job file's default is not the library's own: why.
OURS = {
    "learning_rate": "LoRA takes ten times what a full fine-tune does",
    "warmup_steps": "warmup_ratio stands in its place",
    "seed": "0",
    "max_steps": "epochs: 1",
    "bf16": "autocast follows the weights",
    "r": "16",
    "lora_alpha": "twice the rank",
    "target_modules": "all-linear",
}


def test_every_key_is_listed() -> None:
    assert set(TRAINING) == set(TrainingSpec.model_fields)
    assert set(METHOD) == set(MethodSpec.model_fields)


@pytest.mark.parametrize("key", [key for key, held in TRAINING.items() if held])
def test_an_option_of_training_reaches_the_trainer(
    key: str, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    value, wanted = TRAINING[key] or (None, {})
    training = {"warmup_ratio": 0.03, key: value}
    trainer = build_trainer(make_assignment(rows, tokenizer, training=training), tmp_path)
    assert {name: getattr(trainer.args, name) for name in wanted} == wanted
    plain = make_assignment(rows, tokenizer)
    default = trl_config(plain.spec, plain.rung, tmp_path, use_cpu=True)
    assert any(getattr(default, name) != value for name, value in wanted.items()), "no default"


@pytest.mark.parametrize("key", [key for key, held in METHOD.items() if held])
def test_an_option_of_method_reaches_the_adapter(
    key: str, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    value, wanted = METHOD[key] or (None, {})
    method = {"kind": "lora", "rank": 4, key: value}
    trainer = build_trainer(make_assignment(rows, tokenizer, method=method), tmp_path)
    made = trainer.model.peft_config["default"]
    assert {name: getattr(made, name) for name in wanted} == wanted


def test_defaults_are_the_libraries_own(tmp_path: Path) -> None:
    spec = make_assignment(tmp_path / "rows.jsonl", tmp_path).spec.model_copy(
        update={"training": TrainingSpec(), "method": MethodSpec()}
    )
    ours, theirs = trl_config(spec, Rung(0, 1, 8), tmp_path, use_cpu=True), SFTConfig("x", use_cpu=True)
    for key, held in TRAINING.items():
        for name in set(held[1] if held else ()) - set(OURS):
            assert getattr(ours, name) == getattr(theirs, name), key
    from_method = LoraConfig()
    for key, held in METHOD.items():
        for name in set(held[1] if held else ()) - set(OURS):
            mine = MethodSpec().__dict__[key]
            assert (mine or None) == (getattr(from_method, name) or None) or key == "init", key
    assert from_method.init_lora_weights is True and MethodSpec().init == "default"


def test_what_the_optimizer_and_its_schedule_get(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    training = {
        "betas": [0.8, 0.95],
        "epsilon": 1e-6,
        "scheduler": "cosine_with_min_lr",
        "scheduler_kwargs": {"min_lr_rate": 0.5},
        "warmup_steps": 1,
        "warmup_ratio": 0.03,
        "steps": 3,
        "max_grad_norm": 1e-3,
    }
    trainer = build_trainer(make_assignment(rows, tokenizer, training=training), tmp_path)
    trainer.train()
    [group, *_] = trainer.optimizer.param_groups
    assert group["betas"] == (0.8, 0.95) and group["eps"] == 1e-6
    assert group["lr"] == pytest.approx(1e-2 * 0.5), "the floor, after the last step"
    assert sum(float(p.norm()) for p in trainer.model.parameters()) > 0


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_trains(name: str, tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    one_of = SCHEDULES[name].one_of
    options = {one_of[-1]: 1 if one_of[-1] == "num_decay_steps" else 0.1} if one_of else {}
    training = {"scheduler": name, "scheduler_kwargs": options, "steps": 2}
    assignment = make_assignment(rows, tokenizer, training=training)
    ended = train(assignment, claimed(tmp_path, assignment), tmp_path, tmp_path / "out")
    assert ended.outcome is Outcome.SUCCEEDED


def test_schedules_are_those_of_transformers() -> None:
    left_out = {SchedulerType.CONSTANT, SchedulerType.REDUCE_ON_PLATEAU, SchedulerType.GREEDY}
    assert {one.name for one in SCHEDULES.values()} == {one.value for one in set(SchedulerType) - left_out}
    for schedule in SCHEDULES.values():
        accepted = set(inspect.signature(TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(schedule.name)]).parameters)
        ours = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"}
        assert set(schedule.options) == accepted - ours, schedule.name


def test_a_decay_longer_than_the_run_is_refused(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    """Known only once epochs are steps."""
    training = {
        "steps": None,
        "epochs": 1,
        "scheduler": "warmup_stable_decay",
        "scheduler_kwargs": {"num_decay_steps": 1000},
    }
    assignment = make_assignment(rows, tokenizer, training=training)
    with pytest.raises(Refused, match=r"num_decay_steps: 1000, .* is more than the 16 steps of this run"):
        train(assignment, claimed(tmp_path, assignment), tmp_path, tmp_path / "out")


def test_extra_knows_every_field_of_trls_configuration() -> None:
    names = {field.name for field in fields(SFTConfig)}
    assert set(extra.ALLOWED) | set(extra.REFUSED) == names
    assert not set(extra.ALLOWED) & set(extra.REFUSED)


def test_modules_to_save_are_trained_whole_and_come_with_the_result(
    tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    method = {"kind": "lora", "rank": 4, "modules_to_save": ["embed_tokens", "lm_head"]}
    assignment = make_assignment(rows, tokenizer, method=method, model={"dtype": "bfloat16"})
    trainer = build_trainer(assignment, tmp_path)
    trained = {name: p.dtype for name, p in trainer.model.named_parameters() if p.requires_grad}
    whole = {name: str(dtype) for name, dtype in trained.items() if "modules_to_save" in name}
    assert len(whole) == 2 and set(whole.values()) == {"torch.bfloat16"}, "PEFT leaves them as they are"
    head = trainer.model.get_output_embeddings()
    before = head.weight.detach().clone()
    trainer.train()
    assert not before.equal(head.weight.detach()), "TRL's loss reads the one that is trained"


@pytest.mark.parametrize(
    ("asked", "tied", "problem"),
    [
        ("lm_head", True, "shares its weights with the other end"),
        ("nonsense", False, "is no module of this model"),
    ],
)
def test_modules_to_save_that_can_not_be(
    asked: str, tied: bool, problem: str, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    assignment = make_assignment(rows, tokenizer, method={"kind": "lora", "modules_to_save": [asked]})
    config = {**(assignment.spec.model.config or {}), "tie_word_embeddings": tied}
    assignment = make_assignment(
        rows, tokenizer, method={"kind": "lora", "modules_to_save": [asked]}, model={"config": config}
    )
    with pytest.raises(SpecError, match=problem):
        build_trainer(assignment, tmp_path)


def test_neftune_is_on_the_embedding_in_training(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    trainer = build_trainer(make_assignment(rows, tokenizer, training={"neftune_alpha": 5}), tmp_path)
    embedding = trainer.model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    seen: list[float] = []
    inner = trainer.compute_loss
    trainer.compute_loss = lambda *a, **k: (seen.append(embedding.neftune_noise_alpha), inner(*a, **k))[1]
    trainer.train()
    assert seen and set(seen) == {5}
