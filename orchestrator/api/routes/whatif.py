"""Routes that ask the planner without changing anything: plan, why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from jobs.cards import Card, check_prices, read_card
from jobs.errors import InputError, NotFound
from jobs.jobfile.spec import JobSpec
from jobs.memory.calibration.interval import Calibration
from jobs.memory.ladder import Choice, NoFit
from jobs.memory.profile import MemoryProfile
from jobs.state import Code, JobState, Reason
from orchestrator import schemas
from orchestrator.api.context import Services
from orchestrator.api.edge.refusals import raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.responses import advice, next_steps
from orchestrator.api.responses.presence import shower
from orchestrator.api.routes.jobs import services
from orchestrator.api.routes.requeue import source_of
from orchestrator.api.submission.planned_job import read_plan
from orchestrator.api.submission.validation import JobInput, replaced
from orchestrator.control.snapshot.build import fleet_of, hosts_of, pending_job_of
from orchestrator.control.snapshot.cache import SnapshotCache, chooser, model_config
from orchestrator.control.snapshot.sequence_lengths import DataLengths
from orchestrator.scheduler.cache.scheduler_cache import SchedulerCache
from orchestrator.scheduler.fleet import Fleet, Gpu, Host, NoProfile, PendingJob
from orchestrator.scheduler.placement.place import Misfit, Placement
from orchestrator.scheduler.plan import explain
from orchestrator.store import unreadable
from orchestrator.store.rows import JobRow
from orchestrator.whatif.changes import WhatIf, sooner, under_way
from orchestrator.whatif.job_figures import (
    Asked,
    Seen,
    card_shape,
    catalogue_cards,
    misfit_advice,
    plan_shape,
)
from workers.checks.libraries import needs_of

router = APIRouter(route_class=Surviving)


# Reasons that no change to the job file takes away, and those with which nobody can tell yet whether it would.
_ONLY_TIME = frozenset({Code.AFTER, Code.BACKOFF, Code.STORAGE, Code.HELD, Code.ROOM})
_UNTOLD = frozenset({Code.NEW, Code.PROFILE_PENDING, Code.PROFILE_FAILED, Code.NO_HOST})


class PlanRequest(BaseModel):
    """Body of POST /plan. cards: of the catalogue, beside those of the fleet; prices: over the server's own."""

    model_config = ConfigDict(extra="forbid")

    job: JobInput
    cards: list[str] = Field(default_factory=list, max_length=100)
    prices: dict[str, float] = Field(default_factory=dict)


@dataclass(frozen=True)
class _Question:
    """A job as if it were the only one that waits, the fleet as it is, and what was measured so far.

    note: why its data was not counted; fault: what is wrong with data, tokenizer or model, as a host found; missing:
    whether that is that its data is not there.
    """

    job: PendingJob
    fleet: Fleet
    asked: Asked
    calibration: Calibration
    note: str
    fault: str | None = None
    missing: bool = False

    def pick(self, job: PendingJob, profile: MemoryProfile, card: Card, stack: str = "") -> Choice | NoFit:
        """As the planner chooses."""
        return chooser(self.calibration)(job, profile, card, stack)

    def ladder(self, profile: MemoryProfile, spec: JobSpec, card: Card, length: int | None) -> Choice | NoFit:
        """The same for a job file that is changed a little."""
        return self.pick(replace(self.job, spec=spec, length=length), profile, card)


