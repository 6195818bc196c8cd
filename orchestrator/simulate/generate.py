"""Traces made up from published distributions of arrivals, durations and sizes. Seeded: one wish, one trace."""

from __future__ import annotations

import math
import random
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from itertools import accumulate

from jobs.errors import UsageError
from orchestrator.scheduler.fleet import DEFAULT_PROJECT
from orchestrator.simulate.trace import TraceJob

# GPU jobs of the four Helios clusters: median 206 s, mean 6,652 s (Hu et al., "Characterization and Prediction of Deep
# Learning Workloads in Large-Scale GPU Datacenters", SC'21). A log-normal with that median and mean has
# sigma = sqrt(2 ln(mean / median)); durations in Philly have such a tail, too (Jeon et al., USENIX ATC'19).
MEDIAN_S, MEAN_S = 206.0, 6652.0
LONGEST_S = 7 * 86400.0
# Most jobs take one GPU, nearly all a power of two, few more than one host: in Helios and in Philly (as above). Round
# figures of that order.
SIZES = {1: 0.62, 2: 0.11, 4: 0.10, 8: 0.12, 16: 0.03, 32: 0.015, 64: 0.005}
# More come by day than in the small hours (SC'21): a rate of 1 + SWING * cos, highest at PEAK_H.
SWING, PEAK_H = 0.5, 15.0
DAY_S = 86400.0
USER_SKEW = 1.0  # Zipf: a few users submit most jobs (SC'21)
MAX_JOBS = 200_000


@dataclass(frozen=True)
class Wish:
    """What to make.

    load: GPU-seconds asked for over those the fleet has while jobs arrive; median_s, mean_s, longest_s: of durations;
    users: how many share the jobs, unevenly; swing: 0 for arrivals without day and night.
    """

    jobs: int = 2000
    load: float = 0.9
    seed: int = 0
    users: int = 24
    median_s: float = MEDIAN_S
    mean_s: float = MEAN_S
    longest_s: float = LONGEST_S
    swing: float = SWING


def parse_wish(text: str) -> Wish:
    """A wish such as "jobs=5000,load=1.1,seed=3". Raises UsageError naming the part that is none."""
    known = {entry.name: entry.type for entry in fields(Wish)}
    found: dict[str, float | int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, given = (piece.strip() for piece in part.partition("="))
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise UsageError(f"--generate {part!r}: there is no {name!r}; {hint}")
        try:
            found[name] = int(given) if known[name] == "int" else float(given)
        except ValueError:
            kind = "whole number" if known[name] == "int" else "number"
            raise UsageError(
                f"--generate {part!r}: write a {kind}, such as {name}={_default(name)}"
            ) from None
    wish = replace(Wish(), **found)  # type: ignore[arg-type]
    _check(wish)
    return wish


def _default(name: str) -> str:
    return f"{getattr(Wish(), name):g}"


def _check(wish: Wish) -> None:
    limits: dict[str, tuple[float, float]] = {
        "jobs": (1, MAX_JOBS),
        "load": (0.01, 100),
        "seed": (0, 2**53),
        "users": (1, 100_000),
    }
    limits |= {"median_s": (1, 1e7), "mean_s": (1, 1e8), "longest_s": (1, 1e8), "swing": (0, 1)}
    for name, (low, high) in limits.items():
        given = getattr(wish, name)
        if not low <= given <= high:
            raise UsageError(f"--generate {name}={given:g}: write {low:g} to {high:,.0f}")
    if wish.mean_s < wish.median_s:
        raise UsageError(
            f"--generate mean_s={wish.mean_s:g}: durations have a heavy tail, "
            f"so their mean is above median_s={wish.median_s:g}"
        )


def generate(
    wish: Wish,
    gpus: int,
    pools: Mapping[str, int] | None = None,
    sizes: Mapping[int, float] = SIZES,
) -> list[TraceJob]:
    """Jobs in the order of their arrival, from 0 s on.

    gpus: of the fleet, and pools: those of each pool. With pools each user works in one, so that jobs come in the
    measure of GPUs; sizes: share of jobs by GPUs; none takes more than half of where it
    has to run.
    """
    chance = random.Random(wish.seed)
    room = dict(pools or {"": gpus})
    users = [f"user{number:02d}" for number in range(wish.users)]
    weights = [1 / (rank + 1) ** USER_SKEW for rank in range(len(users))]
    homes = _homes(users, weights, room)
    sigma = math.sqrt(2 * math.log(wish.mean_s / wish.median_s))
    drawn: list[tuple[str, str, int, float]] = []
    for user in chance.choices(users, weights, k=wish.jobs):
        pool = homes[user]
        size = _size(chance, sizes, room[pool])
        seconds = min(wish.longest_s, max(1.0, chance.lognormvariate(math.log(wish.median_s), sigma)))
        drawn.append((user, pool, size, float(round(seconds))))
    work = sum(size * seconds for _, _, size, seconds in drawn)
    window_s = work / (wish.load * gpus)
    times = sorted(_arrivals(chance, wish.jobs, window_s, wish.swing))
    first = times[0]
    return [
        TraceJob(
            job_id=number,
            submit_s=float(round(at - first)),
            duration_s=seconds,
            gpus=size,
            user=user,
            project=pool or DEFAULT_PROJECT,
            pool=pool,
        )
        for number, (at, (user, pool, size, seconds)) in enumerate(zip(times, drawn, strict=True), 1)
    ]


def _homes(users: Sequence[str], weights: Sequence[float], room: Mapping[str, int]) -> dict[str, str]:
    """Each user's pool: the busiest first, each where the fewest jobs come on a GPU so far."""
    load = dict.fromkeys(room, 0.0)
    found = {}
    for user, weight in zip(users, weights, strict=True):
        found[user] = min(load, key=lambda pool: (load[pool] + weight) / room[pool])
        load[found[user]] += weight
    return found


def _size(chance: random.Random, sizes: Mapping[int, float], room: int) -> int:
    fitting = {size: share for size, share in sizes.items() if size <= room / 2} or {1: 1.0}
    return chance.choices(list(fitting), list(fitting.values()))[0]


def _arrivals(chance: random.Random, count: int, window_s: float, swing: float) -> list[float]:
    """Arrivals of a Poisson process with a daily cycle: given their number, independent draws from its rate."""
    steps = max(1, min(100_000, math.ceil(window_s / 900)))
    width = window_s / steps
    peak = 2 * math.pi * PEAK_H / 24
    rates = [1 + swing * math.cos(2 * math.pi * (i + 0.5) * width / DAY_S - peak) for i in range(steps)]
    sums = list(accumulate(rates))
    found = []
    for _ in range(count):
        at = min(steps - 1, bisect(sums, chance.random() * sums[-1]))
        found.append((at + chance.random()) * width)
    return found


def as_csv(jobs: Sequence[TraceJob]) -> str:
    """The jobs as a trace file of ours."""
    lines = ["job_id,submit_s,duration_s,gpus,user,project,pool,priority"]
    lines += [
        f"{job.job_id},{job.submit_s:.15g},{job.duration_s:.15g},{job.gpus},{job.user},{job.project},{job.pool},{job.priority}"
        for job in jobs
    ]
    return "\n".join(lines) + "\n"
