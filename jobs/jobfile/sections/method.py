"""`method`: which weights are trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from jobs.jobfile import cross_field_rules
from jobs.jobfile.fields import Number, Targets, Whole
from jobs.jobfile.sections.base import Section


class MethodSpec(Section):
    """How weights are trained: all of them, LoRA adapters, or LoRA on a 4-bit base."""

    kind: Literal["full", "lora", "qlora"] = Field("lora", description="full, lora or qlora.")
    rank: Whole = Field(cross_field_rules.LORA_DEFAULTS["rank"], ge=1, le=4096, description="LoRA rank.")
    alpha: Number = Field(
        cross_field_rules.LORA_DEFAULTS["alpha"],
        gt=0,
        description="LoRA alpha; the update is scaled by alpha / rank.",
    )
    dropout: Number = Field(
        cross_field_rules.LORA_DEFAULTS["dropout"], ge=0, lt=1, description="LoRA dropout."
    )
    targets: Targets = Field(
        cross_field_rules.LORA_DEFAULTS["targets"],
        description="Modules that get an adapter: all-linear, or a list of module names.",
    )
    dora: bool = Field(
        cross_field_rules.LORA_DEFAULTS["dora"],
        description="DoRA: learn magnitude and direction of the update apart. Needs more memory and time.",
    )
    rslora: bool = Field(
        cross_field_rules.LORA_DEFAULTS["rslora"],
        description="Rank-stabilised LoRA: scale the update by alpha / sqrt(rank).",
    )
    adapter_dtype: Literal["auto", "float32", "bfloat16"] = Field(
        cross_field_rules.LORA_DEFAULTS["adapter_dtype"],
        description="Type of the adapters. auto is float32 for lora, bfloat16 for qlora, as TRL has it.",
    )
