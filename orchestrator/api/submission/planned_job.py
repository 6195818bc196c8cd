"""The job that a plan is asked for. It may lack what only training needs: data, weights, a tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobs.errors import MISSING, Fault
from jobs.jobfile.spec import JobSpec
from jobs.jobfile.sweep import only_one
from orchestrator.api.submission.validation import FleetFacts, JobInput, faults_of, members_of, value_of
from orchestrator.config import Settings
from workers.checks.inputs import NO_TOKENIZER
from workers.checks.weights import NO_WEIGHTS

# What stands in a job file for what was not named. It is nowhere, so it is never read.
NO_DATA, NO_MODEL_TOKENIZER = "/no-data-was-named", "/no-tokenizer-was-named"


@dataclass(frozen=True)
class Planned:
    """A job to plan. without_data: why it is planned for the whole sequence length, "" where its data is there."""

    spec: JobSpec
    without_data: str = ""


def read_plan(item: JobInput, settings: Settings, facts: FleetFacts) -> Planned:
    """The job, or SpecError with every fault that matters to a plan."""
    value = value_of(item)
    named = _data_path(value)
    if named is None:
        value = _filled(value)
    absent: list[str] = []

    def check(spec: JobSpec) -> list[Fault]:
        faults = faults_of(spec, settings, facts, {})
        kept = [fault for fault in faults if not _only_to_train(fault)]
        if named is None:
            absent.append("no data was named")
        elif any(fault.path == "data.path" and fault.problem == MISSING for fault in faults):
            absent.append(f"there is no {spec.data.path}")
        elif len(kept) < len(faults):  # a folder that can't be trained yet: nothing counts the data with it
            lost = next(fault for fault in faults if _only_to_train(fault))
            absent.append(f"{lost.given} {lost.problem}, so the data was not counted")
        return kept

    spec = only_one(members_of(value, item, check), item.source)
    if not absent:
        return Planned(spec)
    length = spec.training.sequence_length
    return Planned(spec, f"{absent[0]}: planned for rows of the whole sequence_length, {length:,} tokens")


def _data_path(value: dict[str, Any]) -> Any:
    data = value.get("data")
    return data.get("path") if isinstance(data, dict) else data


def _filled(value: dict[str, Any]) -> dict[str, Any]:
    """The job file with something for the data, and for the tokenizer of a config."""
    data, model = value.get("data"), value.get("model")
    made = {**value, "data": {**(data if isinstance(data, dict) else {}), "path": NO_DATA}}
    if isinstance(model, dict) and model.get("config") is not None and model.get("tokenizer") is None:
        made["model"] = {**model, "tokenizer": NO_MODEL_TOKENIZER}
    return made


def _only_to_train(fault: Fault) -> bool:
    """Whether a plan does without what a fault is about: a trace reads config.json alone."""
    if fault.path in ("data.path", "model.tokenizer") and fault.problem == MISSING:
        return True
    return fault.problem.startswith((NO_WEIGHTS, NO_TOKENIZER))
