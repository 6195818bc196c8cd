"""What of a job file decides its weights: every key is classified, and the digest follows the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from jobs.jobfile.changes import compared
from jobs.jobfile.overrides import apply_overrides
from jobs.jobfile.resume_compatibility import EFFECTS, Change, Effect, changes, effect_of, weights_digest
from jobs.jobfile.spec import JobSpec, parse_spec

BASE: dict[str, Any] = {
    "model": {"path": "org/model"},
    "data": {"path": "rows.jsonl"},
    "method": {"kind": "lora"},
    "training": {"steps": 100},
}
# Another value for every key, that stands beside BASE; (path, value, what goes with it).
OTHERS: dict[str, Any] = {
    "name": "x",
    "model.path": "org/other",
    "model.config": {"model_type": "llama"},
    "model.tokenizer": "org/other",
    "model.chat_template": "chatml",
    "model.eos_token": "<|im_end|>",
    "model.revision": "v2",
    "model.dtype": "float32",
    "model.attention": "eager",
    "model.engine": "unsloth",
    "model.trust_remote_code": True,
    "data.path": "others.jsonl",
    "data.format": "alpaca",
    "data.columns": {"text": "body"},
    "data.split": "test",
    "data.holdout": 0.1,
    "data.loss_on": "all",
    "method.kind": "qlora",
    "method.rank": 8,
    "method.alpha": 8,
    "method.dropout": 0.5,
    "method.targets": ["q_proj"],
    "method.dora": True,
    "method.rslora": True,
    "method.adapter_dtype": "bfloat16",
    "method.exclude": ["v_proj"],
    "method.modules_to_save": ["embed_tokens"],
    "method.ensure_weight_tying": True,
    "method.rank_pattern": {"q_proj": 4},
    "method.alpha_pattern": {"q_proj": 4},
    "method.init": "gaussian",
    "training.learning_rate": 1e-3,
    "training.epochs": 2,
    "training.steps": 200,
    "training.sequence_length": 512,
    "training.global_batch": 16,
    "training.packing": True,
    "training.warmup_ratio": 0.5,
    "training.scheduler": "cosine",
    "training.warmup_steps": 5,
    "training.scheduler_kwargs": {"num_cycles": 1.5},
    "training.max_grad_norm": 0.5,
    "training.betas": [0.9, 0.95],
    "training.epsilon": 1e-6,
    "training.loss": "dft",
    "training.neftune_alpha": 5,
    "training.extra": {"data_seed": 3},
    "training.optimizer": "sgd",
    "training.autocast": "off",
    "training.weight_decay": 0.5,
    "training.seed": 1,
    "training.eval_steps": 5,
    "training.checkpoint_steps": 5,
    "training.on_nan": "skip",
    "training.keep_checkpoints": 3,
    "training.keep_best": True,
    "training.early_stopping": {"patience": 2},
    "dpo.beta": 0.3,
    "dpo.loss_type": ["ipo"],
    "dpo.loss_weights": [0.5],
    "dpo.label_smoothing": 0.1,
    "dpo.f_divergence_type": "forward_kl",
    "dpo.f_alpha_divergence_coef": 0.3,
    "dpo.discopop_tau": 0.1,
    "dpo.ld_alpha": 0.5,
    "dpo.precompute_ref_log_probs": True,
    "kto.beta": 0.3,
    "kto.loss_type": "apo_zero_unpaired",
    "kto.desirable_weight": 2.0,
    "kto.undesirable_weight": 2.0,
    "kto.precompute_ref_log_probs": True,
    "reward.center_rewards_coefficient": 0.01,
    "memory.checkpointing": "off",
    "memory.offload": False,
    "memory.micro_batch": 2,
    "memory.confidence": 0.9,
    "resources.gpus": 2,
    "resources.across_hosts": True,
    "resources.card": "L4",
    "resources.min_memory": "8GiB",
    "resources.labels": {"rack": "b"},
    "resources.policy": "fastest",
    "resources.share": True,
    "project": "p",
    "priority": 75,
    "report_to": ["wandb"],
    "secrets": ["WANDB_API_KEY"],
    "after": [{"job": 3}],
    "retries": 3,
    "time_limit": "8h",
    "output": "x",
}
WITH: dict[str, dict[str, Any]] = {
    "model.config": {"model.path": None, "model.tokenizer": "org/model"},
    "training.epochs": {"training.steps": None},
    "training.eval_steps": {"data.holdout": 0.1},
    "training.keep_best": {"data.holdout": 0.1},
    "training.early_stopping": {"data.holdout": 0.1},
    "resources.across_hosts": {"resources.gpus": 2},
    "training.scheduler_kwargs": {"training.scheduler": "cosine"},
    "memory.offload": {"memory.checkpointing": "every_layer"},
}
WITH |= {
    key: {"trainer": key.partition(".")[0]} for key in OTHERS if key.startswith(("dpo.", "kto.", "reward."))
}
# Other sections go with it, or only for several jobs, or it says nothing of what is trained.
ONE_VALUE = {"trainer", "matrix", "sweep.early_stop", "then", "step"}


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of the job file by its path."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def spec(**overrides: Any) -> JobSpec:
    return parse_spec(
        apply_overrides(BASE, {path.replace("__", "."): value for path, value in overrides.items()})
    )


def test_every_key_of_the_job_file_has_an_effect() -> None:
    """A new key is put into the table, and a value for it into OTHERS above."""
    assert set(keys(JobSpec)) == set(EFFECTS)
    assert set(EFFECTS) - set(OTHERS) == ONE_VALUE


@pytest.mark.parametrize("path", OTHERS)
def test_the_digest_follows_the_table(path: str) -> None:
    """Whatever decides the weights is in it, and nothing else."""
    beside = WITH.get(path, {})
    old = parse_spec(apply_overrides(BASE, {} if path in ("model.config", "training.epochs") else beside))
    new = parse_spec(apply_overrides(BASE, {**beside, path: OTHERS[path]}))
    told = {change.key: change for change in changes(old, new)}
    assert path in told
    assert effect_of(path) is EFFECTS[path] is told[path].effect
    decisive = any(change.effect is Effect.WEIGHTS for change in told.values())
    assert decisive == (EFFECTS[path] is Effect.WEIGHTS)
    assert (weights_digest(old) != weights_digest(new)) == decisive


def test_what_stands_at_its_default_counts_as_left_out() -> None:
    """Else a version with more keys would call every checkpoint another job's."""
    assert weights_digest(spec()) == weights_digest(spec(method__rank=16, training__seed=0))
    assert weights_digest(spec()) == weights_digest(parse_spec(spec().model_dump(mode="json")))
    assert changes(spec(), spec(method__rank=16)) == []


