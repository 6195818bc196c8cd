"""The planner: priority, first come first served, smallest card that fits, and a reason for everybody else."""

from __future__ import annotations

import dataclasses
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.state import Code
from orchestrator.scheduler.fleet import NoProfile
from tests.fleets import KEY, Peaks, fleet, gpu, host, plan, waiting

EASY = Peaks(off=20, every_layer=10)


def started(decided) -> dict[int, list[int]]:
    return {job: [gpu.id for gpu in placement.gpus] for job, placement in decided.starts.items()}


def test_the_smallest_card_that_fits_is_taken_with_just_the_checkpointing_it_calls_for():
    hosts = [host(1, gpu(1, 80), gpu(2, 24), gpu(3, 12))]
    decided = plan(fleet(hosts, [waiting(1)]), 0, EASY)
    assert started(decided) == {1: [3]}
    assert decided.starts[1].choice.rung.every_n == 1
    decided = plan(fleet([host(1, gpu(1, 80), gpu(2, 24))], [waiting(1)]), 0, EASY)
    assert started(decided) == {1: [2]}
    assert decided.starts[1].choice.rung.every_n == 0


def test_priority_goes_before_age_and_age_before_id():
    hosts = [host(1, gpu(1))]
    decided = plan(fleet(hosts, [waiting(1), waiting(2, priority=75)]), 0, EASY)
    assert started(decided) == {2: [1]}
    assert decided.waits[1].code is Code.BEHIND
    assert started(plan(fleet(hosts, [waiting(2), waiting(1)]), 0, EASY)) == {1: [1]}


def test_a_job_passes_one_that_waits_for_cards_it_could_not_use():
    small, large = Peaks(4, 2), Peaks(60, 40)
    hosts = [host(1, gpu(1, 12), gpu(2, 80, held_by=9))]

    def chooser(job, profile, card, stack=""):
        return (large if job.job_id == 1 else small)(job, profile, card)

    decided = plan(fleet(hosts, [waiting(1), waiting(2)]), 0, chooser)
    assert started(decided) == {2: [1]}
    assert decided.waits[1].code is Code.BUSY
    assert decided.waits[1].figures["held_by_jobs"] == [9]


def test_small_jobs_do_not_starve_a_gang():
    gang = waiting(1, resources={"gpus": 2})
    hosts = [host(1, gpu(1), gpu(2, held_by=9))]
    assert started(plan(fleet(hosts, [gang, waiting(2)]), 0, EASY)) == {2: [1]}
    decided = plan(fleet(hosts, [gang, waiting(2)]), 300_000, EASY)  # by now it has waited long enough
    assert started(decided) == {}
    assert decided.waits[1].code is Code.BUSY
    reason = decided.waits[2]
    assert (reason.code, reason.figures["job"], reason.figures["until"]) == (Code.RESERVED, 1, None)
    hosts = [host(1, gpu(1), gpu(2))]
    assert started(plan(fleet(hosts, [gang, waiting(2)]), 0, EASY)) == {1: [1, 2]}


def test_a_host_that_let_the_job_down_is_taken_only_when_no_other_will_do():
    hosts = [host(1, gpu(1, 12)), host(2, gpu(2, 80))]
    burnt = dataclasses.replace(waiting(1), shaky=frozenset({1}))
    assert started(plan(fleet(hosts, [burnt]), 0, EASY)) == {1: [2]}
    assert started(plan(fleet(hosts[:1], [burnt]), 0, EASY)) == {1: [1]}


def test_a_gang_is_never_split_over_hosts_or_card_types():
    gang = waiting(1, resources={"gpus": 2})
    decided = plan(fleet([host(1, gpu(1)), host(2, gpu(2))], [gang]), 0, EASY)
    assert decided.waits[1].code is Code.GANG
    decided = plan(fleet([host(1, gpu(1, 24), gpu(2, 80))], [gang]), 0, EASY)
    assert decided.waits[1].code is Code.GANG


@pytest.mark.parametrize(("memory", "would"), [(24, True), (80, False)])
def test_spanning_hosts_is_proposed_only_where_they_have_such_cards_of_one_type(memory: int, would: bool):
    hosts = [host(1, gpu(1, 24)), host(2, gpu(2, memory))]
    reason = plan(fleet(hosts, [waiting(1, resources={"gpus": 2})]), 0, EASY).waits[1]
    assert reason.code is Code.GANG
    assert ("resources.across_hosts: true would let it span hosts" in reason.text) == would