@router.post("/plan", response_model=None)
def plan(request: Request, wanted: PlanRequest) -> JSONResponse | schemas.PlanShape:
    """What the job would take on each card type of the fleet. 202 while its memory profile is being traced."""
    known = services(request)
    named = [read_card(text) for text in wanted.cards]
    prices = check_prices(wanted.prices)
    facts = known.facts()
    if named:  # cards that the fleet need not have, as many as the job asks for
        facts = replace(facts, most_gpus=None)
    planned = read_plan(wanted.job, known.settings, facts)
    spec = planned.spec
    question = _question(known, spec, prices, without_data=planned.without_data)
    if question.fault is not None and question.missing:
        length = f"{spec.training.sequence_length:,} tokens"
        absent = f"{question.fault}: planned for rows of the whole sequence_length, {length}"
        question = _question(known, spec, prices, without_data=absent)
    if question.fault is not None:
        raise InputError(f"{wanted.job.source}: {question.fault}")
    found = explain(question.job, question.fleet, question.pick)
    wants = _wants(question, found, bool(named))
    now = known.controller.clock()
    if wants.uncounted is not None:
        DataLengths(known.store).want(question.job.data_key, spec, wants.uncounted, now)
    for key, host_id in wants.untraced.items():
        known.store.want_profile(key, spec.model_dump(mode="json", exclude_unset=True), now)
        known.store.assign_profile(key, host_id, now)
    key = next(iter(question.job.keys.values()), "")
    if named and _under_way(question, wants):
        return JSONResponse({"pending": key, "text": "its memory profile is being traced"}, 202)
    cards = _cards(question)
    pending = isinstance(found, Misfit) and found.reason.code is Code.PROFILE_PENDING
    if pending and (not cards or question.job.counted != "yes"):
        return JSONResponse({"pending": key, "text": found.reason.text}, 202)  # type: ignore[union-attr]
    if named and (profile := _profile(question)) is not None:
        cards += catalogue_cards(question.asked, profile, named, question.ladder, pick=not cards)
    reason = found.reason.text if isinstance(found, Misfit) else None
    helps: list[str] = []
    notes = [question.note] if question.note else []
    notes += traced.notes if (traced := _profile(question)) is not None else ()
    if isinstance(found, Misfit) and not any(card["fits"] for card in cards):
        helps = sooner(question.job, _what_if(known, question), False) + _misfit(question, found.reason)
    shaped = plan_shape(wanted.job.source, question.asked, cards, reason, helps, notes=notes)
    return {**shaped, "replaced": replaced([wanted.job])}


@dataclass(frozen=True)
class _Wants:
    """What a plan has to ask hosts for. untraced: key of the profile -> host; uncounted: host to count the data on."""

    untraced: Mapping[str, int] = field(default_factory=dict)
    uncounted: int | None = None


def _wants(question: _Question, found: Placement | Misfit, anyway: bool) -> _Wants:
    """anyway: for cards of the catalogue, though none of the fleet's may take the job whatever it needs."""
    if isinstance(found, Placement):
        return _Wants()
    host = next((host for host in question.fleet.hosts if host.open), None)
    if not anyway or host is None:
        return _Wants(found.untraced, found.uncounted)
    job = question.job
    known = any(key in question.fleet.profiles for key in job.keys.values())
    return _Wants(
        found.untraced or ({} if known else {job.keys[host.stack_id]: host.id}),
        found.uncounted or (host.id if job.counted == "no" else None),
    )


def _under_way(question: _Question, wants: _Wants) -> bool:
    """Whether profile or lengths are to come that cards of the catalogue need."""
    traced = [question.fleet.profiles.get(key) for key in question.job.keys.values()]
    if any(isinstance(one, MemoryProfile) for one in traced):
        return question.job.counted != "yes"
    return bool(wants.untraced) or NoProfile() in traced


