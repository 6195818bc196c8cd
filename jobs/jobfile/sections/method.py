"""`method`: which weights are trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from jobs.jobfile import cross_field_rules
from jobs.jobfile.fields import Number, Positive, Targets, Text, Whole
from jobs.jobfile.options.adapters import INITS, begins
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
    exclude: list[Text] = Field(
        default_factory=list, description="Modules that get no adapter, though targets names them."
    )
    modules_to_save: list[Text] = Field(
        default_factory=list,
        description="Modules that are trained whole and saved with the adapter, such as [embed_tokens, lm_head].",
    )
    ensure_weight_tying: bool = Field(
        cross_field_rules.LORA_DEFAULTS["ensure_weight_tying"],
        description="Where modules_to_save names embedding or head of a model that ties them: keep them one.",
    )
    rank_pattern: dict[Text, Annotated[Whole, Field(ge=1, le=4096)]] = Field(
        default_factory=dict, description="Ranks of their own by module name, such as {q_proj: 32}."
    )
    alpha_pattern: dict[Text, Positive] = Field(
        default_factory=dict, description="The same of alpha, such as {q_proj: 64}."
    )
    init: Annotated[
        Literal["default", "gaussian", "orthogonal"],
        BeforeValidator(begins),
        WithJsonSchema({"enum": list(INITS), "default": INITS[0]}),
    ] = Field("default", description="How adapters begin: default (Kaiming, zero), gaussian or orthogonal.")
