"""Figures of a simulation, worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.simulate.metrics import by_group, jain, measure, quantile, slowdown
from orchestrator.simulate.trace import Ran, TraceJob


def ran(submit: float, start: float, end: float, gpus: int = 1, user: str = "ada", **values) -> Ran:
    job = TraceJob(1, submit, end - start, gpus, user=user, **values)
    return Ran(job, start, end, waited_s=start - submit, gpu_s=gpus * (end - start))


def test_two_jobs_by_hand():
    found = measure([ran(0, 0, 100), ran(0, 100, 200)], gpus=1)
    assert (found.jct.mean, found.wait.mean, found.wait.most) == (150.0, 50.0, 100.0)
    assert (found.makespan_s, found.utilisation, found.gpu_hours) == (200.0, 1.0, 200 / 3600)
    assert found.slowdown == 1.5  # 1 and 2
    assert (found.fairness, found.unfinished, found.preemptions) == (1.0, 0, 0)


def test_half_of_the_cards_are_idle():
    assert measure([ran(0, 0, 100, gpus=4)], gpus=8).utilisation == 0.5


def test_fairness_is_over_users():
    even = measure([ran(0, 0, 100, user="ada"), ran(0, 0, 50, user="bob")], gpus=2)
    assert even.fairness == 1.0
    uneven = measure([ran(0, 0, 100, user="ada"), ran(0, 200, 300, user="bob")], gpus=1)
    assert uneven.fairness == pytest.approx((1 + 3) ** 2 / (2 * (1 + 9)))


def test_a_short_job_that_waits_a_moment_is_not_slow():
    assert slowdown(ran(0, 4, 5), 5.0) == 1.0
    assert slowdown(ran(0, 40, 45), 45.0) == 4.5


def test_a_job_that_never_ended_is_counted_as_that_and_nowhere_else():
    lost = Ran(TraceJob(2, 0.0, 50.0, 1), 10.0, None, gpu_s=20.0, preemptions=3)
    found = measure([ran(0, 0, 100), lost], gpus=1)
    assert (found.jobs, found.unfinished, found.jct.mean, found.preemptions) == (2, 1, 100.0, 3)


def test_nothing():
    found = measure([], gpus=8)
    assert (found.jobs, found.jct.mean, found.utilisation, found.fairness) == (0, 0.0, 0.0, 1.0)


def test_groups():
    jobs = [ran(0, 0, 100, project="a"), ran(0, 100, 200, project="b"), ran(0, 0, 50, project="a")]
    found = by_group(jobs, lambda one: one.job.project, {"a": 2})
    assert list(found) == ["a", "b"]
    assert (found["a"].jobs, found["a"].jct.mean, found["a"].utilisation) == (2, 75.0, 0.75)
    assert (found["b"].wait.mean, found["b"].utilisation) == (100.0, 0.0)
    assert list(by_group(jobs, lambda one: str(int(one.job.duration_s)), {})) == ["50", "100"]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_quantiles_are_numpys(values: list[float], share: float):
    assert quantile(sorted(values), share) == pytest.approx(float(np.quantile(values, share)), abs=1e-6)


@given(st.lists(st.floats(1, 1e6), min_size=1))
def test_jain_lies_between_one_of_all_and_all_alike(values: list[float]):
    assert 1 / len(values) - 1e-9 <= jain(values) <= 1 + 1e-9


def test_jain_at_its_ends():
    assert jain([5.0, 5.0, 5.0]) == 1.0
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25
