"""LoRA adapters as PEFT and TRL make them: which layers, and in which type."""

from __future__ import annotations

import torch
from peft import LoraConfig
from torch import nn

from jobs.jobfile.sections.method import MethodSpec
from jobs.jobfile.spec import JobSpec


def lora_config(method: MethodSpec) -> LoraConfig | None:
    """Adapters of lora and qlora; None for a full fine-tune."""
    if method.kind == "full":
        return None
    return LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=method.targets,
        use_dora=method.dora,
        use_rslora=method.rslora,
        task_type="CAUSAL_LM",
    )


def cast_adapters(model: nn.Module, spec: JobSpec) -> None:
    """Adapters in the type that the job asks for; DoRA's magnitudes in float32, which bfloat16 would freeze."""
    dtype = getattr(torch, spec.adapter_dtype)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_magnitude_vector" not in name:
            parameter.data = parameter.data.to(dtype)
