"""Likely starts of queued jobs, worked by hand on small fleets."""

from __future__ import annotations

import pytest

from orchestrator.cli.render.words import until_start
from orchestrator.scheduler.policy import Rules
from orchestrator.whatif.start_times import COMERS, starts
from tests.fleets import plan, plan_input
from tests.scenes import NOW, Scene, scene_fleet

RULES = Rules(stop_s=40.0, restart_s=60.0)


def likely(
    fleet: str, queue: tuple[str, ...], running: tuple[str, ...] = ()
) -> dict[int, tuple[float, float | None]]:
    """Earliest and latest start of each job, in seconds from now."""
    snapshot, needs = scene_fleet(Scene("", fleet, queue, running))
    decided = plan(snapshot, NOW, needs, RULES)
    found = starts(plan_input(snapshot, NOW, needs, RULES), decided)
    return {
        job: (round(start.earliest - NOW), None if start.latest is None else round(start.latest - NOW))
        for job, start in found.items()
    }


def test_the_next_job_starts_when_the_running_one_ends_and_has_saved():
    found = likely("a 24", ("1 left=100",), ("7 on=a0 ran=600 ends=1200",))
    assert found == {1: (1200, COMERS * 1240)}


def test_one_that_others_are_stopped_for_starts_when_they_have_saved():
    """Whether they are stopped by this very plan or were asked before; the others of its class come after it."""
    running = ("7 on=a0 ran=600 prio=25",)
    assert likely("a 24", ("1 prio=75 left=100",), running) == {1: (40, COMERS * 40)}
    asked = ("7 on=a0 ran=600 prio=25 stopping=30 for=2",)
    found = likely("a 24", ("1 left=100 waited=900", "2 left=100"), asked)
    assert found == {1: (30, COMERS * (30 + 60 + 200 + 40)), 2: (30, COMERS * 30)}


def test_the_one_after_it_may_be_first_or_wait_for_its_projected_time_too():
    """A projection is right within a factor of two; a start takes a minute and an end 40 s at the most."""
    found = likely("a 24", ("1 left=100", "2 left=100"), ("7 on=a0 ran=600 ends=1200",))
    assert found[2] == (1200, COMERS * (1240 + 60 + 200 + 40))


def test_each_takes_the_card_that_is_free_first():
    running = ("7 on=a0 ran=600 ends=1000", "8 on=a1 ran=600 ends=500")
    found = likely("a 24 24", ("1 left=10", "2 left=10000"), running)
    assert found == {1: (500, COMERS * 540), 2: (500, COMERS * (540 + 60 + 20 + 40))}


def test_a_job_behind_one_of_which_nobody_knows_the_end_has_no_latest_start():
    assert likely("a 24", ("1 left=10",), ("7 on=a0 ran=600",)) == {1: (0, None)}
    assert likely("a 24", ("1", "2 left=10"), ("7 on=a0 ran=600 ends=100",))[2] == (100, None)


def test_a_gang_waits_for_its_last_card():
    running = ("7 on=a0 ran=600 ends=1000", "8 on=a1 ran=600 ends=500")
    assert likely("a 24 24", ("1 gpus=2 left=10",), running) == {1: (1000, COMERS * 1040)}


def test_a_gang_over_several_hosts_has_a_start_and_keeps_others_waiting():
    """b is free now, and kept for the gang until a is: the job behind it may pass it, or wait until it has ended."""
    running = ("7 on=a0 ran=600 ends=100",)
    found = likely("a 24 | b 24", ("1 gpus=2 across left=50 waited=9000", "2 left=500"), running)
    assert found == {1: (100, COMERS * 140), 2: (0, COMERS * (140 + 60 + 100 + 40))}


def test_what_starts_now_or_fits_nowhere_has_none():
    assert likely("a 24", ("1 left=10", "2 needs=90")) == {}


def test_a_back_off_is_waited_for():
    assert likely("a 24", ("1 left=10 rests=300",)) == {1: (300, 300)}


@pytest.mark.parametrize(
    ("earliest", "latest", "text"),
    [
        (0, 0, "soon"),
        (-5, -1, "soon"),
        (0, 90, "within 1m30s"),
        (60, 120, "in 1m00s to 2m00s"),
        (60, 60.2, "in 1m00s"),
        (60, None, "from 1m00s"),
        (0, None, ""),
    ],
)
def test_how_a_start_reads(earliest, latest, text):
    at = {"earliest": NOW + earliest, "latest": None if latest is None else NOW + latest}
    assert until_start(at, NOW) == text