def test_the_digest_is_what_it_was() -> None:
    """Checkpoints on disk carry it: a change here makes every job begin again."""
    assert weights_digest(spec()) == "769c44867f27ab5c086dbd53ddac5d633d7851b196ea27e1835033d337b017c4"


def test_what_differs_inside_of_a_mapping_is_named() -> None:
    """Two long configs that are alike except for one value deep inside."""
    sizes = {"model_type": "llama", "rope_scaling": {f"key_{n}": n for n in range(20)}, "hidden_size": 64}
    other = {**sizes, "rope_scaling": {**sizes["rope_scaling"], "key_17": 170}, "vocab_size": 5}
    was, now = (spec(model={"config": config, "tokenizer": "org/model"}) for config in (sizes, other))
    found = changes(was, now)
    assert [str(change) for change in found] == [
        "model.config.rope_scaling.key_17 17 -> 170",
        "model.config.vocab_size (not set) -> 5",
    ]
    assert {change.effect for change in found} == {Effect.WEIGHTS}


@pytest.mark.parametrize("key", [key for key, effect in EFFECTS.items() if effect is Effect.WEIGHTS])
def test_every_key_that_forbids_to_go_on_says_why(key: str) -> None:
    (change,) = [Change(key, one) for one in compared(key, 1, 2)]
    assert change.why_not.startswith(("the checkpoint holds ", "the steps that are done "))
    tokens = ("model.tokenizer", "model.chat_template", "model.eos_token")
    of = "model" if key.startswith("model.") and key not in tokens else ""
    assert ("another model" in change.why_not) == bool(of), "no length or batch is another model"


@pytest.mark.parametrize(
    ("path", "effect"),
    [
        ("model", Effect.WEIGHTS),
        ("model.config.hidden_size", Effect.WEIGHTS),
        ("training", Effect.WEIGHTS),
        ("resources.labels.rack", Effect.NONE),
        ("resources", Effect.NONE),
        ("training.steps", Effect.SCHEDULE),
        ("priority", Effect.NONE),
        ("other", Effect.WEIGHTS),
    ],
)
def test_the_effect_of_any_path(path: str, effect: Effect) -> None:
    assert effect_of(path) is effect


def test_a_change_reads_as_people_write_it() -> None:
    found = changes(spec(time_limit="1h"), spec(time_limit="8h", method__rank=8))
    assert [str(change) for change in found] == ["method.rank 16 -> 8", "time_limit 3600s -> 28800s"]
