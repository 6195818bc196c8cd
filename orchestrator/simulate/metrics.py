"""What a simulation came to: completion and waiting times, utilisation, fairness. Pure; times in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.simulate.trace import Ran

SLOWDOWN_BOUND_S = (
    10.0  # a job of a second that waits two is not thrice as slow (Feitelson's bounded slowdown)
)


@dataclass(frozen=True)
class Spread:
    """Figures of many times, in seconds."""

    mean: float
    median: float
    p99: float
    p999: float
    most: float


@dataclass(frozen=True)
class Measures:
    """Figures of the jobs of one simulation, or of some of them.

    unfinished: jobs that never ended, counted nowhere else; jct: completion minus submission; wait: queued, all waits
    of a job together; makespan_s: from the first submission to the last end; utilisation: share of the GPU-seconds of
    the makespan that jobs held; slowdown: the mean of the jobs'; fairness: Jain's index of the slowdowns of the users,
    each the mean of its jobs', 1 is equal.
    """

    jobs: int
    unfinished: int
    jct: Spread
    wait: Spread
    slowdown: float
    makespan_s: float
    utilisation: float
    gpu_hours: float
    fairness: float
    preemptions: int
    moves: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(ran: Sequence[Ran], gpus: int) -> Measures:
    """The figures. gpus: of the fleet."""
    ended = [(one, jct) for one in ran if (jct := one.jct_s) is not None]
    first = min((one.job.submit_s for one, _ in ended), default=0.0)
    last = max((one.end_s or 0.0 for one, _ in ended), default=0.0)
    held = sum(one.gpu_s for one in ran)
    by_user: dict[str, list[float]] = {}
    for one, jct in ended:
        by_user.setdefault(one.job.user, []).append(slowdown(one, jct))
    return Measures(
        jobs=len(ran),
        unfinished=len(ran) - len(ended),
        jct=spread([jct for _, jct in ended]),
        wait=spread([one.waited_s for one, _ in ended]),
        slowdown=_mean([slowdown(one, jct) for one, jct in ended]),
        makespan_s=last - first,
        utilisation=held / (gpus * (last - first)) if gpus and last > first else 0.0,
        gpu_hours=held / 3600,
        fairness=jain([_mean(slowdowns) for slowdowns in by_user.values()]),
        preemptions=sum(one.preemptions for one in ran),
        moves=sum(one.moves for one in ran),
    )


def by_group(ran: Iterable[Ran], key: Callable[[Ran], str], gpus: Mapping[str, int]) -> dict[str, Measures]:
    """The figures of each group, by its name. gpus: of a group's own, where it has some."""
    groups: dict[str, list[Ran]] = {}
    for one in ran:
        groups.setdefault(key(one), []).append(one)
    ordered = sorted(groups, key=lambda name: (int(name) if name.isdecimal() else 0, name))
    return {name: measure(groups[name], gpus.get(name, 0)) for name in ordered}


def slowdown(ran: Ran, jct_s: float) -> float:
    """How much longer than its training a job took, at least 1.

    Bounded slowdown: Feitelson and Rudolph, "Metrics and benchmarking for parallel job scheduling", JSSPP 1998.
    """
    return max(1.0, jct_s / max(ran.job.duration_s, SLOWDOWN_BOUND_S))


def jain(values: Sequence[float]) -> float:
    """Jain's fairness index, (sum x)^2 / (n sum x^2): 1 where all are equal, 1/n where one has all.

    R. Jain, D. Chiu, W. Hawe, DEC Research Report TR-301, 1984. 1 for nothing.
    """
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def spread(values: Sequence[float]) -> Spread:
    """Mean, quantiles and the most; zeros for nothing."""
    ordered = sorted(values)
    return Spread(
        mean=_mean(ordered),
        median=quantile(ordered, 0.5),
        p99=quantile(ordered, 0.99),
        p999=quantile(ordered, 0.999),
        most=ordered[-1] if ordered else 0.0,
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of sorted values, linear between neighbours as numpy's default is; 0 for nothing."""
    if not ordered:
        return 0.0
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