def _question(
    known: Services,
    spec: JobSpec,
    prices: Mapping[str, float],
    row: JobRow | None = None,
    without_data: str = "",
) -> _Question:
    """row: the job where it is one that waits, with the attempts behind it; without_data: why its data is not looked
    at, "" where it is.
    """
    now = known.controller.clock()
    priced = replace(known.settings, prices={**known.settings.prices, **prices})
    hosts = hosts_of(known.store.fleet_rows(), now, priced, known.controller.online)
    snapshot_cache = SnapshotCache()
    if row is not None:
        before = () if row.continues is None else known.store.attempts(row.continues)
        job = pending_job_of(row, hosts, snapshot_cache, known.store.attempts(row.id), before=before)
    else:
        keys = {host.stack_id: snapshot_cache.key(0, spec, host) for host in hosts}
        job = PendingJob(
            *(0, spec, spec.priority, now, keys),
            **snapshot_cache.family(0, spec),
            across=spec.resources.across_hosts,
            needs=needs_of(spec),
        )
    fleet = fleet_of(hosts, [job], known.store.profiles(set(job.keys.values())), snapshot_cache, now)
    data = DataLengths(known.store)
    (job,) = fleet.queue if without_data else data.filled(fleet.queue, now)
    job = replace(job, generation=0)  # it is not the controller's
    config = spec.model.config or model_config(spec)
    asked = Asked(spec, data.lengths(job), priced.prices, config)
    calibration = known.controller.snapshot_cache.calibration
    fault = data.fault(job, sum(host.open for host in hosts))
    missing = data.is_missing(job)
    return _Question(
        job, replace(fleet, queue=(job,)), asked, calibration, without_data or data.note(job), fault, missing
    )


def _profile(question: _Question) -> MemoryProfile | None:
    """The job's profile of any host that has one."""
    for host in question.fleet.hosts:
        profile = question.fleet.profiles.get(question.job.keys[host.stack_id])
        if isinstance(profile, MemoryProfile):
            return profile
    return None


def _unheld(fleet: Fleet, wanted: Callable[[Gpu], bool]) -> Fleet:
    """The fleet with the wanted cards alone, and nobody on them."""
    hosts = tuple(
        replace(
            host, ray_ready=True, gpus=tuple(replace(gpu, held_by=None) for gpu in host.gpus if wanted(gpu))
        )
        for host in fleet.hosts
    )
    return replace(fleet, hosts=tuple(host for host in hosts if host.gpus))


def _cards(question: _Question) -> list[schemas.PlanCard]:
    """One entry a card type, smallest first. The pick is what the planner would take if no card were held."""
    job, fleet = question.job, question.fleet
    ideal = explain(job, _unheld(fleet, lambda gpu: True), question.pick)
    pick = ideal.gpus[0].label if isinstance(ideal, Placement) else None
    types: dict[tuple[str, int], list[tuple[Gpu, Host, MemoryProfile]]] = {}
    for host in fleet.hosts:
        profile = fleet.profiles.get(job.keys[host.stack_id])
        if host.open and isinstance(profile, MemoryProfile):
            for gpu in host.gpus:
                types.setdefault((gpu.name, gpu.memory_bytes), []).append((gpu, host, profile))
    return [
        _card(question, members, pick)
        for _, members in sorted(types.items(), key=lambda item: (item[0][1], item[0][0]))
    ]


def _card(
    question: _Question, members: list[tuple[Gpu, Host, MemoryProfile]], pick: str | None
) -> schemas.PlanCard:
    gpu, host, profile = members[0]
    job, stack = question.job, host.stack_id
    verdict = explain(job, _unheld(question.fleet, lambda other: other.label == gpu.label), question.pick)
    fits = isinstance(verdict, Placement)
    seen = Seen(
        count=len(members),
        free=sum(g.held_by is None and g.usable for g, _, _ in members),
        reason=None if isinstance(verdict, Placement) else verdict.reason.text,
        pick=fits and gpu.label == pick,
    )
    found = question.pick(job, profile, gpu.card, stack)
    return card_shape(question.asked, profile, gpu.card, found, seen)


@router.get("/jobs/{job}/why", responses=raises(NotFound))
def why(request: Request, job: str) -> schemas.Why:
    """Why it waits, host by host; or how it came to be where it is."""
    known = services(request)
    row = known.store.find_job(job)
    with unreadable.one("job", row.id):
        return _why(known, row)


