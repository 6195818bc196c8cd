"""What a script of one's own has: a small model, its tokenizer and rows, and a TRL configuration."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from trl import SFTConfig

import tuneyard
from jobs.memory.rung import Rung
from tests.workers.builders import TINY, answer, question
from workers.fit.fitted import Fitted
from workers.fit.guard import checkpointing

LAYERS = 4


def small(dtype: torch.dtype = torch.float32, **values: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    known = {**TINY, "num_hidden_layers": LAYERS, **values}
    del known["model_type"]
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **known), dtype=dtype)


def rows(count: int = 32) -> Dataset:
    return Dataset.from_list(
        [{"prompt": question(i), "completion": answer(i) * (1 + i % 8)} for i in range(count)]
    )


def config(folder: Path, **values: Any) -> SFTConfig:
    given = {
        "use_cpu": True,
        "bf16": False,
        "per_device_train_batch_size": 8,
        "max_length": 128,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        **values,
    }
    return SFTConfig(str(folder / "out"), **given)


def tokenizer_in(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


def fit(folder: Path, tokenizer: Path, *, model: Any = None, data: Any = "rows", **how: Any) -> Fitted:
    """tuneyard.fit of these, on a CPU card of 1 GiB. how: card, peft_config; the rest is the configuration's."""
    asked = {name: how.pop(name) for name in ("card", "peft_config", "confidence") if name in how}
    return tuneyard.fit(
        config(folder, **how),
        model or small(),
        rows() if data == "rows" else data,
        processing_class=tokenizer_in(tokenizer),
        quiet=True,
        **{"card": "cpu:1GiB", **asked},
    )


def on(fitted: Fitted, rung: Rung) -> Fitted:
    """The same as if this rung had been chosen."""
    made = copy.copy(fitted.config)
    for name, value in {
        **checkpointing(rung),
        "per_device_train_batch_size": rung.micro_batch,
        "gradient_accumulation_steps": rung.accumulation,
    }.items():
        setattr(made, name, value)
    return replace(fitted, config=made, choice=replace(fitted.choice, rung=rung))
