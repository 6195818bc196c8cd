"""What no plan may do, whatever the fleet, the queue, the rules: property tests over drawn snapshots.

Snapshots are drawn from a seed, hosts full or nearly so, with every kind of job side by side; what they are full of
keeps the rules as well (no card held twice, shares that fit), for that is what a snapshot of the store says.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.state import Code
from jobs.units import GiB
from orchestrator.scheduler.fleet import Fleet, Host, PendingJob, Project, RunningJob
from orchestrator.scheduler.plan import Plan
from orchestrator.scheduler.policy import DISCIPLINES, Rules, attained, held_by_project, since
from tests.fleets import KEY, PROFILE, Peaks, gpu, host, plan, waiting

NOW = 1_000_000.0
SEEDS = st.integers(0, 10**9)
SIZES = ((10, 5), (40, 20), (70, 60))  # GiB without checkpointing, and with it


@dataclass(frozen=True)
class Drawn:
    """A snapshot, rules for it, and what its jobs need."""

    fleet: Fleet
    rules: Rules
    peaks: tuple[Peaks, ...]

    def choose(self, job, profile, card, stack=""):
        return self.peaks[job.shape[0] if job.shape else 0](job, profile, card)

    def plan(self, fleet: Fleet | None = None) -> Plan:
        return plan(fleet or self.fleet, NOW, self.choose, self.rules)


def drawn(seed: int, jobs: int = 12, quiet: bool = False) -> Drawn:
    """quiet: without what only some jobs may do: share a card, span hosts, refuse to be stopped."""
    rng = random.Random(seed)
    hosts = [
        replace(
            host(
                number,
                *(gpu(number * 10 + index, rng.choice((24, 24, 80))) for index in range(rng.randint(1, 4))),
            ),
            drained=not quiet and rng.random() < 0.1,
            ray_ready=quiet or rng.random() < 0.95,
        )
        for number in range(1, rng.randint(2, 5))
    ]
    running = _running(rng, hosts, quiet)
    held = {gpu_id: job.job_id for job in running for gpu_id in job.gpu_ids}
    hosts = [
        replace(one, gpus=tuple(replace(card, held_by=held.get(card.id)) for card in one.gpus))
        for one in hosts
    ]
    queue = tuple(_waiting(rng, number, quiet) for number in range(1, jobs + 1))
    projects = {name: Project(rng.choice((None, 1, 2, 4)), 1.0, quiet or rng.random() < 0.8) for name in "xy"}
    usage = {(name, user): rng.choice((0.0, 5e3, 9e4)) for name in "xyz" for user in "ab"}
    rules = Rules(rng.choice(DISCIPLINES), preempt=rng.random() < 0.8, passing=rng.random() < 0.9)
    peaks = tuple(Peaks(*rng.choice(SIZES)) for _ in range(8))
    fleet = Fleet(tuple(hosts), queue, {KEY: PROFILE}, running, projects if rng.random() < 0.7 else {}, usage)
    return Drawn(fleet, rules, peaks)


def _waiting(rng: random.Random, number: int, quiet: bool) -> PendingJob:
    gpus = rng.choice((1, 1, 1, 2, 3))
    resources = {"gpus": gpus, "share": gpus == 1 and not quiet and rng.random() < 0.3}
    job = waiting(number, rng.choice((25, 50, 75)), resources=resources, training={"global_batch": gpus})
    across = not quiet and rng.random() < 0.3
    shape = (rng.randrange(8), gpus, resources["share"], across)
    waited = rng.choice((0, 200, 400, 9_000, 100_000))
    return replace(
        job,
        submitted_at=NOW - waited - rng.choice((0, 500)),
        waiting_since=NOW - waited,
        attained_gpu_s=rng.choice((0.0, 5e3, 5e5)),
        steps_left=rng.choice((None, 100.0, 5_000.0)),
        across=across,
        project=rng.choice("xyz"),
        user=rng.choice("ab"),
        shape=None if rng.random() < 0.1 else shape,
    )


def _running(rng: random.Random, hosts: list[Host], quiet: bool) -> tuple[RunningJob, ...]:
    found = []
    for one in hosts:
        free = list(one.gpus)
        while free and rng.random() < 0.9:
            alike = [card for card in free if card.name == free[0].name]
            cards = alike[: rng.randint(1, 2)]
            free = [card for card in free if card not in cards]
            sharing = len(cards) == 1 and not quiet and rng.random() < 0.3
            for _ in range(rng.randint(1, 2) if sharing else 1):
                number = 100 + len(found)
                ran = rng.choice((10.0, 400.0, 50_000.0))
                found.append(
                    RunningJob(
                        *(number, number, one.id, tuple(card.id for card in cards)),
                        priority=rng.choice((25, 50, 75)),
                        submitted_at=NOW - ran,
                        started_at=NOW - ran,
                        project=rng.choice("xyz"),
                        user=rng.choice("ab"),
                        attained_gpu_s=rng.choice((0.0, 5e5)),
                        ends_at=rng.choice((None, NOW + 500, NOW + 90_000)),
                        stopping_until=NOW + 20 if rng.random() < 0.15 else None,
                        shares=sharing,
                        upper_bytes=8 * GiB if sharing else 0,
                        movable=quiet or rng.random() < 0.9,
                    )
                )
    return tuple(found)


@given(SEEDS)
@settings(max_examples=200, deadline=None)
def test_no_card_holds_more_than_it_can(seed: int):
    case = drawn(seed)
    decided, running = case.plan(), case.fleet.running
    alone = {gpu_id for job in running if not job.shares for gpu_id in job.gpu_ids}
    used: dict[int, int] = {}
    for job in running:
        if job.shares:
            for gpu_id in job.gpu_ids:
                used[gpu_id] = used.get(gpu_id, 0) + job.upper_bytes
    jobs = {job.job_id: job for job in case.fleet.queue}
    for job_id, placement in sorted(decided.starts.items()):
        upper = placement.choice.projection.upper_bytes
        for card in placement.gpus:
            assert upper <= card.memory_bytes
            assert card.id not in alone
            if jobs[job_id].spec.resources.share:
                used[card.id] = used.get(card.id, 0) + upper
                assert used[card.id] <= card.memory_bytes
            else:
                assert card.id not in used
                alone.add(card.id)
    assert not alone & used.keys()


@given(SEEDS)
@settings(max_examples=200, deadline=None)
def test_a_job_gets_all_of_its_cards_or_none_and_a_reason(seed: int):
    case = drawn(seed)
    decided = case.plan()
    jobs = {job.job_id: job for job in case.fleet.queue}
    assert decided.starts.keys() | decided.waits.keys() == jobs.keys()
    assert not decided.starts.keys() & decided.waits.keys()
    for job_id, placement in decided.starts.items():
        job = jobs[job_id]
        assert len({card.id for card in placement.gpus}) == job.spec.resources.gpus
        assert len({(card.name, card.memory_bytes) for card in placement.gpus}) == 1
        hosts = [
            one for one in case.fleet.hosts if {card.id for card in one.gpus} & {c.id for c in placement.gpus}
        ]
        assert all(one.takes for one in hosts)
        assert len(hosts) == 1 or job.across
    assert all(reason.text and reason.code for reason in decided.waits.values())


@given(SEEDS)
@settings(max_examples=200, deadline=None)
def test_nobody_is_stopped_for_one_that_ranks_no_higher(seed: int):
    """A stop needs one of three titles: a guarantee that another project borrows from, whatever the priorities; a
    higher priority; or, at the same priority and after the patience, the policy's own measure.
    """
    case = drawn(seed)
    rules, decided = case.rules, case.plan()
    jobs = {job.job_id: job for job in case.fleet.queue}
    running = {job.job_id: job for job in case.fleet.running}
    for victim_id, reason in decided.stops.items():
        victim, winner = running[victim_id], jobs[reason.figures["for_job"]]
        assert rules.preempt
        assert victim.movable and victim.stopping_until is None
        beside = {other.job_id for other in case.fleet.running if {*other.gpu_ids} & {*victim.gpu_ids}}
        assert beside == {victim_id}
        assert not any(
            {gpu.id for gpu in where.gpus} & {*victim.gpu_ids} for where in decided.starts.values()
        )
        assert NOW - victim.started_at >= rules.min_run_s
        terms = case.fleet.projects.get(winner.project)
        if terms is not None and terms.guarantee is not None and victim.project != winner.project:
            others = case.fleet.projects.get(victim.project)
            lent = held_by_project(case.fleet)[victim.project] - ((others.guarantee or 0) if others else 0)
            if lent > 0:
                continue
        assert victim.priority <= winner.priority
        if victim.priority < winner.priority:
            continue
        assert NOW - since(winner) >= rules.patience_s
        if rules.policy == "attained":
            mine = 0 if rules.promoted(winner, NOW) else rules.level(winner.attained_gpu_s)
            assert rules.level(attained(victim, NOW)) > mine
        else:
            assert rules.policy == "shortest"
            mine_s = 0.0 if rules.promoted(winner, NOW) else rules.left_gpu_s(winner, 1.0)
            assert rules.left_of(victim, NOW) > rules.gain * mine_s


@given(SEEDS)
@settings(max_examples=200, deadline=None)
def test_no_stop_is_for_nothing(seed: int):
    """With its victims gone and nothing else changed, the job that they were stopped for starts."""
    case = drawn(seed, quiet=True)
    decided = case.plan()
    if not decided.stops:
        return
    gone = {gpu_id for job in case.fleet.running if job.job_id in decided.stops for gpu_id in job.gpu_ids}
    back = {gpu_id for job in case.fleet.running if job.stopping_until for gpu_id in job.gpu_ids} | gone
    given_out = {card.id for placement in decided.starts.values() for card in placement.gpus}
    for reason in decided.stops.values():
        winner = next(job for job in case.fleet.queue if job.job_id == reason.figures["for_job"])
        hosts = tuple(
            replace(
                one,
                gpus=tuple(
                    replace(
                        card, held_by=1 if card.id in given_out else None if card.id in back else card.held_by
                    )
                    for card in one.gpus
                ),
            )
            for one in case.fleet.hosts
        )
        alone = Fleet(hosts, (winner,), case.fleet.profiles)
        assert winner.job_id in case.plan(alone).starts
        assert winner.job_id not in decided.starts


@given(SEEDS)
@settings(max_examples=200, deadline=None)
def test_while_the_first_are_stopping_nobody_else_is_stopped_and_their_cards_are_kept(seed: int):
    """The next plan, a moment later, with what was decided under way: single cards, all alike, and priorities alone.

    Elsewhere a job that is ahead and may stop nobody can take what was cleared for another: no snapshot says for whom.
    """
    case = drawn(seed, quiet=True)
    queue = tuple(
        replace(job, spec=waiting(job.job_id).spec, shape=None, waiting_since=NOW - job.job_id)
        for job in case.fleet.queue
    )
    rules = replace(case.rules, policy="fifo")
    calm = Drawn(replace(case.fleet, projects={}, queue=queue), rules, (Peaks(10, 5),) * 8)
    decided = calm.plan()
    under_way = tuple(
        replace(job, stopping_until=NOW + 40) if job.job_id in decided.stops else job
        for job in calm.fleet.running
    )
    fleet = replace(calm.fleet, running=under_way)
    begun = after(fleet, replace(decided, stops={}), ended=False)
    again = calm.plan(begun)
    assert not again.stops
    assert not again.starts
    kept = {job_id for job_id, reason in decided.waits.items() if reason.code is Code.ROOM}
    assert kept <= {job_id for job_id, reason in again.waits.items() if reason.code is Code.ROOM}


@given(SEEDS)
@settings(max_examples=200, deadline=None)
def test_what_is_stopped_would_not_do_as_well_without_one_of_them(seed: int):
    """Of those that are stopped for a job on one host, all are needed: without any one of them it would lack cards."""
    case = drawn(seed, jobs=1, quiet=True)
    decided = case.plan()
    stopped = [job for job in case.fleet.running if job.job_id in decided.stops]
    need = case.fleet.queue[0].spec.resources.gpus
    back = sum(len(job.gpu_ids) for job in stopped)
    for job in stopped:
        assert back - len(job.gpu_ids) < need


@given(SEEDS)
@settings(max_examples=150, deadline=None)
def test_the_same_snapshot_gives_the_same_plan_in_whatever_order_it_is_told(seed: int):
    case = drawn(seed)
    rng, fleet = random.Random(seed), case.fleet
    decided = case.plan()
    assert case.plan() == decided
    told = replace(
        fleet,
        hosts=tuple(rng.sample(fleet.hosts, len(fleet.hosts))),
        queue=tuple(rng.sample(fleet.queue, len(fleet.queue))),
        running=tuple(rng.sample(fleet.running, len(fleet.running))),
        projects=dict(reversed(fleet.projects.items())),
        usage=dict(reversed(fleet.usage.items())),
    )
    assert case.plan(told) == decided


@given(SEEDS)
@settings(max_examples=200, deadline=None)
def test_a_project_below_its_guarantee_gets_what_was_borrowed_back(seed: int):
    """All of one priority, single cards that all would do: after a few plans, each followed by what it asks for, no
    project with less than its guarantee waits for a card while another has more than its own.
    """
    case = drawn(seed, quiet=True)
    rules = Rules(case.rules.policy)
    queue = tuple(
        replace(job, priority=50, spec=waiting(job.job_id).spec, shape=None, waiting_since=NOW - 400)
        for job in case.fleet.queue
    )
    running = tuple(
        replace(job, priority=50, started_at=NOW - 1000 - job.job_id) for job in case.fleet.running
    )
    terms = {"x": Project(2), "y": Project(2), "z": Project(0)}
    fleet = replace(case.fleet, queue=queue, running=running, projects=terms)
    peaks = Peaks(10, 5)
    for _ in range(12):
        decided = plan(fleet, NOW, lambda job, profile, card, stack="": peaks(job, profile, card), rules)
        fleet = after(fleet, decided)
    held = held_by_project(fleet)
    wanting = {job.project for job in fleet.queue}
    total = sum(card.usable for one in fleet.hosts for card in one.gpus)
    if total < 4:  # fewer than are guaranteed: nobody can keep that
        return
    short = [
        name for name, term in terms.items() if name in wanting and held.get(name, 0) < (term.guarantee or 0)
    ]
    lending = [name for name, term in terms.items() if held.get(name, 0) > (term.guarantee or 0)]
    assert not (short and lending), (short, lending, held)


def full_of_gangs(seed: int) -> Fleet:
    """Full hosts of four cards; x is guaranteed some, y perhaps, z none. Jobs of one to four GPUs wait."""
    rng = random.Random(seed)
    hosts = [host(n, *(gpu(n * 10 + i, 24) for i in range(4))) for n in range(1, rng.randint(2, 4))]
    half = 2 * len(hosts)
    projects = {"x": Project(rng.randint(1, half)), "y": Project(rng.randint(0, half)), "z": Project(0)}
    running: list[RunningJob] = []
    for one in hosts:
        free = [card.id for card in one.gpus]
        while free:
            cards = tuple(free[: rng.choice((1, 1, 2))])
            free = free[len(cards) :]
            number = 100 + len(running)
            times = (NOW - 9000, NOW - 1000 - number)
            running.append(RunningJob(number, number, one.id, cards, 50, *times, rng.choice("xyz"), "a"))
    held = {gpu_id: job.job_id for job in running for gpu_id in job.gpu_ids}
    hosts = [
        replace(one, gpus=tuple(replace(card, held_by=held[card.id]) for card in one.gpus)) for one in hosts
    ]
    queue = []
    for number in range(1, 9):
        gpus = rng.choice((1, 1, 2, 2, 4))
        wide = {"resources": {"gpus": gpus}, "training": {"global_batch": gpus}}
        job = waiting(number, rng.choice((25, 50, 75)), **wide)
        queue.append(replace(job, waiting_since=NOW - 400, project=rng.choice("xyz"), shape=(0, gpus)))
    return Fleet(tuple(hosts), tuple(queue), {KEY: PROFILE}, tuple(running), projects)


@given(SEEDS, st.sampled_from(DISCIPLINES))
@settings(max_examples=150, deadline=None)
def test_no_gang_keeps_a_project_below_its_guarantee(seed: int, policy):
    """What a gang of higher priority has a reservation for is taken back, too, from the job that borrowed it."""
    fleet, peaks = full_of_gangs(seed), Peaks(10, 5)
    for _ in range(16):
        fleet = after(
            fleet,
            plan(fleet, NOW, lambda job, profile, card, stack="": peaks(job, profile, card), Rules(policy)),
        )
    held = held_by_project(fleet)
    for job in fleet.queue:
        if held.get(job.project, 0) + job.spec.resources.gpus > (fleet.projects[job.project].guarantee or 0):
            continue
        lent = {
            other.job_id
            for other in fleet.running
            if other.project != job.project and other.job_id in beyond(fleet, other.project)
        }
        for one in fleet.hosts:
            to_be_had = sum(card.held_by is None or card.held_by in lent for card in one.gpus)
            assert to_be_had < job.spec.resources.gpus, f"{job.job_id} could have cards of {one.name}"


def beyond(fleet: Fleet, project: str) -> set[int]:
    """The jobs of a project that hold more than it is guaranteed: those that it started last."""
    over = held_by_project(fleet).get(project, 0) - (fleet.projects[project].guarantee or 0)
    found = set()
    mine = [job for job in fleet.running if job.project == project]
    for job in sorted(mine, key=lambda job: (-job.started_at, -job.job_id)):
        if over > 0:
            found.add(job.job_id)
            over -= len(job.gpu_ids)
    return found


def after(fleet: Fleet, decided: Plan, ended: bool = True) -> Fleet:
    """The snapshot with the starts under way and, with `ended`, what was stopped gone; that is not queued again."""
    leaving = {job.job_id for job in fleet.running if job.stopping_until is not None} if ended else set()
    stopped = {*decided.stops, *leaving}
    jobs = {job.job_id: job for job in fleet.queue}
    started = tuple(
        RunningJob(
            *(job_id, job_id, placement.host.id, tuple(card.id for card in placement.gpus)),
            *(jobs[job_id].priority, NOW, NOW - (1000 - job_id if ended else 0), jobs[job_id].project),
        )
        for job_id, placement in sorted(decided.starts.items())
    )
    running = (*(job for job in fleet.running if job.job_id not in stopped), *started)
    held = {gpu_id: job.job_id for job in running for gpu_id in job.gpu_ids}
    hosts = tuple(
        replace(one, gpus=tuple(replace(card, held_by=held.get(card.id)) for card in one.gpus))
        for one in fleet.hosts
    )
    queue = tuple(job for job in fleet.queue if job.job_id not in decided.starts)
    return replace(fleet, hosts=hosts, queue=queue, running=running)
