"""Who was promised cards gets them: sequences of plans over drawn fleets, each with what it asks for done in time.

Between two plans some of what was stopped gives its cards back, some jobs end, new ones come, some are cancelled. What
was cleared for a job and is neither lost to one that outranks it nor to the job's own start is its claim.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from hypothesis import given, settings

from jobs.state import Code
from orchestrator.scheduler.fleet import Fleet, PendingJob, RunningJob
from orchestrator.scheduler.plan import Plan
from orchestrator.scheduler.policy import Rules, held_by_project, rank
from tests.fleets import job_class, plan
from tests.scheduler.test_safety import NOW, SEEDS, Drawn, _waiting, drawn

ROUNDS = 12


@dataclass
class World:
    """A fleet from one plan to the next."""

    case: Drawn
    fleet: Fleet
    rng: random.Random
    quiet: bool
    now: float = NOW
    newest: int = 1000
    claims: dict[int, set[int]] = field(default_factory=dict)

    def decide(self) -> Plan:
        return plan(self.fleet, self.now, self.case.choose, self.case.rules)

    def go_on(self, decided: Plan) -> None:
        """What was decided is done, and a few seconds go by."""
        jobs = {job.job_id: job for job in self.fleet.queue}
        asked = {job_id: reason.figures["for_job"] for job_id, reason in decided.stops.items()}
        self.now += self.rng.choice((5.0, 20.0))
        running, cleared = [], dict(self.fleet.cleared)
        for job in self.fleet.running:
            if job.job_id in asked:
                job = replace(
                    job, stopping_until=self.now + 40, stopping_for=asked[job.job_id], asked_at=self.now
                )
            elif job.stopping_until is not None and self.rng.random() < 0.5:
                if job.stopping_for is not None:
                    cleared |= dict.fromkeys(job.gpu_ids, job.stopping_for)
                continue
            elif self.rng.random() < 0.03:
                continue
            running.append(job)
        for job_id, placement in sorted(decided.starts.items()):
            job = jobs[job_id]
            gpu_ids = tuple(card.id for card in placement.gpus)
            for gpu_id in gpu_ids:
                cleared.pop(gpu_id, None)
            running.append(
                RunningJob(
                    *(job_id, job_id, placement.host.id, gpu_ids, job.priority, job.submitted_at, self.now),
                    *(job.project, job.user, job.attained_gpu_s, self.rng.choice((None, self.now + 900.0))),
                    shares=job.shares,
                    upper_bytes=placement.choice.projection.upper_bytes if job.shares else 0,
                )
            )
        queue = [job for job in self.fleet.queue if job.job_id not in decided.starts]
        queue = [job for job in queue if self.rng.random() > 0.03]  # some are cancelled
        for _ in range(self.rng.choice((0, 0, 1, 2))):
            self.newest += 1
            came = _waiting(self.rng, self.newest, self.quiet)
            queue.append(replace(came, submitted_at=self.now - 400.0, waiting_since=self.now - 400.0))
        waiting = {job.job_id for job in queue}
        held = {gpu_id: job.job_id for job in running for gpu_id in job.gpu_ids}
        hosts = tuple(
            replace(one, gpus=tuple(replace(card, held_by=held.get(card.id)) for card in one.gpus))
            for one in self.fleet.hosts
        )
        self.fleet = replace(
            self.fleet,
            hosts=hosts,
            queue=tuple(queue),
            running=tuple(running),
            cleared={gpu_id: job_id for gpu_id, job_id in cleared.items() if job_id in waiting},
        )

    def promised(self) -> dict[int, set[int]]:
        """By waiting job, the cards that were or are being cleared for it."""
        waiting = {job.job_id for job in self.fleet.queue}
        found: dict[int, set[int]] = {}
        for job in self.fleet.running:
            if job.stopping_for in waiting and not job.shares:
                found.setdefault(job.stopping_for, set()).update(job.gpu_ids)
        for gpu_id, job_id in self.fleet.cleared.items():
            found.setdefault(job_id, set()).add(gpu_id)
        return found

    def ranked(self, job: PendingJob, rules: Rules) -> tuple[tuple[float, ...], bool]:
        terms, held = self.fleet.projects.get(job.project), held_by_project(self.fleet)
        owed = terms is not None and terms.guarantee is not None
        owed = owed and held.get(job.project, 0) + job.spec.resources.gpus <= (terms.guarantee or 0)  # type: ignore[union-attr]
        return rank(job, job_class(), rules, self.now, owed).key[:3], owed


def worlds(seed: int, quiet: bool) -> Iterator[tuple[World, Plan]]:
    case = drawn(seed, jobs=8, quiet=quiet)
    world = World(case, case.fleet, random.Random(seed), quiet)
    for _ in range(ROUNDS):
        decided = world.decide()
        yield world, decided
        world.go_on(decided)


@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_nobody_else_is_stopped_for_a_job_while_what_was_cleared_for_it_is_enough(seed: int):
    for world, decided in worlds(seed, quiet=True):
        jobs = {job.job_id: job for job in world.fleet.queue}
        taken = {card.id for placement in decided.starts.values() for card in placement.gpus}
        for job_id, cards in world.promised().items():
            job = jobs[job_id]
            on_host = [
                {card.id for card in one.gpus if card.id in cards} - taken for one in world.fleet.hosts
            ]
            enough = any(len(found) >= job.spec.resources.gpus for found in on_host)
            again = [one for one, reason in decided.stops.items() if reason.figures["for_job"] == job_id]
            # One that outranks it may have claimed them: it waits for them without a stop of its own.
            over = [
                other
                for other in world.fleet.queue
                if _outranks(world, other, job)
                and (reason := decided.waits.get(other.job_id)) is not None
                and reason.code is Code.ROOM
                and "awaits" in reason.figures
            ]
            assert not (enough and again) or over, (job_id, cards, again)


@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_a_card_that_was_cleared_goes_to_whom_it_was_cleared_for_or_to_one_that_outranks_it(seed: int):
    for world, decided in worlds(seed, quiet=False):
        jobs = {job.job_id: job for job in world.fleet.queue}
        got: dict[int, list[int]] = {}  # several, where they share it
        for job_id, placement in decided.starts.items():
            for card in placement.gpus:
                got.setdefault(card.id, []).append(job_id)
        for job_id, cards in world.promised().items():
            # One that began elsewhere no longer needs them; one whose project has all it may have can not use them.
            if job_id in decided.starts or decided.waits[job_id].code is Code.QUOTA:
                continue
            need = jobs[job_id].spec.resources.gpus
            hosts = [one for one in world.fleet.hosts if cards & {card.id for card in one.gpus}]
            # What a gang has too few of, for one that outranked it has the others, is anybody's; so is a surplus.
            if len(cards) != need or len(hosts) > 1 or not cards & got.keys():
                continue
            there = [other for one in hosts for card in one.gpus for other in got.get(card.id, ())]
            assert any(_outranks(world, jobs[other], jobs[job_id]) for other in there), (job_id, there)


def _outranks(world: World, one: PendingJob, other: PendingJob) -> bool:
    mine, owed = world.ranked(one, world.case.rules)
    its, others_owed = world.ranked(other, world.case.rules)
    return mine < its and (owed or not others_owed)
