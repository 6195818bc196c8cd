"""How long one plan takes: `make bench-plan`.

    python -m benchmarks.plan [--calls N] [--seed N] [--profile]

A fleet of 500 hosts with 8 cards each (24, 48 and 80 GB), 3,000 running jobs and 10,000 queued ones of some hundreds of
shapes, with real memory profiles and the real chooser, through the same rows, snapshot and plan() as the controller's;
then 20,000 queued, and the Venus trace's busiest moment (2,039 waiting, 206 running, 1,080 GPUs). Each plan starts from
a fresh snapshot of the same rows and from what the controller remembers between ticks
(orchestrator.control.snapshot.cache.SnapshotCache, orchestrator.scheduler.cache).
Times are CPU seconds of this one thread, so that another process on the machine does not count. Prints a table and, as
its last line, one JSON object; exits with 1 where a figure is missed. --profile prints where the time of a plan goes.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.common import finish, machine
from benchmarks.scheduling.kinds import FOLDER, KINDS, METHODS, SHAPES, Kind, kinds
from jobs.cards import find_card
from jobs.state import Code, JobState, Reason
from orchestrator.config import Settings
from orchestrator.control.snapshot.build import fleet_of, hosts_of, pending_job_of, stacks_of
from orchestrator.control.snapshot.cache import SnapshotCache
from orchestrator.scheduler.cache.scheduler_cache import SchedulerCache
from orchestrator.scheduler.fleet import Fleet
from orchestrator.scheduler.plan import Plan, plan
from orchestrator.scheduler.policy import DISCIPLINES, Rules
from orchestrator.server.http_server import COLLECT_AFTER
from orchestrator.store.rows import (
    AttemptRow,
    FleetRows,
    GpuRow,
    Holder,
    HostRow,
    JobRow,
    LeasedGpu,
    ProfileRow,
    ProgressRow,
    ProjectRow,
    UsageRow,
)

NOW = 1_700_000_000.0
PLAN_MS, TWICE, VENUS_MS = 250.0, 2.2, 50.0
CARDS = ("rtx4090", "l40s", "a100-80gb")
LENGTHS, BATCHES, RANKS = (512, 1024, 2048, 4096), (8, 16, 32), (8, 16)
MIXED = {1: 0.86, 2: 0.08, 4: 0.05, 8: 0.01}  # GPUs of a job -> share of jobs
VENUS = {1: 0.4, 2: 0.1, 4: 0.1, 8: 0.34, 16: 0.06}
PROJECTS, USERS = 12, 60
# Low, normal, high: who outranks others runs before long, so that of the queue few do.
PRIORITIES = {JobState.RUNNING: (0.02, 0.68, 0.3), JobState.QUEUED: (0.3, 0.69, 0.01)}
Result = TypeVar("Result")


@dataclass(frozen=True)
class Scene:
    """A fleet to plan for. sizes: share of jobs by GPUs; span: whether gangs may span hosts."""

    name: str
    hosts: int
    running: int
    queued: int
    sizes: dict[int, float]
    cards: Sequence[str] = CARDS
    span: bool = False


class Rows:
    """What the store would give the controller at one instant, made up from a seed."""

    def __init__(self, scene: Scene, seed: int, stored: list[Kind]) -> None:
        self.scene, self.chance = scene, random.Random(seed)
        self.profiles = {(kind.shape, kind.method): kind.profile.as_dict() for kind in stored}
        self.gpus = {
            host: [self._gpu(host, index) for index in range(8)] for host in range(1, scene.hosts + 1)
        }
        self.running: list[JobRow] = []
        self.attempts: list[AttemptRow] = []
        self.progress: dict[int, ProgressRow] = {}
        self._run()
        self.queued = [self._job(10_000 + number, JobState.QUEUED) for number in range(scene.queued)]

    def _gpu(self, host: int, index: int) -> GpuRow:
        card = find_card(self.scene.cards[host % len(self.scene.cards)])
        number = host * 8 + index
        return GpuRow(
            number, f"GPU-{number}", host, f"h{host}", index, "cuda", card.name, card.memory_bytes, None, True
        )

    def _job(self, number: int, state: JobState, most: int = 1024) -> JobRow:
        """A job of some shape: model, method, length, batch, GPUs."""
        chance = self.chance
        shape, method = chance.choice(KINDS)
        sizes = {gpus: share for gpus, share in self.scene.sizes.items() if gpus <= most}
        gpus = chance.choices(list(sizes), list(sizes.values()))[0]
        ways: Any = METHODS[method]
        spec = {
            "model": {"config": SHAPES[shape], "tokenizer": "none"},
            "data": {"path": f"hub/{number}"},
            "method": ways if isinstance(ways, str) else {**ways, "rank": chance.choice(RANKS)},
            "training": {
                "sequence_length": chance.choice(LENGTHS),
                "global_batch": max(gpus, chance.choice(BATCHES)),
                "steps": chance.randint(50, 5000),
            },
            "resources": {"gpus": gpus},
        }
        submitted = NOW - chance.uniform(0, 12 * 3600)
        user = chance.randrange(USERS)
        return JobRow(
            number,
            *("", f"user{user}", state, Reason(Code.NEW, ""), json.dumps(spec)),
            priority=chance.choices([25, 50, 75], PRIORITIES[state])[0],
            submitted_at=submitted,
            project=f"p{user % PROJECTS}",
            queued_at=submitted,
        )

    def _run(self) -> None:
        """Running jobs on random hosts that have room; small ones where no room is left for large ones."""
        free = {host: list(gpus) for host, gpus in self.gpus.items()}
        for number in range(1, self.scene.running + 1):
            room = [host for host, gpus in free.items() if gpus]
            host = self.chance.choice(room)
            job = self._job(number, JobState.RUNNING, len(free[host]))
            need = int(json.loads(job.spec_json)["resources"]["gpus"])
            taken, free[host] = free[host][:need], free[host][need:]
            self.running.append(job)
            self._attempt(job, taken)

    def _attempt(self, job: JobRow, cards: Sequence[GpuRow]) -> None:
        number, host = job.id, cards[0].host_id
        opened = NOW - self.chance.uniform(0, 6 * 3600)
        for card in cards:
            held = Holder(number, job.id, True, card.memory_bytes)
            self.gpus[host][card.index] = replace(card, holders=(held,))
        leased = tuple(LeasedGpu(g.id, g.uuid, g.index, g.kind, g.name, g.memory_bytes) for g in cards)
        self.attempts.append(
            AttemptRow(
                *(number, number, 1, host, f"h{host}", leased, {}, {"upper_bytes": 10**10, "step_s": 2.0}),
                *(opened, opened, opened, None, NOW - 10 if number % 100 == 0 else None, None, 0, None),
                *(None, "", None, None, None, None, None),
            )
        )
        step, total = self.chance.randint(1, 2000), self.chance.randint(2000, 5000)
        none = (None,) * 3
        self.progress[number] = ProgressRow(
            number, step, NOW - 1, total, 1.0, 1e-4, 0, 1.0, self.chance.uniform(0.3, 4.0), *none
        )

    def fleet(self) -> FleetRows:
        """The rows of one tick, new ones each time as a database gives them."""
        scene = self.scene
        hosts = [
            HostRow(host, f"h{host}", {"stack": _STACK, "labels": {}}, None, 0.0, NOW, False, True, ())
            for host in range(1, scene.hosts + 1)
        ]
        share = scene.hosts * 8 // (PROJECTS + 2)
        return FleetRows(
            hosts,
            [gpu for gpus in self.gpus.values() for gpu in gpus],
            [replace(job) for job in self.queued],
            self.attempts,
            self.running,
            self.progress,
            projects=[ProjectRow(f"p{number}", share) for number in range(PROJECTS)],
            usage=[
                UsageRow(f"p{user % PROJECTS}", f"user{user}", self.gpus[1][0].name, 1000.0 * user)
                for user in range(USERS)
            ],
        )

    def profile_rows(
        self, snapshot_cache: SnapshotCache, rows: FleetRows, settings: Settings
    ) -> dict[str, ProfileRow]:
        """The profiles of all jobs, traced."""
        host = hosts_of(rows, NOW, settings, lambda host: True)[0]
        found = {}
        for job in self.queued:
            spec = snapshot_cache.spec(job)
            shape = next(name for name, config in SHAPES.items() if config == spec.model.config)
            profile = self.profiles[shape, spec.method.kind]
            key = snapshot_cache.key(job.id, spec, host)
            found[key] = ProfileRow(key, {}, profile, None, False, 1, 0.0, 0.0, 0.0)
        return found


_STACK = {"torch": "2.13.0", "bitsandbytes": "0.50.0"}


def snapshot(
    made: Rows, snapshot_cache: SnapshotCache, profiles: dict[str, ProfileRow], settings: Settings
) -> Fleet:
    """Rows -> Fleet as the controller makes it, the data's lengths left out."""
    rows = made.fleet()
    hosts = hosts_of(rows, NOW, settings, lambda host: True)
    stacks = stacks_of(hosts)
    queue = [
        pending_job_of(
            job, stacks, snapshot_cache, (), rows.links.get(job.id, ()), rows.attained.get(job.id, 0.0)
        )
        for job in rows.queued
    ]
    figures = [{"across": True}] * len(queue) if made.scene.span else None
    return fleet_of(hosts, queue, profiles, snapshot_cache, NOW, rows, settings, figures)


