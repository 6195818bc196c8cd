"""What a client submits -> validated jobs, with every fault of every file, before anything is stored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import Fault, SpecError
from jobs.jobfile.contradictions import without_contradicted
from jobs.jobfile.loader import parse_yaml
from jobs.jobfile.overrides import apply_overrides
from jobs.jobfile.spec import JobSpec
from jobs.jobfile.sweep import Member, only_one, read_members
from orchestrator.api.submission.dependencies import File, Newest, States, links_of
from orchestrator.config import Settings
from orchestrator.control.snapshot.build import length_fault
from orchestrator.control.snapshot.cache import model_config
from orchestrator.store.requests import Actor, NewJob, NewLink
from workers.checks.inputs import check_inputs, check_model_type

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
    hold: bool = False


# Faults by what was looked at: a sweep of a thousand jobs names the same files a thousand times.
Checked = dict[tuple[object, ...], list[Fault]]


@dataclass(frozen=True)
class FleetFacts:
    """What the fleet is known to offer; empty and None where no host ever joined. most_gpus: of one host; all_gpus:
    of all together.
    """

    model_types: frozenset[str]
    most_gpus: int | None
    all_gpus: int | None = None


def read_jobs(
    submission: Submission,
    settings: Settings,
    facts: FleetFacts,
    states: States,
    newest: Newest,
    asks: Actor | None = None,
    spend: Callable[[], None] = lambda: None,
) -> list[tuple[JobSpec, NewJob]]:
    """All of the jobs, or SpecError with all of the faults. states, newest: see links_of; asks: who submits them;
    spend: called before each job, raises once they take too long.
    """
    asks = asks or Actor(submission.user)
    held_by = asks.user if submission.hold else None
    files: list[File] = []
    faults: list[tuple[str, Fault]] = []
    checked: Checked = {}
    count = 0
    for item in submission.jobs:
        try:
            spend()
            value = value_of(item)
            if "step" in value:
                fix = "write what is to follow the training: then: [merge]"
                raise SpecError([Fault("step", "", "is made by the server, of `then`", fix)], item.source)
            members = _members(value, item, settings, facts, checked, spend)
        except SpecError as error:
            faults += [(item.source, fault) for fault in error.faults]
            continue
        name = value.get("name")
        files.append(
            File(
                item.source,
                name if isinstance(name, str) else "",
                members,
                count,
                isinstance(value.get("after"), list),
            )
        )
        count += len(members)
    if count > MAX_JOBS:
        raise SpecError(
            [Fault("jobs", f"{count:,} jobs", "is too many", f"submit at most {MAX_JOBS:,} together")]
        )
    links, more = links_of(files, states, newest) if len(files) == len(submission.jobs) else ([], [])
    faults += [(file.source, fault) for file, fault in more]
    if faults:
        raise _all(faults, len(submission.jobs))
    return [
        (member.spec, _new(member, asks, held_by, number, its_links))
        for number, (file, its_links) in enumerate(zip(files, links, strict=True))
        for member in file.members
    ]


def _all(faults: Sequence[tuple[str, Fault]], items: int) -> SpecError:
    if items == 1:
        return SpecError([fault for _, fault in faults], faults[0][0])
    named = [Fault(f"{source}: {f.path}", f.given, f.problem, f.fix) for source, f in faults]
    return SpecError(named, f"{len({source for source, _ in faults})} of {items} jobs")


def _new(member: Member, asks: Actor, held_by: str | None, number: int, links: tuple[NewLink, ...]) -> NewJob:
    spec = member.spec
    return NewJob(
        *(spec.name, asks.user, member.stored, spec.priority),
        project=spec.project,
        group=number if member.values else None,
        links=links,
        address=asks.address or None,
        held_by=held_by,
        values=member.values,
    )


def read_job(
    item: JobInput, settings: Settings, facts: FleetFacts, checked: Checked | None = None
) -> JobSpec:
    """One validated job, or SpecError with every fault. checked: the files that this request has looked at."""
    members = _members(value_of(item), item, settings, facts, {} if checked is None else checked)
    return only_one(members, item.source)


def value_of(item: JobInput) -> dict[str, Any]:
    """Its mapping, with what is laid over it. Raises SpecError."""
    if (item.text is None) == (item.spec is None):
        raise SpecError([Fault("job", "", "give exactly one of text and spec")], item.source)
    value = parse_yaml(item.text, item.source) if item.text is not None else dict(item.spec or {})
    if not item.overrides:
        return value
    kept, _ = without_contradicted(value, item.overrides, item.source)
    return apply_overrides(kept, item.overrides, item.source)


def replaced(items: Sequence[JobInput]) -> list[str]:
    """What the overrides of readable jobs took out of their files, a sentence for each key."""
    said: list[str] = []
    for item in items:
        if item.overrides:
            value = parse_yaml(item.text, item.source) if item.text is not None else dict(item.spec or {})
            said += without_contradicted(value, item.overrides, item.source)[1]
    return said


def _members(
    value: dict[str, Any],
    item: JobInput,
    settings: Settings,
    facts: FleetFacts,
    checked: Checked,
    spend: Callable[[], None] = lambda: None,
) -> list[Member]:
    def check(spec: JobSpec) -> list[Fault]:
        spend()
        return faults_of(spec, settings, facts, checked)

    return members_of(value, item, check)


def members_of(
    value: dict[str, Any], item: JobInput, check: Callable[[JobSpec], list[Fault]]
) -> list[Member]:
    """The jobs of a file's mapping, or SpecError. check: more faults of one of them."""
    base = Path(item.base_dir) if item.base_dir is not None else None
    return read_members(
        value,
        item.source,
        prepare=None if base is None else lambda made: absolute(made, base),
        check=check,
    )


