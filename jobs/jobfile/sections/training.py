"""`training`: learning rate, length and batch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from jobs.jobfile import cross_field_rules
from jobs.jobfile.fields import Number, Optimizer, Positive, Whole
from jobs.jobfile.sections.base import Section


class TrainingSpec(Section):
    """Learning rate, length and batch. The global batch never changes with the rung that is chosen."""

    learning_rate: Number = Field(2e-4, gt=0, le=10, description="Peak learning rate.")
    epochs: Positive | None = Field(
        None, description="Passes over the data; exclusive with steps. 1 by default."
    )
    steps: Annotated[Whole, Field(ge=1)] | None = Field(
        None, description="Optimizer steps; exclusive with epochs."
    )
    sequence_length: Whole = Field(
        1024, ge=8, le=2**21, description="Longest sequence, in tokens; longer rows are cut."
    )
    global_batch: Whole = Field(
        cross_field_rules.DEFAULT_BATCH,
        ge=1,
        le=2**20,
        description="Sequences per optimizer step over all GPUs.",
    )
    packing: bool = Field(False, description="Pack several rows into one sequence.")
    warmup_ratio: Number = Field(
        0.03, ge=0, le=1, description="Share of the steps in which the learning rate rises."
    )
    scheduler: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="Learning rate after warm-up."
    )
    optimizer: Optimizer = Field(
        "adamw",
        description="adamw, adamw_8bit, paged_adamw, paged_adamw_8bit or sgd; transformers' names work.",
    )
    autocast: Literal["auto", "bfloat16", "off"] = Field(
        "auto",
        description="Type that matrix products run in. auto is the weights' own; "
        "bfloat16 over float32 weights is mixed precision with float32 masters.",
    )
    on_nan: Literal["fail", "skip"] = Field(
        "fail",
        description="What a step does whose loss or gradients are not finite: fail ends the job; skip leaves its "
        "update out, up to 10 in a row.",
    )
    weight_decay: Number = Field(0.0, ge=0, le=1, description="Weight decay of the optimizer.")
    seed: Whole = Field(0, ge=0, le=2**31 - 1, description="Seed of weights, adapters and data order.")
    eval_steps: Annotated[Whole, Field(ge=1)] | None = Field(
        None,
        description="Optimizer steps between evaluations of data.holdout; a tenth of the run when left out.",
    )
    checkpoint_steps: Annotated[Whole, Field(ge=1)] | None = Field(
        None, description="Optimizer steps between checkpoints; a tenth of the run when left out."
    )
