"""What it pays to choose card and checkpointing together: fine-tuning jobs on a fleet of 24, 48 and 80 GB cards.

Jobs are drawn from traced profiles (kinds.py); the ladder says on which cards each runs, and how fast. Against auto:
(a) every layer checkpointed, always; (b) checkpointing never, on the smallest card that fits; (c) a card type that
the user names. All through the same scheduler, each job with the same steps.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmarks.scheduling.kinds import Kind, kinds, spec_of
from benchmarks.scheduling.tables import HEADER, Check, Result, verdicts
from benchmarks.scheduling.tables import run as simulate
from benchmarks.scheduling.venus import SOON
from jobs.cards import find_card
from jobs.memory.ladder import Choice, choose
from orchestrator.simulate.fleet_file import FleetFile, describe, read_fleet
from orchestrator.simulate.trace import TraceJob

FLEET = """
hosts:
  - {count: 8, gpus: 4, card: rtx4090}
  - {count: 4, gpus: 4, card: l40s}
  - {count: 2, gpus: 8, card: h100}
"""
CARDS = ("rtx4090", "l40s", "h100")  # smallest first
JOBS, SEED = 800, 0
LOADS = (0.4, 0.8, 1.1)
MEDIAN_S, SIGMA, LONGEST_S = 1800.0, 1.4, 2 * 86400.0  # of a job on the quickest card
LENGTHS, BATCHES = (1024, 2048, 4096, 8192), (8, 16, 32)
GPUS = {1: 0.75, 2: 0.15, 4: 0.10}
WAYS: dict[str, dict[str, Any]] = {
    "auto": {},
    "always": {"checkpointing": "every_layer", "offload": False},
    "never": {"checkpointing": "off", "offload": False},
}
TITLES = {
    "auto": "auto: card and rung together",
    "always": "(a) every layer, always",
    "never": "(b) never, smallest card that fits",
    "fixed": "(c) a card type that the user names",
}


@dataclass(frozen=True)
class Drawn:
    """A job: its kind and shape, its steps, and the chance by which its user names a card."""

    kind: int
    length: int
    batch: int
    gpus: int
    steps: int
    pick: float


def run_all() -> dict[str, Any]:
    """Each way at each load: mean JCT, wait, GPU-hours; by kind at the second load."""
    fleet = read_fleet(FLEET, "fleet")
    known = _known()
    cards = _counts(fleet)
    drawn, lost = draw(known)
    print(f"\ncard and checkpointing together: {describe(fleet)}")
    print(f"{len(drawn):,} jobs that run each way; of those drawn, could not run: {lost}\n\n{HEADER}")
    rows, checks = [], []
    for load in LOADS:
        seconds = {way: [_seconds(job, way, cards) for job in drawn] for way in TITLES}
        times = _arrivals(seconds["auto"], cards, load)
        print(f"load {load:g}")
        found = {way: _simulated(way, drawn, seconds[way], times, fleet) for way in TITLES}
        for way, result in found.items():
            hours = result.figures.gpu_hours
            rows.append({"load": load, "way": way, "gpu_hours": round(hours, 1), **result.as_dict()})
            if way != "auto":
                jct = found["auto"].figures.jct.mean / result.figures.jct.mean
                checks.append(Check("b+", f"load {load:g}: auto's mean JCT over that of {way}", jct, 1.0))
        print(
            f"  GPU-hours: {', '.join(f'{way} {one.figures.gpu_hours:,.0f}' for way, one in found.items())}"
        )
        if load == LOADS[1]:
            _by_kind(known, drawn, found)
    verdicts(checks)
    return {"rows": rows, "could_not_run": lost, "goals": [check.as_dict() for check in checks]}


def _counts(fleet: FleetFile) -> dict[str, int]:
    found: dict[str, int] = {}
    for host in fleet.hosts:
        for gpu in host.gpus:
            found[gpu.name] = found.get(gpu.name, 0) + 1
    return found


def draw(known: Sequence[Kind]) -> tuple[list[Drawn], dict[str, int]]:
    """JOBS jobs that run every way, and how many of those looked at could not run each way on any card."""
    chance = random.Random(SEED)
    found: list[Drawn] = []
    lost = dict.fromkeys(WAYS, 0)
    while len(found) < JOBS:
        kind = chance.randrange(len(known))
        length, batch = chance.choice(LENGTHS), chance.choice(BATCHES)
        gpus = chance.choices(list(GPUS), list(GPUS.values()))[0]
        wanted_s = min(LONGEST_S, chance.lognormvariate(math.log(MEDIAN_S), SIGMA))
        pick = chance.random()
        steps_s = {way: _step_s(kind, length, batch, gpus, way) for way in WAYS}
        for way, by_card in steps_s.items():
            lost[way] += not by_card
        if all(steps_s.values()):
            steps = max(10, round(wanted_s / min(steps_s["auto"].values())))
            found.append(Drawn(kind, length, batch, gpus, steps, pick))
    return found, lost


@cache
def _known() -> list[Kind]:
    return kinds()


@cache
def _step_s(kind: int, length: int, batch: int, gpus: int, way: str) -> Mapping[str, float]:
    """Seconds a step by the name of the card, those that it fits."""
    one = _known()[kind]
    spec = spec_of(one.shape, one.method, length, batch, gpus, WAYS[way])
    found = {}
    for name in CARDS:
        card = find_card(name)
        choice = choose(one.profile, spec, card)
        if isinstance(choice, Choice):
            found[card.name] = choice.step_s
    return found


def _seconds(job: Drawn, way: str, cards: Mapping[str, int]) -> dict[str, float]:
    """Seconds of the whole job on each card that it may use, this way."""
    by_card = _step_s(job.kind, job.length, job.batch, job.gpus, "auto" if way == "fixed" else way)
    if way == "never":  # in the order of CARDS: the smallest is first
        by_card = dict(list(by_card.items())[:1])
    elif way == "fixed":
        by_card = _named(by_card, cards, job.pick)
    return {name: step_s * job.steps for name, step_s in by_card.items()}


def _named(by_card: Mapping[str, float], cards: Mapping[str, int], pick: float) -> dict[str, float]:
    """One of the cards that the job fits, in the measure of how many there are: users name what they know."""
    left = pick * sum(cards[name] for name in by_card)
    for name, step_s in by_card.items():
        left -= cards[name]
        if left <= 0:
            return {name: step_s}
    raise ValueError("pick is above 1")


def _arrivals(seconds: Sequence[Mapping[str, float]], cards: Mapping[str, int], load: float) -> list[float]:
    """A Poisson process at this share of the rate that the fleet can keep up with, all of its cards in use."""
    rate = 0.0
    for name, count in cards.items():
        there = [by_card[name] for by_card in seconds if name in by_card]
        rate += count / (sum(there) / len(there)) if there else 0.0
    chance = random.Random(SEED + 1)
    times, now = [], 0.0
    for _ in seconds:
        now += chance.expovariate(rate * load)
        times.append(now)
    return times


def _simulated(
    way: str,
    drawn: Sequence[Drawn],
    seconds: Sequence[Mapping[str, float]],
    times: Sequence[float],
    fleet: FleetFile,
) -> Result:
    trace = [
        TraceJob(
            number,
            submit_s,
            min(by_card.values()),
            job.gpus,
            user=f"user{number % 20}",
            seconds_by_card=tuple(by_card.items()),
        )
        for number, (job, by_card, submit_s) in enumerate(zip(drawn, seconds, times, strict=True), 1)
    ]
    return simulate(f"  {TITLES[way]}", trace, fleet.hosts, SOON, "soon")


def _by_kind(known: Sequence[Kind], drawn: Sequence[Drawn], found: Mapping[str, Result]) -> None:
    """Where each way wins: mean JCT by shape and method, over auto's."""
    print(
        f"\n  {'mean JCT over that of auto':30} {'jobs':>5} {'auto, s':>9} {'always':>7} {'never':>7} {'fixed':>7}"
    )
    for index, kind in enumerate(known):
        mine = [number for number, job in enumerate(drawn) if job.kind == index]
        if not mine:
            continue
        means = {
            way: sum(result.ran[number].jct_s or 0.0 for number in mine) / len(mine)
            for way, result in found.items()
        }
        ratios = " ".join(f"{means[way] / means['auto']:6.2f}x" for way in ("always", "never", "fixed"))
        print(f"  {kind.shape + ' ' + kind.method:30} {len(mine):5} {means['auto']:9,.0f} {ratios}")
