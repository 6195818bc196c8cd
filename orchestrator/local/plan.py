"""A plan made on this machine alone: the trace in a child process here, no server, no host. Needs the worker extra."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jobs.cards import COMMON, Card, card_for, find_card
from jobs.errors import ProfileError, SpecError, TuneyardError, Unavailable, UsageError
from jobs.jobfile.spec import JobSpec
from jobs.memory.profile import MemoryProfile, trace_key
from jobs.memory.sequence_lengths import Lengths
from jobs.messages.reports import TraceRequest, TraceResult
from orchestrator import schemas
from orchestrator.api.submission.planned_job import read_plan
from orchestrator.api.submission.validation import FleetFacts, JobInput, replaced
from orchestrator.config import load
from orchestrator.control.snapshot.build import length_fault
from orchestrator.control.snapshot.cache import model_config
from orchestrator.control.snapshot.sequence_lengths import key_of, not_counted
from orchestrator.whatif.job_figures import Asked, catalogue_cards, misfit_advice, plan_shape
from workers.agent.profile_child import trace_in_child
from workers.agent.profile_queue import trace_memory_bytes
from workers.durable import publish
from workers.gpus import find_cards
from workers.machine import model_types, stack

T = TypeVar("T")

LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets")


@dataclass(frozen=True)
class Found:
    """What a trace came to. lengths: None where the data could not be counted; note: why not."""

    profile: MemoryProfile
    lengths: Lengths | None
    note: str = ""


def plan_here(
    body: Mapping[str, Any],
    cards: Sequence[Card],
    prices: Mapping[str, float],
    home: Path,
    timeout_s: float,
    say: Callable[[str], None],
) -> schemas.PlanShape:
    """The answer of POST /plan for these cards; without any, for the GPUs of this machine, else the common ones.

    Raises UsageError without the worker extra, SpecError for a fault of the job file, Unavailable for a trace that
    ended badly.
    """
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"--local traces on this machine, which has no {', '.join(missing)}: pip install 'tuneyard[worker]', "
            "or leave --local out to have a host of the fleet do it"
        )
    settings = load(home)
    planned = read_plan(JobInput(**body), settings, FleetFacts(frozenset(model_types()), None))
    spec = planned.spec
    wanted = list(cards) or _own_gpus() or [find_card(name) for name in COMMON]
    found = traced(
        planned.spec, body["source"], home, settings.trusted_models, timeout_s, say, planned.without_data
    )
    most = found.profile.max_length
    if most is not None and spec.training.sequence_length > most:
        raise SpecError([length_fault(spec.training.sequence_length, most)], body["source"])
    config = spec.model.config or model_config(spec)
    asked = Asked(spec, found.lengths, {**settings.prices, **prices}, config)
    entries = catalogue_cards(asked, found.profile, wanted, asked.ladder, pick=True)
    notes = [*([found.note] if found.note else []), *found.profile.notes]
    advice: list[str] = []
    reason = None
    if not any(entry["fits"] for entry in entries):
        largest = max(wanted, key=lambda card: card.memory_bytes)
        reason = f"fits none of these cards: {entries[-1]['reason']}"
        advice += misfit_advice(asked, found.profile, largest, asked.ladder)
    shaped = plan_shape(body["source"], asked, entries, reason, advice, notes=notes)
    return {**shaped, "replaced": replaced([JobInput(**body)])}


def _own_gpus() -> list[Card]:
    """The card types of this machine, none without NVML."""
    try:
        cards = find_cards("here")
    except TuneyardError:
        return []
    try:
        infos = cards.infos()
    finally:
        cards.close()
    return list(
        {
            (gpu.name, gpu.memory_bytes): card_for(gpu.kind, gpu.name, gpu.memory_bytes) for gpu in infos
        }.values()
    )


def traced(
    spec: JobSpec,
    source: str,
    home: Path,
    trusted: Sequence[str],
    timeout_s: float,
    say: Callable[[str], None],
    without_data: str = "",
) -> Found:
    """Profile and lengths from what earlier plans left under home/traces, else from a child process.

    without_data: why its data is not counted, "" where it is. Raises as plan_here does.
    """
    folder = home / "traces"
    key = trace_key(spec, stack(), model_config(spec))
    data = "" if without_data else key_of(spec, 0)
    profile = _kept(folder / f"{key}.json", MemoryProfile.from_dict)
    lengths = _kept(folder / f"{data}.json", Lengths.from_dict) if data else None
    if profile is not None and (lengths is not None or not data):
        return Found(profile, lengths, without_data)
    say("tracing the model on this machine .." if profile is None else "counting the data on this machine ..")
    request = TraceRequest(
        key="" if profile else key,
        data_key="" if lengths else data,
        spec=spec,
        trusted_models=list(trusted),
    )
    result = trace_in_child(request, timeout_s=timeout_s, memory_bytes=trace_memory_bytes())
    if profile is None:
        profile = _profile(result, source, spec)
        _keep(folder / f"{key}.json", result.profile)
    if result.data_bad_input:
        raise UsageError(f"{source}: {result.data_error}")
    if lengths is None and result.lengths is not None:
        lengths = Lengths.from_dict(result.lengths)
        _keep(folder / f"{data}.json", result.lengths)
    if not data:
        return Found(profile, None, without_data)
    return Found(profile, lengths, "" if lengths else not_counted(result.data_error or "no answer"))


def _profile(result: TraceResult, source: str, spec: JobSpec) -> MemoryProfile:
    if result.profile is not None:
        return MemoryProfile.from_dict(result.profile)
    if result.bad_input:
        raise UsageError(f"{source}: {result.error}")
    model = spec.model.path or f"a {(spec.model.config or {}).get('model_type')} of this config"
    raise Unavailable(f"model {model} can't be planned for, its memory was not traced: {result.error}")


def _kept(path: Path, read: Callable[[Any], T]) -> T | None:
    try:
        return read(json.loads(path.read_text()))
    except (OSError, ValueError, ProfileError):
        return None


def _keep(path: Path, value: Any) -> None:
    """Whole or not at all: another plan may read it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    publish(path, json.dumps(value))
