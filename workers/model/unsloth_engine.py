"""A job's model as Unsloth builds it: `model.engine: unsloth`.

Unsloth can't be imported without a GPU, so the arguments are made here by plain functions, which
tests/workers/model/test_unsloth_engine.py holds against Unsloth's real signatures, and the import stays in
build_model. It asks to be imported before transformers and TRL; a trainer's process has those loaded, so some of its
patches may not apply.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from jobs.jobfile.spec import JobSpec
from jobs.memory.rung import Rung


def checkpointing(rung: Rung) -> str | bool:
    """Unsloth's own checkpointing of every layer, which keeps what it saves in host memory, or none."""
    return "unsloth" if rung.every_n else False


def load_arguments(spec: JobSpec, rung: Rung, trust: bool) -> dict[str, Any]:
    """Keywords of FastLanguageModel.from_pretrained."""
    model, method = spec.model, spec.method
    return {
        "model_name": model.path,
        "max_seq_length": spec.training.sequence_length,
        "dtype": getattr(torch, model.dtype),
        "load_in_4bit": method.kind == "qlora",
        "full_finetuning": method.kind == "full",
        "revision": model.revision,
        "trust_remote_code": trust,
        "use_gradient_checkpointing": checkpointing(rung),
        "random_state": spec.training.seed,
        # Else it may take another repository, one that Unsloth packed beforehand, for the one that was asked for.
        "use_exact_model_name": True,
    }


def adapter_arguments(spec: JobSpec, rung: Rung) -> dict[str, Any]:
    """Keywords of FastLanguageModel.get_peft_model; for lora and qlora."""
    method = spec.method
    return {
        "r": method.rank,
        "target_modules": method.targets,
        "lora_alpha": method.alpha,
        "lora_dropout": method.dropout,
        "use_rslora": method.rslora,
        "use_gradient_checkpointing": checkpointing(rung),
        "random_state": spec.training.seed,
    }


def build_model(spec: JobSpec, rung: Rung, trust: bool) -> nn.Module:
    """The model on the card, with its adapters."""
    from unsloth import FastLanguageModel  # here: it refuses to be imported without a GPU

    model, _ = FastLanguageModel.from_pretrained(**load_arguments(spec, rung, trust))
    if spec.method.kind != "full":
        model = FastLanguageModel.get_peft_model(model, **adapter_arguments(spec, rung))
    made: nn.Module = model
    return made