def planned(fleet: Fleet, cache: SchedulerCache, rules: Rules) -> Plan:
    """A plan as the controller makes it."""
    cache.observe(fleet)
    return plan(cache.plan_input(fleet, NOW, rules))


@dataclass(frozen=True)
class Timed:
    """Milliseconds of each call."""

    plans: list[float]
    snapshots: list[float]
    shapes: int
    starts: int
    stops: int


def timed(scene: Scene, rules: Rules, calls: int, seed: int, stored: list[Kind]) -> Timed:
    """Plans of one scene. The first call, in which the ladder is worked out for every shape, is not among them."""
    made, snapshot_cache, settings = (
        Rows(scene, seed, stored),
        SnapshotCache(),
        Settings(home=Path("."), rules=rules),
    )
    profiles = made.profile_rows(snapshot_cache, made.fleet(), settings)
    cache = SchedulerCache(snapshot_cache.choose)
    decided = planned(snapshot(made, snapshot_cache, profiles, settings), cache, rules)
    plans, snapshots = [], []
    for _ in range(calls):
        took, fleet = _spent(partial(snapshot, made, snapshot_cache, profiles, settings))
        snapshots.append(took)
        took, decided = _spent(partial(planned, fleet, cache, rules))
        plans.append(took)
    shapes = len({job.shape for job in fleet.queue})
    return Timed(plans, snapshots, shapes, len(decided.starts), len(decided.stops))


