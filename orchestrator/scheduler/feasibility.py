"""Which cards of a host could take a job, free or not, and on which rung; what is said where none could."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from jobs.cards import Card
from jobs.jobfile.requirements import LACKS, lacking
from jobs.jobfile.spec import JobSpec
from jobs.memory.ladder import Choice, NoFit
from jobs.memory.profile import MemoryProfile
from jobs.state import Code, Reason
from jobs.units import counted, gib, listed_jobs
from orchestrator.scheduler.fleet import Gpu, Host, NoProfile, PendingJob

Profiles = Mapping[str, MemoryProfile | NoProfile]
# A reason is stored with every job that waits, and read with each plan: it must not grow with the fleet.
MOST_NAMED = 5  # jobs or hosts, in its text
MOST_HOLDERS = 20  # jobs among its figures


class Chooser(Protocol):
    """The rung of a job on a card. stack: of the host, as Host.stack_id; empty: any."""

    def __call__(
        self, job: PendingJob, profile: MemoryProfile, card: Card, stack: str = ""
    ) -> Choice | NoFit: ...


@dataclass(frozen=True)
class Option:
    """Usable cards of one type on one host that could take the job, free or not."""

    host: Host
    gpus: tuple[Gpu, ...]
    choice: Choice


def coming_up(options: Sequence[Option]) -> Reason:
    """A host that would do, but takes no trainer yet."""
    label = options[0].gpus[0].label
    return Reason(Code.BUSY, f"fits {label} and up; its Ray worker is still coming up")


def options_of(job: PendingJob, host: Host, profiles: Profiles, chooser: Chooser) -> list[Option] | Reason:
    """The host's card types that could take the job, or the first thing that does not fit."""
    need = job.spec.resources
    if not host.online:
        return Reason(Code.NO_HOST, "was stopped" if host.left else "does not answer")
    if host.drained:
        return Reason(Code.NO_HOST, "is drained")
    if host.fault is not None:
        return Reason(Code.NO_HOST, f"can't start a trainer: {host.fault}")
    for name, value in need.labels.items():
        if host.labels.get(name) != value:
            has = host.labels.get(name)
            return Reason(
                Code.NO_CARD, f"has no label {name}={value}" + (f" (has {name}={has})" if has else "")
            )
    usable = [gpu for gpu in host.gpus if gpu.usable]
    if not usable:
        return Reason(
            Code.NO_CARD,
            f"has {counted(len(host.gpus), 'card')}, and none is usable" if host.gpus else "has no cards",
        )
    if need.card is not None:
        usable = [gpu for gpu in usable if need.card.lower() in gpu.label.lower()]
        if not usable:
            return Reason(Code.NO_CARD, f"has no card of type {need.card}")
    if need.min_memory is not None:
        least = need.min_memory
        usable = [gpu for gpu in usable if gpu.memory_bytes >= least]
        if not usable:
            return Reason(Code.NO_CARD, f"has no card of at least {gib(least)}", {"min_memory_bytes": least})
    types: dict[tuple[str, int], list[Gpu]] = {}
    for gpu in usable:
        types.setdefault((gpu.name, gpu.memory_bytes), []).append(gpu)
    groups = [group for group in types.values() if len(group) >= need.gpus or job.across]
    if not groups:
        most = max(len(group) for group in types.values())
        return Reason(
            Code.GANG,
            f"has {most} such cards of one type, the job needs {need.gpus}",
            {
                "gpus": need.gpus,
                "most": most,
                "types": {group[0].label: len(group) for group in types.values()},
            },
        )
    kinds = {gpu.kind for group in groups for gpu in group}
    lacks = {kind: lacking(job.spec, host.stack, kind, job.needs) for kind in sorted(kinds)}
    if missing := next((reason for reason in lacks.values() if reason), None):
        groups = [group for group in groups if lacks[group[0].kind] is None]
        if not groups:
            return missing
    profile = profiles.get(job.keys.get(host.stack_id, ""), NoProfile())
    if isinstance(profile, NoProfile):
        if profile.error is not None and profile.error.startswith(LACKS):
            return Reason(Code.LIBRARY, f"has no {profile.error.removeprefix(LACKS)}")
        if profile.error is not None:
            return Reason(Code.PROFILE_FAILED, f"no memory profile: {profile.error}")
        return Reason(Code.PROFILE_PENDING, "its memory profile is being traced")
    if job.counted != "yes":
        return Reason(Code.PROFILE_PENDING, "the lengths of its data are being counted")
    options, nearest = [], None
    for group in sorted(groups, key=lambda group: group[0].memory_bytes):
        choice = chooser(job, profile, group[0].card, host.stack_id)
        if isinstance(choice, Choice):
            options.append(Option(host, tuple(group), choice))
        else:
            nearest = choice.reason
    if options:
        return options
    assert nearest is not None
    return nearest


