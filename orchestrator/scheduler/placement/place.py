"""place(job, fleet, free) -> Placement | Misfit: the smallest card that fits, and why it is nowhere else."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from jobs.cards import Card
from jobs.jobfile.requirements import LACKS, lacking
from jobs.jobfile.spec import JobSpec
from jobs.memory.ladder import Choice, NoFit, preference
from jobs.memory.profile import MemoryProfile
from jobs.state import Code, Reason
from jobs.units import counted, gib
from orchestrator.scheduler.fleet import Fleet, Gpu, Host, NoProfile, Waiting

# A reason is stored with every job that waits, and read with each plan: it must not grow with the fleet.
MOST_NAMED = 5  # jobs or hosts, in its text
MOST_HOLDERS = 20  # jobs among its figures


class Chooser(Protocol):
    """The rung of a job on a card. stack: of the host, as Host.stack_id; empty: any."""

    def __call__(
        self, job: Waiting, profile: MemoryProfile, card: Card, stack: str = ""
    ) -> Choice | NoFit: ...


@dataclass(frozen=True)
class Placement:
    """Cards, one a rank, and the rung that the job runs on there.

    host: theirs, the first's where a gang spans several; side: beside others on a card that is shared.
    """

    host: Host
    gpus: tuple[Gpu, ...]
    choice: Choice
    side: bool = False


@dataclass(frozen=True)
class Misfit:
    """Why the job can't start now.

    by_host: for each host the first thing that does not fit; untraced: profile keys that nobody asked for yet, with a
    host to trace on; uncounted: the host to count its data's lengths on, where nobody was asked for them yet.
    """

    reason: Reason
    by_host: Mapping[str, Reason] = field(default_factory=dict)
    untraced: Mapping[str, int] = field(default_factory=dict)
    uncounted: int | None = None


@dataclass(frozen=True)
class Option:
    """Usable cards of one type on one host that could take the job, free or not."""

    host: Host
    gpus: tuple[Gpu, ...]
    choice: Choice


def place(job: Waiting, fleet: Fleet, free: frozenset[int], chooser: Chooser) -> Placement | Misfit:
    """Where the job starts now, given the ids of the cards that are free for it, or why it does not."""
    options: list[Option] = []
    by_host: dict[str, Reason] = {}
    for host in fleet.hosts:
        found = options_of(job, host, fleet.profiles, chooser)
        if isinstance(found, list) and not host.ray_ready:
            found = coming_up(found)
        if isinstance(found, Reason):
            by_host[host.name] = found
            continue
        options += found
        by_host[host.name] = busy(job.spec, found, free)
    need = job.spec.resources.gpus
    ready = [(option, [gpu for gpu in option.gpus if gpu.id in free]) for option in options]
    enough = [(option, gpus) for option, gpus in ready if len(gpus) >= need]
    if enough:
        best, gpus = min(enough, key=lambda pair: (pair[0].host.id in job.shaky, _preference(job, *pair)))
        return Placement(best.host, tuple(gpus[:need]), best.choice)
    if job.across and (spread := _over_hosts(job, options, free)) is not None:
        return spread
    return Misfit(overall(by_host), by_host, *wants(job, fleet, by_host))


def _over_hosts(job: Waiting, options: Sequence[Option], free: frozenset[int]) -> Placement | None:
    """A gang on whole hosts, and on part of one more: cards of one type, libraries of one version."""
    alike: dict[object, list[tuple[Option, list[Gpu]]]] = {}
    for option in options:
        ready = [gpu for gpu in option.gpus if gpu.id in free]
        same = (option.gpus[0].label, option.choice.rung, option.host.stack_id)
        alike.setdefault(same, []).append((option, ready))
    best: tuple[tuple[float, ...], Placement] | None = None
    for group in alike.values():
        left, chosen = job.spec.resources.gpus, []
        ordered = sorted(group, key=lambda pair: (len(pair[1]) < len(pair[0].gpus), -len(pair[1])))
        for option, ready in ordered:
            if len(ready) == len(option.gpus) <= left or (left and len(ready) >= left):
                chosen.append((option, ready[:left]))
                left -= len(chosen[-1][1])
        if left == 0:
            first = chosen[0][0]
            gpus = tuple(gpu for _, ready in chosen for gpu in ready)
            key = preference(job.spec.resources.policy, gpus[0].card, first.choice)
            if best is None or key < best[0]:
                best = (key, Placement(first.host, gpus, first.choice))
    return None if best is None else best[1]


def wants(job: Waiting, fleet: Fleet, misfits: Mapping[str, Reason]) -> tuple[dict[str, int], int | None]:
    """Profile keys that nobody asked for yet, each with a host to trace on; and a host to count its data on."""
    untraced: dict[str, int] = {}
    uncounted: int | None = None
    for host in fleet.hosts:
        if not host.open or host.name not in misfits:
            continue
        if misfits[host.name].code is Code.PROFILE_PENDING:
            key = job.keys.get(host.stack_id)
            if key is not None and key not in fleet.profiles:
                untraced.setdefault(key, host.id)
            if job.counted == "no" and uncounted is None:
                uncounted = host.id
    return untraced, uncounted


def coming_up(options: Sequence[Option]) -> Reason:
    """A host that would do, but takes no trainer yet."""
    label = options[0].gpus[0].label
    return Reason(Code.BUSY, f"fits {label} and up; its Ray worker is still coming up")


def _preference(job: Waiting, option: Option, free: Sequence[Gpu]) -> tuple[tuple[float, ...], int, int, int]:
    """By the job's policy; then the host with the fewest free cards left (best fit); then the oldest host."""
    wanted = preference(job.spec.resources.policy, free[0].card, option.choice)
    return (wanted, len(free), option.host.id, free[0].index)


def options_of(
    job: Waiting, host: Host, profiles: Mapping[str, MemoryProfile | NoProfile], chooser: Chooser
) -> list[Option] | Reason:
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
    who = f"held by job{'s' if len(holders) > 1 else ''} {', '.join(map(str, holders[:MOST_NAMED]))}" + (
        " …" if len(holders) > MOST_NAMED else ""
    )
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
    said = {id(reason): reason for reason in by_host.values()}.values()  # hosts that are alike say the same
    codes = {reason.code for reason in said}
    code = next(code for code in _NEAREST if code in codes)
    if code is Code.MEMORY:
        # The largest card's figures: the least that is missing.
        short = [reason for reason in said if reason.code is code]
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
