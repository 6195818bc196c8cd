"""Jobs that move: only to what their policy prefers, only where it pays, never to and fro."""

from __future__ import annotations

import dataclasses

import pytest

from jobs.state import Code
from jobs.units import MiB
from orchestrator.scheduler.fleet import RunningJob
from orchestrator.scheduler.policy import Rules
from tests.fleets import Peaks, fleet, gpu, host, plan, waiting

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
    checkpoint_bytes=1000 * MiB,
    **fields,
):
    """Job 1 runs on the small card, with 2 s a step; the large one is free, on the same host or (not together) h2."""
    job = waiting(1, resources={"policy": policy})
    job = dataclasses.replace(job, steps_left=float(steps_left), checkpoint_bytes=checkpoint_bytes)
    running = RunningJob(
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
    assert found[1].figures == {"gain_s": 9900.0, "card": "card80 80.00 GiB", "host": "h1"}
    assert "moves to card80 80.00 GiB, where" in found[1].text


def test_to_another_host_its_checkpoint_has_to_be_carried():
    """500 s at 100 MiB/s."""
    found = decided(together=False, checkpoint_bytes=50_000 * MiB).stops
    assert found[1].figures == {"gain_s": 9400.0, "card": "card80 80.00 GiB", "host": "h2"}
    assert found[1].text == "moves to card80 80.00 GiB on h2, where it ends 2h36m sooner"


def test_where_a_card_of_its_own_host_does_as_well_it_stays_there():
    job = dataclasses.replace(
        waiting(1, resources={"policy": "fastest"}), steps_left=1e4, checkpoint_bytes=50_000 * MiB
    )
    running = RunningJob(*(1, 7, 2, (1,), 50, 1.0, NOW - 4000), ends_at=NOW + 20_000, spread=0.05)
    hosts = [host(1, gpu(3, 80)), host(2, gpu(1, 24, held_by=1), gpu(2, 80))]
    given = dataclasses.replace(fleet(hosts, []), running=(running,), movable={1: job})
    assert plan(given, NOW, PACE, RULES).stops[1].figures["host"] == "h2"


def test_once_stopped_it_goes_where_it_was_to_move_and_not_home_again():
    """Its own card is free again by then."""
    size = 50_000 * MiB
    assert decided(together=False, checkpoint_bytes=size).stops
    queued = dataclasses.replace(
        waiting(1, resources={"policy": "fastest"}),
        home=1,
        steps_done=5e3,
        steps_left=1e4,
        waiting_since=NOW,
        checkpoint_bytes=size,
    )
    given = fleet([host(1, gpu(1, 24)), host(2, gpu(2, 80))], [queued])
    assert plan(given, NOW, PACE, RULES).starts[1].host.name == "h2"


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
        pytest.param(
            {"together": False, "checkpoint_bytes": 960_000 * MiB}, id="carrying takes what it gains"
        ),
        pytest.param({"together": False, "checkpoint_bytes": 0}, id="nobody knows what carrying takes"),
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
        RunningJob(n, n, 1, (n,), 50, 1.0, NOW - 4000, ends_at=NOW + 18_000, spread=0.05) for n in (1, 2)
    )
    hosts = [host(1, gpu(1, 24, held_by=1), gpu(2, 24, held_by=2), gpu(3, 80))]
    given = dataclasses.replace(fleet(hosts, []), running=running, movable=jobs)
    assert set(plan(given, NOW, PACE, RULES).stops) == {1}
