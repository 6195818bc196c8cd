"""The simulator and, through it, what plans come to over time: every job ends, bounds hold, textbook examples.

Worked examples have no costs of stopping and no patience, as their books have not; what each job does when is worked
out by hand beside it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.scheduler.fleet import Project
from orchestrator.scheduler.policy import DISCIPLINES, Rules
from orchestrator.simulate.engine import _Simulation, simulate
from orchestrator.simulate.fleet_file import read_clusters, read_fleet
from orchestrator.simulate.generate import Wish, generate
from orchestrator.simulate.trace import Ran, TraceJob

BARE = {"patience_s": 0.0, "min_run_s": 0.0, "stop_s": 0.0, "restart_s": 0.0, "gain": 1.0}


def cluster(nodes: int, gpus: int):
    """Hosts without pools."""
    hosts = read_clusters(f"vc,nodes,gpus\na,{nodes},{nodes * gpus}\n", "vc.csv").hosts
    return [replace(one, labels={}) for one in hosts]


def job(number: int, submit_s: float, duration_s: float, gpus: int = 1, **more) -> TraceJob:
    return TraceJob(number, submit_s, duration_s, gpus, **more)


def ends(ran: Sequence[Ran]) -> dict[int, float | None]:
    return {one.job.job_id: one.end_s for one in ran}


def test_easy_backfill():
    """Feitelson and Weil 1998, Mu'alem and Feitelson 2001: a job may pass those ahead of it where it does not delay the
    first of them.

    Four GPUs. Job 1 has 3 of them up to 100 s. Job 2 wants all four: it can have them at 100 s. One is free until then.
    Job 3 takes it from 2 to 92 s. Job 4 would have it from then to 292 s, and waits for job 2, which ends at 150 s.
    """
    jobs = [job(1, 0, 100, 3), job(2, 1, 50, 4), job(3, 2, 90), job(4, 3, 200)]
    ran = simulate(jobs, cluster(1, 4), Rules("fifo", preempt=False), known="told")
    assert ends(ran) == {1: 100, 2: 150, 3: 92, 4: 350}
    without = simulate(jobs, cluster(1, 4), Rules("fifo", preempt=False, reserve=0), known="told")
    assert ends(without)[2] == 342  # job 4 has passed it, from 92 to 292 s


def test_easy_backfill_on_cards_that_the_first_will_not_need():
    """Six GPUs. Job 1 has four up to 100 s, job 2 wants four from then on, so two are nobody's ("extra nodes"): job 3
    takes them for 500 s. Job 4 as well would be one too many; it starts when job 2 ends.
    """
    jobs = [job(1, 0, 100, 4), job(2, 1, 50, 4), job(3, 2, 500, 2), job(4, 3, 500, 2)]
    ran = simulate(jobs, cluster(1, 6), Rules("fifo", preempt=False), known="told")
    assert ends(ran) == {1: 100, 2: 150, 3: 502, 4: 650}


def test_shortest_remaining_time():
    """Schrage 1968. One GPU. Job 1 (1000 s) runs to 100 s, when job 2 (100 s) comes: 900 against 100, it gives way.
    Job 2 ends at 200 s. Job 3 (500 s, from 150 s on) has less to go than job 1 and runs to 700 s, job 1 to 1600 s.
    """
    jobs = [job(1, 0, 1000), job(2, 100, 100), job(3, 150, 500)]
    ran = simulate(jobs, cluster(1, 1), Rules("shortest", **BARE), known="told")
    assert ends(ran) == {1: 1600, 2: 200, 3: 700}
    assert [one.preemptions for one in ran] == [1, 0, 0]


def test_least_attained_service_by_levels():
    """Nuyens and Wierman 2008; with levels, Gu et al. 2019 (Tiresias). One GPU, level 1 begins at 100 GPU-s.

    Job 1 (300 s) is on level 1 when job 2 (50 s) comes at 200 s, and gives way. Job 3 (150 s) comes at 220 s: it is on
    the level of job 2, and waits. From 250 s it runs; at 350 s it is on level 1 as job 1 is, which is no reason to give
    way. It ends at 400 s, job 1 with its last 100 s at 500 s.
    """
    jobs = [job(1, 0, 300), job(2, 200, 50), job(3, 220, 150)]
    rules = Rules("attained", first_level_gpu_s=100, level_factor=10, **BARE)
    ran = simulate(jobs, cluster(1, 1), rules, known="never")
    assert ends(ran) == {1: 500, 2: 250, 3: 400}


def test_what_a_preemption_costs():
    """Job 1 (1000 s) is stopped at 400 s; its card is free at 440 s. Job 2 takes it to 540 s. Job 1 needs 60 s to get
    going again, so its 600 s end at 1200 s. It held its card for 440 + 660 s.
    """
    jobs = [job(1, 0, 1000), job(2, 400, 100, priority=75)]
    first, second = simulate(jobs, cluster(1, 1), Rules("fifo"))
    assert (second.first_start_s, second.end_s) == (440, 540)
    assert (first.end_s, first.gpu_s, first.waited_s, first.preemptions) == (1200, 1100, 100, 1)


def test_max_min_with_borrowing():
    """Four GPUs, two guaranteed to each of two projects. x wants one: max-min gives y three. When x wants its second, y
    gives back the one that it took last, and x has it once that has stopped.
    """
    mine = [job(1, 0, 9000, project="x"), job(2, 1000, 9000, project="x")]
    theirs = [job(number, number, 9000, project="y") for number in range(3, 8)]
    ran = simulate(
        sorted(mine + theirs, key=lambda one: one.submit_s),
        cluster(1, 4),
        Rules(),
        {"x": Project(2), "y": Project(2)},
        known="told",
    )
    by_id = {one.job.job_id: one for one in ran}
    assert by_id[2].first_start_s == 1040
    assert {number: one.preemptions for number, one in by_id.items() if one.preemptions} == {5: 1}


def test_shares_follow_weights():
    """One GPU, ten jobs of an hour each from x and y, x with three times the weight: of the first eight six are x's."""
    jobs = [job(number, 0, 3600, project="xy"[number % 2], user="xy"[number % 2]) for number in range(20)]
    ran = simulate(jobs, cluster(1, 1), Rules(preempt=False), {"x": Project(weight=3)}, known="told")
    first = sorted(ran, key=lambda one: one.end_s or 0)[:8]
    assert sum(one.job.project == "x" for one in first) == 6


