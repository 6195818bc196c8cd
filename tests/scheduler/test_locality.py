"""A job that was stopped goes where its checkpoint is, as long as carrying it elsewhere does not pay."""

from __future__ import annotations

import dataclasses
from typing import Any

from jobs.state import Code
from jobs.units import GiB, MiB
from orchestrator.scheduler.fleet import RunningJob
from orchestrator.scheduler.policy import Rules
from tests.fleets import PROFILE, Peaks, fleet, gpu, host, plan, waiting
from tests.scheduler.test_migration import TwiceAsFast

STEP_S = 2.0  # on its card of 24 GiB
PACE = TwiceAsFast(off=20, every_layer=10)


def stopped(steps_done: float, **fields: Any):
    """Stopped at time 0 on host 1."""
    return dataclasses.replace(
        waiting(1), steps_done=steps_done, steps_left=100.0, waiting_since=0.0, home=1, **fields
    )


def where(decided) -> dict[int, str]:
    return {job: placement.host.name for job, placement in decided.starts.items()}


def test_it_goes_home_though_another_host_comes_first():
    hosts = [host(0, gpu(9)), host(1, gpu(1))]
    assert where(plan(fleet(hosts, [waiting(1)]), 0, PACE)) == {1: "h0"}
    assert where(plan(fleet(hosts, [stopped(50)]), 0, PACE)) == {1: "h1"}


SIZE = 10_000 * MiB  # of a checkpoint: 100 s on the way, at 100 MiB/s
FASTEST = {"resources": {"policy": "fastest"}}


def settled(steps_done: float = 500, **fields: Any):
    """Stopped at time 0 on host 1, with a checkpoint of a size that is known."""
    return dataclasses.replace(stopped(steps_done), checkpoint_bytes=SIZE, **fields)


def test_it_waits_for_home_as_long_as_its_checkpoint_takes_elsewhere():
    hosts = [host(0, gpu(9)), host(1, gpu(1, held_by=7))]
    waits = plan(fleet(hosts, [settled()]), 99, PACE)
    assert (where(waits), waits.waits[1].code) == ({}, Code.BUSY)
    assert where(plan(fleet(hosts, [settled()]), 100, PACE)) == {1: "h0"}
    assert where(plan(fleet(hosts, [settled(steps_done=10)]), 20, PACE)) == {1: "h0"}, (
        "doing it again is less"
    )


def test_home_comes_first_of_equals_however_long_it_has_waited():
    hosts = [host(0, gpu(9)), host(1, gpu(1))]
    assert where(plan(fleet(hosts, [settled()]), 5000, PACE)) == {1: "h1"}


def test_it_leaves_home_at_once_for_a_card_that_makes_up_for_the_way():
    """A card of 80 GiB takes 1 s a step, that at home 2 s."""
    hosts = [host(0, gpu(9, 80)), host(1, gpu(1))]
    job = dataclasses.replace(waiting(1, **FASTEST), steps_done=500, waiting_since=0.0, home=1)
    for left, found in ((99.0, "h1"), (101.0, "h0"), (None, "h1")):
        queued = dataclasses.replace(job, steps_left=left, checkpoint_bytes=SIZE)
        assert where(plan(fleet(hosts, [queued]), 0, PACE)) == {1: found}
    small = dataclasses.replace(job, steps_left=101.0, checkpoint_bytes=SIZE, spec=waiting(1).spec)
    assert where(plan(fleet(hosts, [small]), 0, PACE)) == {1: "h1"}, "its policy is the smallest card"


