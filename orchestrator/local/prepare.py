"""The job of a rehearsal, its card, and the projection that it is held against."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.cards import COMMON, Card, find_card, read_card
from jobs.errors import Fault, SpecError, UsageError
from jobs.jobfile.spec import JobSpec
from jobs.jobfile.sweep import only_one
from jobs.memory.ladder import Choice
from jobs.memory.project import Projection
from jobs.messages.reports import Assignment, GpuInfo
from orchestrator.api.submission.validation import FleetFacts, JobInput, faults_of, members_of, value_of
from orchestrator.config import Settings, load
from orchestrator.control.snapshot.build import length_fault
from orchestrator.control.snapshot.cache import model_config
from orchestrator.local.plan import LIBRARIES, traced
from orchestrator.whatif.job_figures import Asked, catalogue_cards
from workers.checks.weights import NO_WEIGHTS
from workers.machine import model_types
from workers.rehearsal.from_config import from_config


@dataclass(frozen=True)
class Prepared:
    """fits: whether a plan would place it on this card; else the projection is that of the rung nearest to it."""

    name: str
    card: Card
    projection: Projection
    fits: bool
    assignment: Assignment
    notes: list[str]


def prepare(
    body: Mapping[str, Any], card: str | None, home: Path, timeout_s: float, say: Callable[[str], None]
) -> Prepared:
    """Read the job, trace it, and choose its rung for a card of the catalogue; None: the job's own, else a plan's pick.

    Raises UsageError and SpecError for what is wrong with the card or the job, Unavailable for a failed trace.
    """
    cards = [cuda_card(card)] if card else []
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"a rehearsal runs on this machine, which has no {', '.join(missing)}: pip install 'tuneyard[worker]'"
        )
    settings = load(home)
    spec, note = _read(JobInput(**body), settings)
    gpus = spec.resources.gpus
    if gpus > 1:
        share = spec.batch_per_gpu
        raise UsageError(
            f"a rehearsal runs on one GPU, and this job takes {gpus}; --gpus 1 --global-batch {share} rehearses one "
            "of them, without what communication between them takes"
        )
    own = spec.resources.card
    cards = cards or ([cuda_card(own)] if own else [find_card(name) for name in COMMON])
    found = traced(spec, body["source"], home, settings.trusted_models, timeout_s, say)
    most = found.profile.max_length
    if most is not None and spec.training.sequence_length > most:
        raise SpecError([length_fault(spec.training.sequence_length, most)], body["source"])
    asked = Asked(spec, found.lengths, settings.prices, spec.model.config or model_config(spec))
    picked = cards[0]
    if len(cards) > 1:
        entries = catalogue_cards(asked, found.profile, cards, asked.ladder, pick=True)
        name = next((entry["card"] for entry in entries if entry["pick"]), entries[-1]["card"])
        picked = next(one for one in cards if one.name == name)
    chosen = asked.ladder(found.profile, spec, picked, asked.length)
    fits = isinstance(chosen, Choice)
    projection = chosen.projection if isinstance(chosen, Choice) else chosen.smallest
    gpu = GpuInfo(
        uuid="GPU-rehearsed", index=0, kind="cuda", name=picked.name, memory_bytes=picked.memory_bytes
    )
    assignment = Assignment(
        attempt_id=0,
        job_id=0,
        number=1,
        spec=spec,
        rung=projection.rung,
        upper_bytes=projection.upper_bytes,
        gpus=[gpu],
        host="this machine",
        trusted_models=list(settings.trusted_models),
    )
    return Prepared(spec.name or body["source"], picked, projection, fits, assignment, [note, found.note])


def cuda_card(text: str) -> Card:
    """A card of the catalogue with CUDA. Raises UsageError for any other."""
    card = read_card(text)
    if card.kind != "cuda":
        raise UsageError(
            f"card {text!r} has no CUDA, which is what a rehearsal runs on; name one such as rtx4090, or rtx4090:20GiB"
        )
    return card


def _read(item: JobInput, settings: Settings) -> tuple[JobSpec, str]:
    """The job with every fault that matters, and a note where its model is built from its config.

    It needs its data and tokenizer, and no weights.
    """
    facts, absent = FleetFacts(frozenset(model_types()), None), list[Fault]()

    def check(spec: JobSpec) -> list[Fault]:
        faults = faults_of(spec, settings, facts, {})
        absent.extend(fault for fault in faults if fault.problem.startswith(NO_WEIGHTS))
        return [fault for fault in faults if not fault.problem.startswith(NO_WEIGHTS)]

    spec = only_one(members_of(value_of(item), item, check), item.source)
    config = model_config(spec) if absent else None
    return (spec, "") if config is None else from_config(spec, config)
