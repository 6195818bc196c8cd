"""JobSpec: what to train, on what, how, and on which cards. Validated whole: every fault at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from jobs.errors import Fault, SpecError
from jobs.jobfile import cross_field_rules
from jobs.jobfile.dependencies import LinksSchema, WrittenLinks
from jobs.jobfile.fields import (
    BITSANDBYTES_OPTIMIZERS,
    DEFAULT_PROJECT,
    Duration,
    Name,
    Output,
    Priority,
    Project,
    Secrets,
    Text,
    Trackers,
    Whole,
)
from jobs.jobfile.overrides import SHORTHAND
from jobs.jobfile.sections.base import Section
from jobs.jobfile.sections.data import DataSpec
from jobs.jobfile.sections.dpo import DpoSpec
from jobs.jobfile.sections.kto import KtoSpec
from jobs.jobfile.sections.memory import MemorySpec
from jobs.jobfile.sections.method import MethodSpec
from jobs.jobfile.sections.model import ModelSpec
from jobs.jobfile.sections.resources import ResourceSpec
from jobs.jobfile.sections.reward import RewardSpec
from jobs.jobfile.sections.sweep import AfterSpec, SweepSpec
from jobs.jobfile.sections.then import KINDS, StepOf, Steps, StepSpec, rule_faults
from jobs.jobfile.sections.training import TrainingSpec
from jobs.jobfile.trainers.facts import TRAINERS, Facts, Trainer
from jobs.jobfile.trainers.rules import trainer_faults, with_rate
from jobs.jobfile.validation_errors import faults_of

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
    trainer: Trainer = Field("sft", description="TRL trainer: sft, dpo, kto or reward.")
    method: MethodSpec = Field(
        default_factory=_defaults(MethodSpec), description="full, lora or qlora, with LoRA's numbers."
    )
    training: TrainingSpec = Field(
        default_factory=_defaults(TrainingSpec), description="Learning rate, length, batch."
    )
    dpo: DpoSpec = Field(default_factory=_defaults(DpoSpec), description="Options of trainer: dpo.")
    kto: KtoSpec = Field(default_factory=_defaults(KtoSpec), description="Options of trainer: kto.")
    reward: RewardSpec = Field(
        default_factory=_defaults(RewardSpec), description="Options of trainer: reward."
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
    then: Steps = Field(
        default_factory=list,
        description="What follows the training, in this order: merge; a name, or {name: {option: value}}, or a "
        "list of these.",
    )
    step: StepOf | None = Field(None, description="What a job that the server made of `then` does.")
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
        made = cross_field_rules.written_out(value)
        return with_rate(made) if isinstance(made, dict) else made

    @model_validator(mode="after")
    def _rules(self) -> Self:
        # For all sections at once, from here: a validator of each section's own would double the cost of a job.
        known = vars(self)
        sections = {name: vars(known[name]) for name in cross_field_rules.SECTIONS}
        faults = [*cross_field_rules.faults(sections), *trainer_faults(self.trainer, sections)]
        if self.then:
            written: list[dict[str, Any]] = [{step.kind: {}} for step in self.then]
            method = {"kind": self.method.kind}
            faults += rule_faults({"then": written, "method": method, "trainer": self.trainer})
        cross_field_rules.hold(faults)
        return self

    @property
    def trains(self) -> Facts:
        """What its trainer takes."""
        return TRAINERS[self.trainer]

    @property
    def precomputes(self) -> bool | str:
        """Whether a reference only works before training: True, False or "auto"; False where there is none."""
        if not self.trains.reference:
            return False
        return (self.dpo if self.trainer == "dpo" else self.kto).precompute_ref_log_probs

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
        broken = [*_broken(value), *rule_faults(value)]
        faults += [fault for fault in broken if fault.path not in known]
        raise SpecError(faults, source) from None


def _broken(value: Any) -> list[Fault]:
    """Every rule that a job file's raw mapping breaks."""
    if not isinstance(value, dict):
        return []
    given = cross_field_rules.written_out(value)
    names = cross_field_rules.SECTIONS
    sections = {name: section for name in names if isinstance(section := given.get(name), dict)}
    return [*cross_field_rules.faults(sections), *trainer_faults(given.get("trainer", "sft"), sections)]


def schema() -> dict[str, Any]:
    """JSON schema of the job file, for editors. Allows a plain string for a section where the parser does."""
    made = JobSpec.model_json_schema()
    # Of the server's own making, and never in a job file.
    del made["properties"]["step"], made["$defs"]["StepOf"]
    names = {"enum": list(KINDS)}
    steps = {"type": "array", "items": {"anyOf": [names, {"$ref": f"#/$defs/{StepSpec.__name__}"}]}}
    described = made["properties"]["then"]["description"]
    made["properties"]["then"] = {"description": described, "anyOf": [names, steps]}
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
