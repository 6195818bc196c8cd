"""What a client submits -> validated jobs, with every fault of every file, before anything is stored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import Fault, SpecError
from jobs.overrides import apply_overrides
from jobs.spec import JobSpec, parse_spec, parse_yaml
from orchestrator.config import Settings
from orchestrator.snapshot import length_fault, model_config
from orchestrator.store.rows import NewJob
from workers.inputs import check_inputs, check_model_type

# At submit only the head of a long data file is read; the host reads all of it before it trains.
ROWS_AT_SUBMIT = 20_000
MAX_JOBS = 10_000


class JobInput(BaseModel):
    """One job as a client sends it: the text of a job file or a mapping, and what is laid over it."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = None
    spec: dict[str, Any] | None = None
    overrides: dict[str, Any] = Field(default_factory=dict)
    base_dir: str | None = None
    source: str = "job"


class Submission(BaseModel):
    """Body of POST /jobs."""

    model_config = ConfigDict(extra="forbid")

    jobs: list[JobInput] = Field(min_length=1, max_length=MAX_JOBS)
    user: str = Field("", max_length=100)


# Faults by what was looked at: a sweep of a thousand jobs names the same files a thousand times.
Checked = dict[tuple[object, ...], list[Fault]]


@dataclass(frozen=True)
class FleetFacts:
    """What the fleet is known to offer; empty and None where no host ever joined."""

    model_types: frozenset[str]
    most_gpus: int | None


def read_jobs(submission: Submission, settings: Settings, facts: FleetFacts) -> list[tuple[JobSpec, NewJob]]:
    """All of the jobs, or SpecError with all of the faults."""
    read: list[tuple[JobSpec, NewJob]] = []
    faults: list[Fault] = []
    failed: list[str] = []
    checked: Checked = {}
    for item in submission.jobs:
        try:
            spec = read_job(item, settings, facts, checked)
        except SpecError as error:
            failed.append(error.source)
            prefix = f"{error.source}: " if len(submission.jobs) > 1 else ""
            faults += [Fault(prefix + f.path, f.given, f.problem, f.fix) for f in error.faults]
            continue
        stored = spec.model_dump(mode="json", exclude_unset=True)
        read.append((spec, NewJob(spec.name, submission.user, stored, spec.priority)))
    if faults:
        raise SpecError(
            faults,
            failed[0] if len(submission.jobs) == 1 else f"{len(failed)} of {len(submission.jobs)} jobs",
        )
    return read


def read_job(
    item: JobInput, settings: Settings, facts: FleetFacts, checked: Checked | None = None
) -> JobSpec:
    """One validated job, or SpecError with every fault. checked: the files that this request has looked at."""
    if (item.text is None) == (item.spec is None):
        raise SpecError([Fault("job", "", "give exactly one of text and spec")], item.source)
    value = parse_yaml(item.text, item.source) if item.text is not None else dict(item.spec or {})
    if item.overrides:
        value = apply_overrides(value, item.overrides, item.source)
    if item.base_dir is not None:
        value = _absolute(value, Path(item.base_dir))
    spec = parse_spec(value, item.source)
    if faults := _faults(spec, settings, facts, {} if checked is None else checked):
        raise SpecError(faults, item.source)
    return spec


def _absolute(value: dict[str, Any], base: Path) -> dict[str, Any]:
    """Relative paths are meant from the job file's folder; a name that is no file there may be a hub id."""
    made = dict(value)
    for section, keys in (("model", ("path", "tokenizer")), ("data", ("path",))):
        inner = made.get(section)
        if isinstance(inner, str):
            made[section] = _resolved(inner, base)
        elif isinstance(inner, dict):
            made[section] = {
                key: _resolved(given, base) if key in keys and isinstance(given, str) else given
                for key, given in inner.items()
            }
    return made


def _resolved(given: str, base: Path) -> str:
    if given.startswith(("~", "/")):
        return os.path.expanduser(
            given
        )  # leaves the ~ of a user who is not there: then no such file is found
    path = base / given
    is_file = given.startswith(("./", "../")) or given.endswith((".jsonl", ".json", ".csv", ".parquet"))
    return str(path) if is_file or path.exists() else given


def _faults(spec: JobSpec, settings: Settings, facts: FleetFacts, checked: Checked) -> list[Fault]:
    faults: list[Fault] = []
    faults += _trust(spec, settings)
    if facts.most_gpus is not None and spec.resources.gpus > facts.most_gpus:
        given, most = str(spec.resources.gpus), facts.most_gpus
        fix = f"use at most {most}" if most else "no host offers a card"
        faults.append(Fault("resources.gpus", given, f"is more than any host has ({most})", fix))
    config = spec.model.config or (model_config(spec) if settings.sees_files else None) or {}
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and spec.training.sequence_length > positions:
        faults.append(length_fault(spec.training.sequence_length, positions))
    if settings.sees_files:
        model = spec.model
        kind = model.config["model_type"] if model.config else None
        named = (spec.data.path, spec.data.split, model.path, model.tokenizer, kind, model.trust_remote_code)
        if named not in checked:
            checked[named] = check_inputs(spec, facts.model_types, limit=ROWS_AT_SUBMIT)
        return faults + checked[named]
    if spec.model.config is not None:
        given = spec.model.config["model_type"]
        faults += check_model_type(given, facts.model_types, "model.config.model_type")
    return faults


def _trust(spec: JobSpec, settings: Settings) -> Sequence[Fault]:
    if not spec.model.trust_remote_code:
        return []
    named = {spec.model.path, spec.model.tokenizer} - {None}
    return [
        Fault(
            "model.trust_remote_code",
            "true",
            f"the operator has not allowed code from {name}",
            f"leave it out, or have the server started with --trust-model {name}",
        )
        for name in sorted(str(name) for name in named)
        if name not in settings.trusted_models
    ]