@pytest.mark.parametrize(
    ("hosts", "job", "code", "words"),
    [
        ([], waiting(1), Code.NO_HOST, "no host has joined"),
        ([host(1, gpu(1), online=False)], waiting(1), Code.NO_HOST, "does not answer"),
        ([host(1, gpu(1), drained=True)], waiting(1), Code.NO_HOST, "drained"),
        ([host(1)], waiting(1), Code.NO_CARD, "no cards"),
        ([host(1, gpu(1, fault="lost"))], waiting(1), Code.NO_CARD, "has 1 card, and none is usable"),
        ([host(1, gpu(1))], waiting(1, resources={"card": "h100"}), Code.NO_CARD, "no card of type h100"),
        (
            [host(1, gpu(1))],
            waiting(1, resources={"min_memory": "80GiB"}),
            Code.NO_CARD,
            "at least 80.00 GiB",
        ),
        ([host(1, gpu(1))], waiting(1, resources={"labels": {"rack": "a"}}), Code.NO_CARD, "no label rack=a"),
        ([host(1, gpu(1))], waiting(1, method="qlora"), Code.LIBRARY, "has no bitsandbytes"),
        ([host(1, gpu(1, 8))], waiting(1), Code.MEMORY, "fits no card: needs 10 GiB"),
        ([host(1, gpu(1, held_by=7))], waiting(1), Code.BUSY, "held by job 7"),
        ([host(1, gpu(1), ray_ready=False)], waiting(1), Code.BUSY, "Ray worker is still coming up"),
        ([host(1, gpu(1))], waiting(1, not_before=60), Code.BACKOFF, "waits after a failure"),
    ],
)
def test_every_job_that_waits_has_a_typed_reason(hosts, job, code, words):
    decided = plan(fleet(hosts, [job]), 0, EASY)
    assert not decided.starts
    assert decided.waits[1].code is code
    assert words in decided.waits[1].text


@pytest.mark.parametrize(
    ("card", "about", "wants"),
    [
        ({}, {"online": False}, {}),
        ({}, {"drained": True}, {}),
        ({}, {"ray_ready": False}, {}),
        ({"fault": "lost"}, {}, {}),
        ({"held_by": 7}, {}, {}),
        ({"held_by": 7}, {}, {"gpus": 2, "across_hosts": True}),
        ({}, {}, {"gpus": 2}),
        ({}, {}, {"card": "h100"}),
        ({}, {}, {"labels": {"room": "b"}}),
    ],
)
def test_a_reason_does_not_grow_with_the_fleet(card, about, wants):
    """It is stored with every job that waits: of 4,000 holders it would be 22 KB, 220 MB of a queue of 10,000."""
    hosts = [
        host(n, gpu(n, **({"held_by": 100_000 + n} if "held_by" in card else card)), **about)
        for n in range(1, 601)
    ]
    reason = plan(fleet(hosts, [waiting(1, resources=wants)]), 0, EASY).waits[1]
    assert len(reason.text) + len(json.dumps(reason.figures)) < 700, reason


def test_without_a_profile_a_job_is_never_placed_but_traced():
    hosts = [host(1, gpu(1))]
    decided = plan(fleet(hosts, [waiting(1)], profiles={}), 0, EASY)
    assert not decided.starts
    assert decided.waits[1].code is Code.PROFILE_PENDING
    assert decided.traces == {KEY: (1, 1)}
    pending = plan(fleet(hosts, [waiting(1)], profiles={KEY: NoProfile()}), 0, EASY)
    assert pending.traces == {}
    failed = plan(fleet(hosts, [waiting(1)], profiles={KEY: NoProfile("no such layer")}), 0, EASY)
    assert failed.waits[1].code is Code.PROFILE_FAILED
    assert "no such layer" in failed.waits[1].text


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_no_card_is_given_twice_and_order_of_input_does_not_matter(rng: random.Random):
    hosts = [
        host(
            h,
            *(
                gpu(h * 10 + g, rng.choice([8, 24, 80]), held_by=rng.choice([None, None, 99]))
                for g in range(4)
            ),
        )
        for h in range(1, 4)
    ]
    jobs = [
        waiting(n, priority=rng.choice([25, 50, 75]), resources={"gpus": gpus}, training={"global_batch": 12})
        for n in range(1, 15)
        for gpus in [rng.choice([1, 1, 2, 4])]
    ]
    decided = plan(fleet(hosts, jobs), 0, EASY)
    given_out = [card.id for placement in decided.starts.values() for card in placement.gpus]
    assert len(given_out) == len(set(given_out))
    assert set(decided.starts) | set(decided.waits) == {job.job_id for job in jobs}
    for job in jobs:
        if placement := decided.starts.get(job.job_id):
            assert len(placement.gpus) == job.spec.resources.gpus
            assert all(card.held_by is None and card in placement.host.gpus for card in placement.gpus)
            assert placement.choice.projection.upper_bytes <= min(
                card.memory_bytes for card in placement.gpus
            )
    shuffled = rng.sample(jobs, len(jobs))
    again = plan(fleet(rng.sample(hosts, len(hosts)), shuffled), 0, EASY)
    assert started(again) == started(decided)