def busy(spec: JobSpec, options: Sequence[Option], free: frozenset[int]) -> Reason:
    """Cards fit, but too few of them are free."""
    smallest = options[0]
    holders = sorted({gpu.held_by for option in options for gpu in option.gpus if gpu.held_by is not None})
    figures = {
        "gpus": spec.resources.gpus,
        "free": max(sum(gpu.id in free for gpu in option.gpus) for option in options),
        "fitting": sum(len(option.gpus) for option in options),
        "held_by_jobs": holders[:MOST_HOLDERS],
        "upper_bytes": smallest.choice.projection.upper_bytes,
    }
    label = smallest.gpus[0].label
    who = f"held by {listed_jobs(holders, MOST_NAMED)}"
    if all(len(option.gpus) < spec.resources.gpus for option in options):  # it goes over several hosts
        figures["free"] = sum(gpu.id in free for option in options for gpu in option.gpus)
        text = f"needs {spec.resources.gpus} cards; {figures['free']} of {figures['fitting']} that it fits are free"
        return Reason(Code.BUSY, f"{text}; {who}" if holders else text, figures)
    for option in options:
        unheld = [gpu for gpu in option.gpus if gpu.held_by is None]
        if len(unheld) >= spec.resources.gpus:
            return Reason(Code.BEHIND, f"fits {label} and up; taken by a job before it", figures)
    return Reason(Code.BUSY, f"fits {label} and up; {who}", figures)


# What is said for the whole fleet: the obstacle nearest to a start.
_NEAREST = (
    Code.BUSY,
    Code.BEHIND,
    Code.PROFILE_PENDING,
    Code.MEMORY,
    Code.PROFILE_FAILED,
    Code.LIBRARY,
    Code.GANG,
    Code.NO_CARD,
    Code.NO_HOST,
)


def overall(by_host: Mapping[str, Reason]) -> Reason:
    """What the hosts say, in one reason."""
    if not by_host:
        return Reason(Code.NO_HOST, "no host has joined; start one with `tuneyard up` or `tuneyard host run`")
    codes = {reason.code for reason in by_host.values()}
    code = next(code for code in _NEAREST if code in codes)
    if code is Code.MEMORY:
        # The largest card's figures: the least that is missing.
        short = [reason for reason in by_host.values() if reason.code is code]
        reason = max(short, key=lambda reason: reason.figures.get("card_bytes", 0))
        return Reason(code, f"fits no card: {reason.text}", dict(reason.figures))
    chosen = {name: reason for name, reason in by_host.items() if reason.code is code}
    if code is Code.NO_HOST:
        first = [f"{name} {reason.text}" for name, reason in itertools.islice(chosen.items(), MOST_NAMED)]
        more = [f"and {len(chosen) - MOST_NAMED} more"] if len(chosen) > MOST_NAMED else []
        return Reason(code, f"no host takes jobs ({', '.join([*first, *more])})")
    name, reason = next(iter(chosen.items()))
    if code is Code.GANG:
        need, most = reason.figures["gpus"], [one.figures["most"] for one in chosen.values()]
        text = f"gang of {need}, at most {counted(max(most), 'card')} of one type on one host"
        by_type: Counter[str] = Counter()
        for one in chosen.values():
            by_type.update(one.figures["types"])
        if max(by_type.values()) >= need:
            text += "; resources.across_hosts: true would let it span hosts"
        return Reason(code, text, {"gpus": need, "most": max(most), "types": dict(by_type)})
    if code is Code.NO_CARD and len(chosen) > 1:
        return Reason(code, f"no host has what it asks for ({name} {reason.text})", dict(reason.figures))
    prefix = "" if code in (Code.PROFILE_PENDING, Code.PROFILE_FAILED) else f"{name}: "
    return Reason(code, prefix + reason.text, dict(reason.figures))
