"""A job that was stopped goes where its checkpoint lies, as long as that pays."""

from __future__ import annotations

import dataclasses
from typing import Any

from jobs.state import Code
from orchestrator.order import Rules
from orchestrator.plan import plan
from tests.fleets import Peaks, fleet, gpu, host, waiting
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