def absolute(value: dict[str, Any], base: Path) -> dict[str, Any]:
    """Relative paths are meant from the job file's folder; a name that is no file there may be a hub id."""
    made = dict(value)
    if isinstance(then := made.get("then"), (list, dict)):
        made["then"] = _absolute_steps(then, base)
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


# What steps name that may be a path.
_STEP_PATHS = {"merge": ("base",)}


def _absolute_steps(given: Any, base: Path) -> Any:
    """The same of `then`."""
    if isinstance(given, list):
        return [_absolute_steps(one, base) for one in given]
    if not isinstance(given, dict):
        return given
    return {
        kind: {
            key: _resolved(value, base)
            if key in _STEP_PATHS.get(kind, ()) and isinstance(value, str)
            else value
            for key, value in options.items()
        }
        if isinstance(options, dict)
        else options
        for kind, options in given.items()
    }


def _resolved(given: str, base: Path) -> str:
    if given.startswith(("~", "/")):
        return os.path.expanduser(
            given
        )  # leaves the ~ of a user who is not there: then no such file is found
    path = base / given
    is_file = given.startswith(("./", "../")) or given.endswith((".jsonl", ".json", ".csv", ".parquet"))
    return str(path) if is_file or path.exists() else given


def faults_of(spec: JobSpec, settings: Settings, facts: FleetFacts, checked: Checked) -> list[Fault]:
    faults: list[Fault] = []
    faults += _trust(spec, settings)
    faults += _gang(spec, facts)
    config = spec.model.config or (model_config(spec) if settings.sees_files else None) or {}
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and spec.training.sequence_length > positions:
        faults.append(length_fault(spec.training.sequence_length, positions))
    faults += _merged_base(spec, config)
    if settings.sees_files:
        model = spec.model
        kind = model.config["model_type"] if model.config else None
        data = (spec.data.model_dump_json(), spec.trainer)
        named = (*data, model.path, model.tokenizer, kind, model.trust_remote_code, spec.method.kind)
        if named not in checked:
            checked[named] = check_inputs(spec, facts.model_types, limit=ROWS_AT_SUBMIT)
        return faults + checked[named]
    if spec.model.config is not None:
        given = spec.model.config["model_type"]
        faults += check_model_type(given, facts.model_types, "model.config.model_type")
    return faults


def _merged_base(spec: JobSpec, config: Mapping[str, Any]) -> list[Fault]:
    """An adapter is merged into a base that is not quantised. config: of the job's model, as far as it is known."""
    if not config.get("quantization_config"):
        return []
    fix = "name the model that it was made from: {merge: {base: HUB_ID_OR_FOLDER}}"
    return [
        Fault(f"then.{at}.merge.base", "", f"is required: {spec.model.path} is quantised", fix)
        for at, step in enumerate(spec.then)
        if step.merge is not None and step.merge.base is None
    ]


def check_secrets(specs: Iterable[JobSpec], known: Callable[[set[str]], set[tuple[str, str]]]) -> None:
    """known: pairs of a project and a name, of projects. Raises SpecError for a secret that its project lacks."""
    wanted = {(spec.project, name) for spec in specs for name in spec.secrets}
    if not wanted:
        return
    missing = sorted(wanted - known({project for project, _ in wanted}))
    faults = [
        Fault("secrets", name, f"is not there in project {project}", f"set it: {_how(project, name)}")
        for project, name in missing
    ]
    if faults:
        raise SpecError(faults)


def _how(project: str, name: str) -> str:
    return f"tuneyard secret set {name} --project {project}"


def _gang(spec: JobSpec, facts: FleetFacts) -> Sequence[Fault]:
    """No more GPUs than a host has, or all of them together where the job may span several."""
    need, across = spec.resources.gpus, spec.resources.across_hosts
    most = facts.all_gpus if across else facts.most_gpus
    if most is None or need <= most:
        return []
    has = f"is more than {'all hosts together have' if across else 'any host has'} ({most})"
    fix = f"use at most {most}" if most else "no host offers a card"
    if not across and most and facts.all_gpus is not None and need <= facts.all_gpus:
        fix += ", or set resources.across_hosts: true"
    return [Fault("resources.gpus", str(need), has, fix)]


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
