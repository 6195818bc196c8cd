"""place(job, fleet, free) -> Placement | Misfit: the smallest card that fits, and why it is nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jobs.memory.ladder import Choice, preference
from jobs.state import Code, Reason
from orchestrator.scheduler.feasibility import Chooser, Option, busy, coming_up, options_of, overall
from orchestrator.scheduler.fleet import Fleet, Gpu, Host, PendingJob


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


def place(job: PendingJob, fleet: Fleet, free: frozenset[int], chooser: Chooser) -> Placement | Misfit:
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


def _over_hosts(job: PendingJob, options: Sequence[Option], free: frozenset[int]) -> Placement | None:
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


def wants(job: PendingJob, fleet: Fleet, misfits: Mapping[str, Reason]) -> tuple[dict[str, int], int | None]:
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


def _preference(
    job: PendingJob, option: Option, free: Sequence[Gpu]
) -> tuple[tuple[float, ...], int, int, int]:
    """By the job's policy; then the host with the fewest free cards left (best fit); then the oldest host."""
    wanted = preference(job.spec.resources.policy, free[0].card, option.choice)
    return (wanted, len(free), option.host.id, free[0].index)
