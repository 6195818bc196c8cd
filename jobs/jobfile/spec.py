"""JobSpec: what to train, on what, how, and on which cards. Validated whole: every fault at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from jobs.errors import SpecError
from jobs.jobfile import cross_field_rules
from jobs.jobfile.dependencies import LinksSchema, WrittenLinks
from jobs.jobfile.fields import (
    BITSANDBYTES_OPTIMIZERS,
    DEFAULT_PROJECT,
    Checkpointing,
    Duration,
    MicroBatch,
    Name,
    Number,
    Offload,
    Optimizer,
    Output,
    Policy,
    Positive,
    Priority,
    Project,
    Secrets,
    Size,
    Targets,
    Text,
    Trackers,
    Whole,
)
from jobs.jobfile.loader import MAX_FILE_BYTES, parse_yaml
from jobs.jobfile.overrides import SHORTHAND
from jobs.jobfile.validation_errors import faults_of
from jobs.state import On

__all__ = [
    "MAX_FILE_BYTES",
    "AfterSpec",
    "DataSpec",
    "EarlyStop",
    "JobSpec",
    "MemorySpec",
    "MethodSpec",
    "ModelSpec",
    "Policy",
    "ResourceSpec",
    "SweepSpec",
    "TrainingSpec",
    "parse_spec",
    "parse_yaml",
    "schema",
]


class Section(BaseModel):
    """Part of a job file: no unknown keys, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class ModelSpec(Section):
    """The model: a hub id, a local folder, or an architecture config with random weights."""

    path: Text | None = Field(
        None, min_length=1, description="Hub id (org/name) or a local folder with a config.json."
    )
    config: dict[str, Any] | None = Field(
        None, description="Architecture values (with model_type) of a model that starts from random weights."
    )
    tokenizer: Text | None = Field(
        None, min_length=1, description="Hub id or folder of the tokenizer; the model's own when left out."
    )
    revision: Text | None = Field(None, description="Branch, tag or commit on the hub.")
    dtype: Literal["bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="Type that the weights are loaded in."
    )
    attention: Literal["sdpa", "eager", "flash_attention_2"] = Field(
        "sdpa", description="Attention implementation."
    )
    engine: Literal["transformers", "unsloth"] = Field(
        "transformers", description="What builds the model: transformers, or Unsloth on hosts that have it."
    )
    trust_remote_code: bool = Field(
        False,
        description="Run code that the model's repository brings. Works only for models an operator allowed.",
    )


class DataSpec(Section):
    """The training data: JSONL, Parquet or CSV, a folder saved by datasets, or a hub id.

    Rows have `prompt` and `completion`, or `messages`, or `text`.
    """

    path: Text = Field(
        min_length=1, description="File (.jsonl .json .parquet .csv), folder saved by datasets, or hub id."
    )
    split: Text = Field(
        "train", min_length=1, description="Split of a hub data set or of a saved folder with splits."
    )
    holdout: Number = Field(
        0.0, ge=0, le=0.5, description="Share of the rows that is kept out of training, to evaluate on."
    )
    loss_on: Literal["assistant", "all"] | None = Field(
        None,
        description="With messages: turns that are learned from. When left out, the assistant's where the chat "
        "template can mark them, else all.",
    )


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


class MemorySpec(Section):
    """How much activation checkpointing, and how sure to be that it fits."""

    checkpointing: Checkpointing = Field(
        "auto", description="auto, off, every_layer, or {every_n: k} (every k-th layer)."
    )
    offload: Offload = Field(
        "auto",
        description="Keep what checkpointing saves in host memory. auto leaves it off until it is needed.",
    )
    micro_batch: MicroBatch = Field(
        "auto", description="Sequences per GPU per forward pass; accumulation makes up the global batch."
    )
    confidence: Number = Field(
        0.95, ge=0.5, le=0.999, description="How sure the projection must be that the job fits."
    )


class ResourceSpec(Section):
    """What the job needs of the fleet."""

    gpus: Whole = Field(1, ge=1, le=1024, description="GPUs, all on one host unless across_hosts.")
    across_hosts: bool = Field(
        False,
        strict=True,
        description="Whether a job with more GPUs than any host has may span several: whole hosts, and part of one.",
    )
    card: Text | None = Field(None, min_length=1, description="Card type, as `tuneyard gpus` shows it.")
    min_memory: Size | None = Field(None, description="Smallest card memory to consider, such as 24GiB.")
    labels: dict[Text, Text] = Field(default_factory=dict, description="Labels that the host must carry.")
    policy: Policy = Field(
        "smallest_card",
        description="Which of the cards it fits: smallest_card, fastest, or cheapest (price x time).",
    )
    share: bool = Field(
        False,
        strict=True,
        description="Whether other jobs that share may run beside it on a card, as long as all of them fit.",
    )


class EarlyStop(Section):
    """Stops the worst jobs of a sweep, by their loss, once all that run have come so far."""

    after_steps: Whole = Field(ge=1, description="Optimizer steps after which losses are compared.")
    keep: Number = Field(0.5, gt=0, lt=1, description="Share of the jobs that goes on, rounded up.")


class SweepSpec(Section):
    """What holds for all jobs of a `matrix` together."""

    early_stop: EarlyStop | None = Field(
        None,
        description="When to stop the worst: {after_steps: N, keep: SHARE}; none is stopped when left out.",
    )


class AfterSpec(Section):
    """A job that must end first. job: its id, or the name of one submitted together."""

    job: int | str
    on: On = On.SUCCESS


SectionT = TypeVar("SectionT", bound=Section)


def _defaults(section: type[SectionT]) -> Callable[[], SectionT]:
    """For a section that is left out. It is immutable, so all jobs share one."""
    made = section()
    return lambda: made


