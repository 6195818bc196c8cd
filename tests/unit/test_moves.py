"""Jobs that move: only to what their policy prefers, only where it pays, never to and fro."""

from __future__ import annotations

import dataclasses

import pytest

from jobs.state import Code
from orchestrator.fleet import Running
from orchestrator.order import Rules
from orchestrator.plan import plan
from tests.fleets import Peaks, fleet, gpu, host, waiting

NOW = 100_000.0
RULES = Rules(move=True)


class TwiceAsFast(Peaks):
    """A card of 80 GiB takes half the time of one of 24."""

    def __call__(self, job, profile, card, stack=""):
        found = super().__call__(job, profile, card, stack)
        step_s = 1.0 if card.memory_bytes > 40 * 2**30 else 2.0
        return dataclasses.replace(found, projection=dataclasses.replace(found.projection, step_s=step_s))


PACE = TwiceAsFast(off=20, every_layer=10)


def decided(
    steps_left=10_000,
    ran_s=4000.0,
    spread=0.05,
    rules=RULES,
    policy="fastest",
    queue=(),
    together=True,
    **fields,
):
    """Job 1 runs on the small card, with 2 s a step; the large one is free."""
    job = waiting(1, resources={"policy": policy})
    job = dataclasses.replace(job, steps_left=float(steps_left))
    running = Running(
        *(1, 7, 1, (1,), 50, 1.0, NOW - ran_s), ends_at=NOW + 2.0 * steps_left, spread=spread, **fields
    )
    small, large = gpu(1, 24, held_by=1), gpu(2, 80)
    hosts = [host(1, small, large)] if together else [host(1, small), host(2, large)]
    given = dataclasses.replace(fleet(hosts, list(queue)), running=(running,), movable={1: job})
    return plan(given, NOW, PACE, rules)


def test_a_job_moves_where_it_ends_clearly_sooner():
    found = decided().stops
    assert set(found) == {1}
    assert found[1].code is Code.PREEMPTED
    # 20,000 s left here; 10,000 s and 100 s to stop and start again there.
    assert found[1].figures == {"gain_s": 9900.0, "card": "card80 80.00 GiB"}
    assert "moves to card80" in found[1].text


@pytest.mark.parametrize(
    "why",
    [
        pytest.param({"rules": Rules()}, id="off by default"),
        pytest.param({"steps_left": 900}, id="too little to gain"),
        pytest.param({"ran_s": 600.0}, id="it has only just begun"),
        pytest.param({"spread": 1.0}, id="its end is only projected"),
        pytest.param({"policy": "smallest_card"}, id="its policy prefers the card it has"),
        pytest.param({"stopping_until": NOW + 10}, id="it is being stopped"),
        pytest.param({"movable": False}, id="it may not be stopped"),
        pytest.param({"together": False}, id="its checkpoint would stay behind"),
    ],
)
def test_it_stays(why):
    assert decided(**why).stops == {}


def test_a_card_that_somebody_waits_for_is_nobodys_to_move_to():
    found = decided(queue=[dataclasses.replace(waiting(2, resources={"policy": "fastest"}))])
    assert [gpu.id for gpu in found.starts[2].gpus] == [2]
    assert found.stops == {}


def test_two_jobs_do_not_move_to_the_same_card():
    jobs = {
        n: dataclasses.replace(waiting(n, resources={"policy": "fastest"}), steps_left=9e3) for n in (1, 2)
    }
    running = tuple(
        Running(n, n, 1, (n,), 50, 1.0, NOW - 4000, ends_at=NOW + 18_000, spread=0.05) for n in (1, 2)
    )
    hosts = [host(1, gpu(1, 24, held_by=1), gpu(2, 24, held_by=2), gpu(3, 80))]
    given = dataclasses.replace(fleet(hosts, []), running=running, movable=jobs)
    assert set(plan(given, NOW, PACE, RULES).stops) == {1}