class Recorded(_Simulation):
    """The simulation, with what each job held and when."""

    def __init__(self, rules: Rules) -> None:
        super().__init__(rules, {}, "soon", rules.stop_s, rules.restart_s)
        self.spans: list[tuple[float, float, tuple[int, ...]]] = []

    def _release(self, index, running, now):
        self.spans.append((self.jobs[index].began, now, running.gpu_ids))
        super()._release(index, running, now)


TRACES = st.builds(
    lambda seed, load, longest: generate(
        Wish(jobs=60, load=load, seed=seed, users=5, longest_s=longest, median_s=300, mean_s=1500), 16
    ),
    st.integers(0, 10**6),
    st.sampled_from((0.7, 1.5, 4.0)),
    st.sampled_from((3000.0, 30_000.0)),
)


@pytest.mark.parametrize("known", ["never", "soon", "told"])
@pytest.mark.parametrize("policy", DISCIPLINES)
@given(TRACES)
@settings(max_examples=3, deadline=None)
def test_when_a_trace_begins_does_not_matter(policy, known, jobs):
    later = 2.0**20  # so that no sum of seconds is rounded
    shifted = [replace(one, submit_s=one.submit_s + later) for one in jobs]
    first, second = (simulate(each, cluster(2, 8), Rules(policy), known=known) for each in (jobs, shifted))
    assert {number: end + later for number, end in ends(first).items() if end} == ends(second)


@pytest.mark.parametrize("policy", DISCIPLINES)
@given(TRACES)
@settings(max_examples=8, deadline=None)
def test_over_time_every_job_ends_and_no_bound_is_beaten(policy, jobs):
    rules = Rules(policy)
    simulation = Recorded(rules)
    ran = simulation.run(jobs, tuple(cluster(4, 4)))
    for one in ran:
        work = one.job.duration_s * one.job.gpus
        assert one.end_s is not None and one.first_start_s is not None and one.jct_s is not None
        assert one.first_start_s >= one.job.submit_s
        assert one.jct_s >= one.job.duration_s - 1e-6
        # What it held beyond its work is what its preemptions cost.
        lost = one.preemptions * (rules.stop_s + rules.restart_s) * one.job.gpus
        assert work - 1e-3 <= one.gpu_s <= work + lost + 1e-3
        assert one.waited_s + one.gpu_s / one.job.gpus == pytest.approx(one.jct_s)
    by_gpu: dict[int, list[tuple[float, float]]] = {}
    for began, end, gpu_ids in simulation.spans:
        for gpu_id in gpu_ids:
            by_gpu.setdefault(gpu_id, []).append((began, end))
    assert len(by_gpu) <= 16
    for spans in by_gpu.values():
        spans.sort()
        assert all(first[1] <= second[0] for first, second in pairwise(spans))
    assert sum(one.jct_s or 0 for one in ran) >= least_total_s(jobs, 16) - 1e-3
    last = max(one.end_s or 0 for one in ran)
    assert (
        last - min(one.submit_s for one in jobs) >= sum(one.duration_s * one.gpus for one in jobs) / 16 - 1e-3
    )