class JobSpec(Section):
    """A fine-tuning job."""

    name: Name = Field("", description="Name for people: letters, digits, dot, underscore, dash.")
    model: ModelSpec = Field(
        description="Hub id, local folder, or an architecture config with random weights."
    )
    data: DataSpec = Field(description="File of examples, folder saved by datasets, or hub id.")
    trainer: Literal["sft"] = Field("sft", description="TRL trainer.")
    method: MethodSpec = Field(
        default_factory=_defaults(MethodSpec), description="full, lora or qlora, with LoRA's numbers."
    )
    training: TrainingSpec = Field(
        default_factory=_defaults(TrainingSpec), description="Learning rate, length, batch."
    )
    memory: MemorySpec = Field(
        default_factory=_defaults(MemorySpec), description="Activation checkpointing and micro-batch."
    )
    resources: ResourceSpec = Field(
        default_factory=_defaults(ResourceSpec), description="GPUs, card type, memory, labels."
    )
    project: Project = Field(DEFAULT_PROJECT, description="Whose share of the fleet it takes.")
    priority: Priority = Field(
        50,
        description="low (25), normal (50), high (75), or 0 to 100; higher starts first. "
        "high:90 is 90, and refused where that is not in the class.",
    )
    after: Annotated[list[AfterSpec], WrittenLinks, LinksSchema] = Field(
        default_factory=list,
        description="Jobs that must end first: an id, the name of a job submitted together, or a list of these and of "
        "{job: ID, on: success}; on is success, failure (or cancelled) or any.",
    )
    matrix: dict[Text, Any] | None = Field(
        None,
        description="Lists of values by dotted key, such as {training.learning_rate: [1.0e-4, 2.0e-4]}: makes a group "
        "of jobs, one for each combination, at most 1,000.",
    )
    sweep: SweepSpec = Field(
        default_factory=_defaults(SweepSpec), description="What holds for all jobs of a matrix together."
    )
    retries: Whole = Field(0, ge=0, le=100, description="How often to try again after a failure of its own.")
    time_limit: Duration | None = Field(
        None,
        description="End an attempt of the job after this long in training, such as 4h; `requeue` goes on from there.",
    )
    report_to: Trackers = Field(
        default_factory=list,
        description="Where curves go besides: tensorboard, wandb, mlflow, trackio, or a list of these.",
    )
    secrets: Secrets = Field(
        default_factory=list,
        description="Secrets of the project that the trainer gets in its environment, such as [WANDB_API_KEY].",
    )
    output: Output | None = Field(
        None,
        description="Folder for the result, inside the host's output root; job-ID-NAME by default.",
    )

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, value: Any) -> Any:
        return cross_field_rules.written_out(value)

    @model_validator(mode="after")
    def _rules(self) -> Self:
        # For all sections at once, from here: a validator of each section's own would double the cost of a job.
        sections = vars(self)
        cross_field_rules.hold(
            cross_field_rules.faults({name: vars(sections[name]) for name in cross_field_rules.SECTIONS})
        )
        return self

    @property
    def adapter_dtype(self) -> str:
        """Type of LoRA weights: float32 beside a plain base as PEFT has it, bfloat16 beside a 4-bit one as TRL has it.

        trl 1.16 casts to bfloat16 when the base is quantised (sft_trainer.py); DoRA's magnitudes stay float32.
        """
        if self.method.adapter_dtype != "auto":
            return self.method.adapter_dtype
        return "bfloat16" if self.method.kind == "qlora" else "float32"

    @property
    def autocast_dtype(self) -> str | None:
        """Type of autocast in the forward pass, None without: half-precision weights are run in their own."""
        if self.training.autocast != "auto":
            return None if self.training.autocast == "off" else self.training.autocast
        return None if self.model.dtype == "float32" else self.model.dtype

    @property
    def libraries(self) -> tuple[str, ...]:
        """Libraries that a host needs beside those of every worker, by their package names."""
        needed = ["unsloth"] if self.model.engine == "unsloth" else []
        if self.method.kind == "qlora" or self.training.optimizer in BITSANDBYTES_OPTIMIZERS:
            needed.append("bitsandbytes")
        return tuple(needed)

    @property
    def batch_per_gpu(self) -> int:
        """Sequences each GPU sees per optimizer step."""
        return self.training.global_batch // self.resources.gpus


def parse_spec(value: Any, source: str = "job") -> JobSpec:
    """A validated JobSpec from a mapping, or SpecError with every fault. One with a matrix: see jobs.jobfile.sweep."""
    try:
        return JobSpec.model_validate(value)
    except ValidationError as error:
        faults = faults_of(error, JobSpec)
        known = {fault.path for fault in faults}
        # pydantic looks at rules between values only once all of those stand; tell of them in the same go.
        faults += [fault for fault in cross_field_rules.broken(value) if fault.path not in known]
        raise SpecError(faults, source) from None


def schema() -> dict[str, Any]:
    """JSON schema of the job file, for editors. Allows a plain string for a section where the parser does."""
    made = JobSpec.model_json_schema()
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "tuneyard job"
    for section in (ModelSpec, DataSpec, MethodSpec):
        keys = made["$defs"][section.__name__]
        value = keys["properties"][SHORTHAND[_name_of(section)]]
        plain = {"enum": value["enum"]} if "enum" in value else {"type": "string", "minLength": 1}
        made["$defs"][section.__name__] = {"anyOf": [keys, plain], "description": keys["description"]}
    return made


def _name_of(section: type[Section]) -> str:
    return next(name for name, field in JobSpec.model_fields.items() if field.annotation is section)
