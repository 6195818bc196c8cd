"""A job that was stopped goes where its checkpoint lies, as long as that pays."""

from __future__ import annotations

import dataclasses
from typing import Any

from jobs.state import Code
from orchestrator.order import Rules
from orchestrator.plan import plan
from tests.fleets import PROFILE, Peaks, fleet, gpu, host, waiting
from tests.unit.test_moves import TwiceAsFast

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


def test_it_waits_for_it_as_long_as_beginning_anew_would_cost():
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