def test_cards_that_its_policy_likes_best_do_not_hide_those_that_make_up_for_the_way():
    """The cheapest card is slow; the next is cheaper and faster than that at home, and the cheapest is taken."""

    class Pace(Peaks):
        def __call__(self, job, profile, card, stack=""):
            found = super().__call__(job, profile, card, stack)
            step_s = {24: 2.0, 40: 1.0, 16: 3.0}[card.memory_bytes // GiB]
            return dataclasses.replace(found, projection=dataclasses.replace(found.projection, step_s=step_s))

    cards = [gpu(9, 40), gpu(8, 16), gpu(1, 24)]
    priced = [dataclasses.replace(card, price=price) for card, price in zip(cards, (1, 0.1, 1), strict=True)]
    hosts = [host(0, priced[0]), host(2, priced[1]), host(1, priced[2])]
    job = dataclasses.replace(waiting(1, resources={"policy": "cheapest"}), home=1, checkpoint_bytes=SIZE)
    job = dataclasses.replace(job, steps_done=500, steps_left=101.0, waiting_since=0.0)
    assert where(plan(fleet(hosts, [job]), 0, Pace(off=14, every_layer=10))) == {1: "h0"}


def test_others_are_stopped_for_it_at_home_and_anywhere_once_it_has_waited():
    hosts = [host(0, gpu(9, held_by=8)), host(1, gpu(1, held_by=7))]
    running = tuple(
        RunningJob(job, job, place, (card,), 10, 0.0, -4000.0) for job, place, card in ((8, 0, 9), (7, 1, 1))
    )
    for now, stopped_for_it in ((50, 7), (5000, 8)):
        given = dataclasses.replace(fleet(hosts, [settled()]), running=running)
        assert list(plan(given, now, PACE).stops) == [stopped_for_it]


def test_a_home_that_let_it_down_has_no_claim_on_it():
    hosts = [host(0, gpu(9)), host(1, gpu(1))]
    assert where(plan(fleet(hosts, [settled(shaky=frozenset({1}))]), 0, PACE)) == {1: "h0"}
    alone = [host(0, gpu(9, held_by=7)), host(1, gpu(1))]
    assert where(plan(fleet(alone, [settled(shaky=frozenset({1}))]), 0, PACE)) == {1: "h1"}


def test_where_nobody_knows_how_large_it_is_it_waits_as_long_as_beginning_anew_would_cost():
    hosts = [host(0, gpu(9)), host(1, gpu(1, held_by=7))]
    job = stopped(500)
    waits = plan(fleet(hosts, [job]), 500 * STEP_S - 1, PACE)
    assert (where(waits), waits.waits[1].code) == ({}, Code.BUSY)
    assert "h1" in waits.waits[1].text
    assert where(plan(fleet(hosts, [job]), 500 * STEP_S, PACE)) == {1: "h0"}


def test_a_home_that_is_gone_is_not_waited_for():
    for gone in (host(1, gpu(1), online=False), host(1, gpu(1), drained=True), host(1, gpu(1, fault="lost"))):
        assert where(plan(fleet([host(0, gpu(9)), gone], [stopped(500)]), 1, PACE)) == {1: "h0"}


def test_others_leave_its_card_to_it():
    """Who can go elsewhere does, though it comes first."""
    hosts = [host(0, gpu(9)), host(1, gpu(1))]
    first = dataclasses.replace(waiting(2), submitted_at=-5.0, waiting_since=-5.0)
    found = where(plan(fleet(hosts, [first, stopped(50)]), 0, PACE, Rules()))
    assert found == {2: "h0", 1: "h1"}


def test_small_cards_at_home_are_no_home():
    hosts = [host(0, gpu(9)), host(1, gpu(1, 4))]
    assert where(plan(fleet(hosts, [stopped(500)]), 1, Peaks(20, 10))) == {1: "h0"}


def gang(**fields: Any):
    """Three cards of hosts that have two each."""
    many = waiting(1, resources={"gpus": 3}, training={"global_batch": 3})
    settled = {"steps_done": 500, "steps_left": 100.0, "waiting_since": 0.0, "home": 2, "across": True}
    return dataclasses.replace(many, **{**settled, **fields})


def hosts_used(decided) -> set[int]:
    return {gpu.id // 10 for placement in decided.starts.values() for gpu in placement.gpus}


def three(*held: int):
    """Hosts 0 to 2 with two cards each, of which these are held."""
    return [
        host(
            number,
            *(
                gpu(10 * number + index, held_by=7 if 10 * number + index in held else None)
                for index in (0, 1)
            ),
        )
        for number in range(3)
    ]


def test_a_gang_over_several_hosts_takes_cards_of_its_home_among_others():
    assert hosts_used(plan(fleet(three(), [gang(home=None)]), 0, PACE)) == {0, 1}
    assert hosts_used(plan(fleet(three(), [gang()]), 0, PACE)) == {2, 0}
    assert hosts_used(plan(fleet(three(20), [gang()]), 0, PACE)) == {2, 0}, "its one free card will do"


def test_a_gang_waits_for_its_home_as_long_as_beginning_anew_would_cost():
    taken = fleet(three(20, 21), [gang()])
    assert plan(taken, 500 * STEP_S - 1, PACE).starts == {}
    assert hosts_used(plan(taken, 500 * STEP_S, PACE)) == {0, 1}
    light = fleet(three(20, 21), [gang(checkpoint_bytes=SIZE)])
    assert plan(light, 99, PACE).starts == {}
    assert hosts_used(plan(light, 100, PACE)) == {0, 1}, "carrying it there is less"
    elsewhere = dataclasses.replace(gang(home=None), job_id=2)
    both = plan(fleet(three(20, 21), [gang(), elsewhere]), 1, PACE)
    assert list(both.starts) == [2], "one that may go anywhere does not wait with it"


def test_a_gang_over_several_hosts_has_the_same_libraries_on_all():
    hosts = three()[:2]
    hosts[1] = dataclasses.replace(hosts[1], stack={"torch": "9"})
    job = gang(home=None)
    job = dataclasses.replace(job, keys={one.stack_id: "k" for one in hosts})
    snapshot = dataclasses.replace(fleet(hosts, [job]), profiles={"k": PROFILE})
    assert plan(snapshot, 0, PACE).starts == {}


def test_a_gang_over_several_hosts_takes_one_that_let_it_down_where_it_must():
    assert hosts_used(plan(fleet(three(), [gang(home=None, shaky=frozenset({0}))]), 0, PACE)) == {1, 2}
    two = three()[:2]
    assert hosts_used(plan(fleet(two, [gang(home=None, shaky=frozenset({0}))]), 0, PACE)) == {0, 1}