def least_total_s(jobs: Sequence[TraceJob], gpus: int) -> float:
    """No schedule has a lower sum of completion times, even told all durations.

    All GPUs as one that is so many times as fast, under shortest remaining time first (Schrage 1968): any schedule can
    be turned into one for that machine with no completion later. And no job is quicker than alone.
    """
    events = sorted(jobs, key=lambda one: one.submit_s)
    queue: list[tuple[float, float]] = []
    now, total, at = 0.0, 0.0, 0
    while queue or at < len(events):
        if not queue:
            now = max(now, events[at].submit_s)
        while at < len(events) and events[at].submit_s <= now:
            heapq.heappush(queue, (events[at].duration_s * events[at].gpus / gpus, events[at].submit_s))
            at += 1
        left, came = heapq.heappop(queue)
        until = events[at].submit_s if at < len(events) else float("inf")
        if now + left <= until:
            now += left
            total += now - came
        else:
            heapq.heappush(queue, (left - (until - now), came))
            now = until
    return max(total, sum(one.duration_s for one in jobs))


@pytest.mark.parametrize("policy", DISCIPLINES)
def test_nobody_starves(policy):
    """The bound of docs/scheduling.md: D + L (1 + N / G) for a job of one GPU.

    Four GPUs, and 1.5 times the work that they can do, all of it of high priority; one job of low priority among them.
    It waits until its age has made it the first of the highest class (D: three classes up), then until those that were
    queued before it (N) have their turn, G of them in each L, the longest run.
    """
    rules = Rules(policy, age_class_s=3000, promote_after_s=1000, first_level_gpu_s=600)
    stream = [job(number, number * 100.0, 600, priority=75) for number in range(600)]
    low = job(1000, 550, 600, priority=25)
    jobs = sorted([*stream, low], key=lambda one: one.submit_s)
    ran = {one.job.job_id: one for one in simulate(jobs, cluster(1, 4), rules)}
    before = sum(one.submit_s <= low.submit_s for one in stream)
    bound = 3 * rules.age_class_s + 600 * (1 + before / 4)
    found = ran[1000]
    assert found.first_start_s is not None
    waited = found.first_start_s - low.submit_s
    assert waited <= bound
    never = simulate(jobs, cluster(1, 4), replace(rules, age_class_s=1e9))
    starved = next(one for one in never if one.job.job_id == 1000)
    assert starved.first_start_s is not None and starved.first_start_s - low.submit_s > bound


@pytest.mark.parametrize(
    ("move", "end", "moves"),
    # At 2000 s a twentieth is done: 9,500 s are left on the fast card, and 100 s to stop and start again.
    [(True, 2000 + 100 + 9_500, 1), (False, 40_000, 0)],
)
def test_a_job_moves_to_a_faster_card_that_comes_free(move: bool, end: float, moves: int):
    (slow,), (fast,) = (read_fleet(f"hosts: [{{card: {card}}}]", "f").hosts for card in ("rtx4090", "h100"))
    both = replace(slow, gpus=(slow.gpus[0], replace(fast.gpus[0], id=99, index=1)))
    by_card = {card.name: seconds for card, seconds in zip(both.gpus, (40_000.0, 10_000.0), strict=True)}
    jobs = [
        job(1, 0, 2000, seconds_by_card=((both.gpus[1].name, 2000.0),)),
        job(2, 0, 10_000, seconds_by_card=tuple(by_card.items())),
    ]
    ran = simulate(jobs, [both], Rules(move=move), card_policy="fastest")
    assert [one.end_s for one in ran] == [2000, end]
    assert [(one.moves, one.preemptions) for one in ran] == [(0, 0), (moves, 0)]
