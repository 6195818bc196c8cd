"""When likely starts are worked out again: at once for a new job where that is cheap, and otherwise now and then."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.control.start_time_refresh import EVERY_S, REST, Likely
from orchestrator.scheduler.cache.scheduler_cache import PlanInput
from orchestrator.scheduler.policy import Rules
from tests.fleets import plan, plan_input
from tests.scenes import NOW, Scene, scene_fleet

RUNNING = ("7 on=a0 ran=600 ends=1200",)


class Estimates:
    """One Likely, and how long each look takes it."""

    def __init__(self, cost_s: float) -> None:
        self.times = self._times(cost_s)
        self.likely = Likely(lambda: next(self.times))
        self.asked = 0

    @staticmethod
    def _times(cost_s: float) -> Iterator[float]:
        now = 0.0
        while True:
            yield now
            now += cost_s

    def look(self, at: float, *queue: str) -> set[int]:
        """Who has an estimate after a plan, `at` seconds on."""
        fleet, needs = scene_fleet(Scene("", "a 24", queue, RUNNING))
        rules = Rules()

        def given() -> PlanInput:
            self.asked += 1
            return plan_input(fleet, NOW + at, needs, rules)

        self.likely.look(plan(fleet, NOW, needs, rules), NOW + at, given)
        return set(self.likely.starts)


def test_a_new_job_has_an_estimate_after_its_first_plan():
    cheap = Estimates(cost_s=0.001)
    assert cheap.look(0.0, "1") == {1}
    assert cheap.look(REST * 0.001 + 0.01, "1", "2") == {1, 2}
    assert cheap.asked == 2


def test_what_costs_much_rests_in_proportion():
    dear = Estimates(cost_s=0.2)
    assert dear.look(0.0, "1") == {1}
    assert dear.look(REST * 0.2 - 0.1, "1", "2") == {1}
    assert dear.look(REST * 0.2 + 0.1, "1", "2") == {1, 2}


def test_while_nothing_changes_they_are_made_anew_only_now_and_then():
    cheap = Estimates(cost_s=0.001)
    for at in (0.0, 1.0, EVERY_S - 1, EVERY_S + 1, EVERY_S + 2):
        cheap.look(at, "1")
    assert cheap.asked == 2


def test_a_job_whose_profile_comes_counts_as_new():
    cheap = Estimates(cost_s=0.001)
    assert cheap.look(0.0, "1", "2 profile=pending") == {1}
    assert cheap.look(1.0, "1", "2") == {1, 2}


def test_an_empty_queue_has_none_and_costs_nothing():
    cheap = Estimates(cost_s=0.001)
    cheap.look(0.0, "1")
    assert cheap.look(0.1) == set() and cheap.asked == 1
