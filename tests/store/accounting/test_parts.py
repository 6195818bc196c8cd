"""The time of a lease, split: it adds up, whatever is known of the attempt."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.state import Outcome
from orchestrator.store.accounting.parts import STARTUP_S, Parts, Phases, Told, phases, split

times = st.floats(-1e6, 1e6)
tolds = st.builds(
    Told,
    opened_at=times,
    end=times,
    outcome=st.none() | st.sampled_from(Outcome),
    trained_from=st.none() | times,
    steps=st.integers(0, 1000),
    resumed_step=st.integers(0, 1000),
    kept_step=st.none() | st.integers(0, 1000),
    slowdown=st.floats(-1, 10),
)


@given(told=tolds, cuts=st.lists(times, max_size=5), idle=st.floats(-10, 1e6))
def test_the_parts_of_all_spans_add_up_to_the_leased_time(told, cuts, idle):
    found = phases(told)
    assert found.begin <= found.trains <= found.loses <= found.end
    leased = max(0.0, told.end - told.opened_at)
    edges = [-1e7, *sorted(cuts), 1e7]
    parts = [split(found, since, until, idle, told.slowdown) for since, until in pairwise(edges)]
    for one in parts:
        assert min(vars(one).values()) >= 0
    assert sum(one.total_s for one in parts) == pytest.approx(leased, abs=1e-3)
    assert sum(one.times(0.25).total_s for one in parts) == pytest.approx(leased / 4, abs=1e-3)


def told(**values) -> Told:
    """An attempt of 1,000 s that began to train at 100, and came to step 90."""
    return Told(
        **{"opened_at": 0, "end": 1000, "outcome": None, "trained_from": 100.0, "steps": 90, **values}
    )


@pytest.mark.parametrize(
    ("values", "phases_"),
    [
        ({}, (0, 100, 1000, 1000)),
        ({"outcome": Outcome.SUCCEEDED}, (0, 100, 1000, 1000)),
        ({"outcome": Outcome.CANCELLED}, (0, 100, 1000, 1000)),
        ({"outcome": Outcome.PREEMPTED, "kept_step": 90}, (0, 100, 1000, 1000)),
        ({"outcome": Outcome.LOST, "kept_step": 60}, (0, 100, 700, 1000)),
        ({"outcome": Outcome.LOST, "kept_step": 60, "resumed_step": 30}, (0, 100, 550, 1000)),
        ({"outcome": Outcome.OOM}, (0, 0, 0, 1000)),
        ({"outcome": Outcome.LOST, "kept_step": 30, "resumed_step": 30}, (0, 0, 0, 1000)),
        ({"trained_from": None}, (0, STARTUP_S, 1000, 1000)),
        ({"trained_from": None, "end": 50}, (0, 50, 50, 50)),
        ({"trained_from": -5.0}, (0, 0, 1000, 1000)),
    ],
)
def test_what_is_lost_is_what_came_after_the_last_checkpoint_of_its_own(values, phases_):
    assert phases(told(**values)) == Phases(*map(float, phases_))


def test_checkpointing_costs_its_share_of_the_time_that_was_not_idle():
    found = Phases(0, 100, 1000, 1000)
    assert split(found, 0, 1000, 300, 0.25) == Parts(100, 480, 120, 0, 300)
    assert split(found, 0, 1000, 5000, 0.25) == Parts(100, 0, 0, 0, 900)
    assert split(found, 50, 200, 0, 0.0) == Parts(50, 100, 0, 0, 0)