def _why(known: Services, row: JobRow) -> schemas.Why:
    found_view = known.store.job_view(row.id)
    view = shower(known)(found_view)
    if row.state is JobState.RUNNING:
        told = next_steps.while_running(view, row, found_view.attempt, known.controller.clock())
        return {"job": view, "hosts": [], "advice": told}
    if row.state is not JobState.QUEUED:
        advised = (
            next_steps.after_end(row, source_of(known, row))
            if row.step_of is None
            else next_steps.after_step(row, known.store.steps_of([row.step_of])[row.step_of])
        )
        return {"job": view, "hosts": [], "advice": advised}
    if row.step_of is not None:  # it takes no card: what it waits for is one thing, and its reason names it
        return {"job": view, "hosts": [], "advice": []}
    question = _question(known, JobSpec.model_validate(row.spec), {}, row)
    found = explain(question.job, question.fleet, question.pick)
    if isinstance(found, Placement):
        text = f"would start on {found.gpus[0].label} ({found.choice.rung.label}); {row.reason.text}"
        verdicts: list[schemas.HostVerdict] = [
            {"host": found.host.name, "verdict": text, "code": str(row.reason.code)}
        ]
    else:
        verdicts = [
            {"host": name, "verdict": reason.text, "code": str(reason.code)}
            for name, reason in found.by_host.items()
            # Whose cards are held now is nothing to a job that waits for another's end.
            if not (row.reason.code is Code.AFTER and reason.code is Code.BUSY)
        ]
    return {"job": view, "hosts": verdicts, "advice": _would_help(known, row, question, found)}


def _would_help(known: Services, row: JobRow, question: _Question, found: Misfit | Placement) -> list[str]:
    """What would make a waiting job start sooner, each tried with all that wait; else what it waits for."""
    code = row.reason.code
    if code in _ONLY_TIME:
        return advice.just_wait(row, question.fleet)
    fits = isinstance(found, Placement) or found.reason.code in (Code.BUSY, Code.BEHIND)
    asked = _what_if(known, question)
    helps = [] if code in _UNTOLD else sooner(question.job, asked, fits)
    if code is Code.QUOTA:
        return [*helps, *advice.more_quota(row, question.job, asked)]
    if isinstance(found, Misfit) and not fits:
        noted = [question.note] if question.note and found.reason.code is Code.MEMORY else []
        return helps + noted + _misfit(question, found.reason)
    return [*helps, *advice.just_wait(row, question.fleet)]


def _what_if(known: Services, question: _Question) -> WhatIf:
    """The fleet as the controller saw it last, with everybody who waits."""
    controller = known.controller
    snapshot_cache, rules = controller.snapshot_cache.branch(), controller.settings.rules
    seen = under_way(*controller.seen, rules) if controller.seen else question.fleet
    waiting = {job.job_id for job in seen.queue}

    def pick(job: PendingJob, profile: MemoryProfile, card: Card, stack: str = "") -> Choice | NoFit:
        # What is known of a job by its number is not true of one that was changed.
        changed = job.job_id not in waiting or job.job_id == question.job.job_id
        return (question.pick if changed else snapshot_cache.choose)(job, profile, card, stack)

    profiles = {**question.fleet.profiles, **seen.profiles}
    fleet = replace(seen, profiles=profiles)
    return WhatIf(fleet, controller.clock(), pick, rules, SchedulerCache(pick))


def _misfit(question: _Question, reason: Reason) -> list[str]:
    """What helps a job that fits nowhere, as far as nothing about who else waits need be known."""
    if reason.code is Code.MEMORY:
        return _memory_advice(question)
    return advice.misfit(question.job, question.fleet, reason)


def _memory_advice(question: _Question) -> list[str]:
    """For the largest card that it may use."""
    job, fleet = question.job, question.fleet
    largest = max(
        (
            (gpu.memory_bytes, gpu.card, profile)
            for host in fleet.hosts
            for gpu in host.gpus
            if isinstance(profile := fleet.profiles.get(job.keys[host.stack_id]), MemoryProfile)
        ),
        key=lambda entry: entry[0],
        default=None,
    )
    return [] if largest is None else misfit_advice(question.asked, largest[2], largest[1], question.ladder)
