"""`training`: learning rate, length and batch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from jobs.jobfile import cross_field_rules
from jobs.jobfile.fields import Number, Optimizer, Positive, Text, Whole
from jobs.jobfile.options.schedulers import Scheduler
from jobs.jobfile.sections.base import Section

Decay = Annotated[Number, Field(ge=0, lt=1)]
_TWO_RATES = {
    "type": "array",
    "items": {"type": "number"},
    "minItems": 2,
    "maxItems": 2,
    "default": [0.9, 0.999],
}


class EarlyStopping(Section):
    """Ends training once the loss of the rows held out stands still."""

    patience: Whole = Field(
        1, ge=1, le=1000, description="Evaluations without a better loss after which to end."
    )
    threshold: Number = Field(0.0, ge=0, description="How much lower a loss must be to be a better one.")


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
        cross_field_rules.WARMUP_RATIO,
        ge=0,
        le=1,
        description="Share of the steps in which the learning rate rises.",
    )
    warmup_steps: Annotated[Whole, Field(ge=0)] | None = Field(
        None, description="Steps in which the learning rate rises; exclusive with warmup_ratio."
    )
    scheduler: Scheduler = Field(
        "linear",
        description="Learning rate after warm-up; constant_with_warmup is constant.",
    )
    scheduler_kwargs: dict[Text, Any] = Field(
        default_factory=dict,
        description="Options of the scheduler, such as {min_lr_rate: 0.1} of cosine_with_min_lr.",
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
    max_grad_norm: Number = Field(
        1.0, ge=0, description="Norm that gradients are clipped to; 0: they are not clipped."
    )
    betas: Annotated[tuple[Decay, Decay], WithJsonSchema(_TWO_RATES)] = Field(
        (0.9, 0.999), description="AdamW's two decay rates, such as [0.9, 0.95]."
    )
    epsilon: Number = Field(1e-8, gt=0, le=1, description="AdamW's epsilon.")
    loss: Literal["nll", "dft"] = Field(
        "nll",
        description="nll: cross-entropy; dft: each token's weighted by its probability (arXiv:2508.05629).",
    )
    neftune_alpha: Positive | None = Field(
        None, description="Noise on the embeddings in training (NEFTune, arXiv:2310.05914), such as 5."
    )
    seed: Whole = Field(0, ge=0, le=2**31 - 1, description="Seed of weights, adapters and data order.")
    eval_steps: Annotated[Whole, Field(ge=1)] | None = Field(
        None,
        description="Optimizer steps between evaluations of data.holdout; a tenth of the run when left out.",
    )
    checkpoint_steps: Annotated[Whole, Field(ge=1)] | None = Field(
        None, description="Optimizer steps between checkpoints; a tenth of the run when left out."
    )
    keep_checkpoints: Whole = Field(
        2, ge=1, le=100, description="Newest checkpoints that a host keeps while the job trains."
    )
    keep_best: bool = Field(
        False,
        description="Make the result from the checkpoint with the lowest loss on the rows held out, not the last.",
    )
    early_stopping: EarlyStopping | None = Field(
        None, description="When to end by the loss of the rows held out: {patience: 3, threshold: 0.01}."
    )
    extra: dict[Text, Any] = Field(
        default_factory=dict,
        description="Fields of TRL's configuration that no key here has, such as {eval_on_start: true}.",
    )