def _spent(work: Callable[[], Result]) -> tuple[float, Result]:
    gc.collect()
    began = time.thread_time()
    result = work()
    return (time.thread_time() - began) * 1e3, result


def p99(values: Sequence[float]) -> float:
    """The 99th percentile, the most of fewer than a hundred."""
    return sorted(values)[min(len(values) - 1, int(0.99 * len(values)))]


BIG = Scene("500 hosts", 500, 3000, 10_000, MIXED)
VENUS_LIKE = Scene("Venus' busiest moment", 135, 206, 2039, VENUS, ("v100-32gb",), span=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--calls", type=int, default=15, help="plans to time for each row (Venus': 10 times that)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--profile", action="store_true", help="show where the time of one plan goes, and end"
    )
    wanted = parser.parse_args()
    if not FOLDER.is_dir():
        sys.exit(f"{FOLDER} is not there: run from a checkout")
    stored = kinds()
    # As the server does, whose heap is as large: else half of each plan goes to collections that find nothing.
    gc.set_threshold(COLLECT_AFTER)
    if wanted.profile:
        return _profiled(wanted.seed, stored)
    print(machine())
    print(f"{'':34} {'SHAPES':>7} {'STARTS':>7} {'STOPS':>6} {'MEDIAN':>8} {'P99':>8} {'SNAPSHOT':>9}")

    def row(scene: Scene, rules: Rules, calls: int) -> Timed:
        found = timed(scene, rules, calls, wanted.seed, stored)
        print(
            f"{f'{scene.name}, {scene.queued:,} queued, {rules.policy}':34} {found.shapes:7} {found.starts:7} "
            f"{found.stops:6} {statistics.median(found.plans):5.0f} ms {p99(found.plans):5.0f} ms "
            f"{statistics.median(found.snapshots):6.0f} ms",
            flush=True,
        )
        return found

    by_policy = {policy: row(BIG, Rules(policy=policy), wanted.calls) for policy in DISCIPLINES}
    once, twice = by_policy["fair"], row(replace(BIG, queued=20_000), Rules(), wanted.calls)
    venus = row(VENUS_LIKE, Rules(policy="attained"), 10 * wanted.calls)
    return finish(_result(once, twice, venus, by_policy))


def _result(once: Timed, twice: Timed, venus: Timed, by_policy: dict[Any, Timed]) -> dict[str, Any]:
    median = statistics.median
    plan_ms = median(once.plans)
    ratio = median(twice.plans) / plan_ms
    venus_ms = p99(venus.plans)
    return {
        "bench": "plan",
        "plan_ms": round(plan_ms, 1),
        "plan_ms_at_most": PLAN_MS,
        "plan_p99_ms": round(p99(once.plans), 1),
        "plan_ms_by_policy": {policy: round(median(found.plans), 1) for policy, found in by_policy.items()},
        "snapshot_ms": round(median(once.snapshots), 1),
        "twice_ratio": round(ratio, 2),
        "twice_ratio_at_most": TWICE,
        "venus_like_p99_ms": round(venus_ms, 1),
        "venus_like_p99_ms_at_most": VENUS_MS,
        "met": plan_ms <= PLAN_MS and ratio <= TWICE and venus_ms <= VENUS_MS,
    }


def _profiled(seed: int, stored: list[Kind]) -> int:
    made, snapshot_cache, settings = Rows(BIG, seed, stored), SnapshotCache(), Settings(home=Path("."))
    profiles = made.profile_rows(snapshot_cache, made.fleet(), settings)
    cache = SchedulerCache(snapshot_cache.choose)
    planned(snapshot(made, snapshot_cache, profiles, settings), cache, Rules())
    seen = cProfile.Profile()
    fleet = seen.runcall(snapshot, made, snapshot_cache, profiles, settings)
    pstats.Stats(seen).sort_stats("tottime").print_stats(15)
    seen = cProfile.Profile()
    seen.runcall(planned, fleet, cache, Rules())
    pstats.Stats(seen).sort_stats("tottime").print_stats(25)
    return 0


if __name__ == "__main__":
    sys.exit(main())
