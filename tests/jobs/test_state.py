"""The table of moves."""

from __future__ import annotations

import pytest

from jobs.errors import Conflict
from jobs.state import TERMINAL, TRANSITIONS, Event, JobState, after


def test_nothing_leaves_a_terminal_state():
    for state in TERMINAL:
        for event in Event:
            with pytest.raises(Conflict, match=f"a {state} job can't be {event}"):
                after(state, event)


def test_every_state_can_be_reached_from_queued():
    reached, frontier = {JobState.QUEUED}, [JobState.QUEUED]
    while frontier:
        state = frontier.pop()
        for (start, _), end in TRANSITIONS.items():
            if start is state and end not in reached:
                reached.add(end)
                frontier.append(end)
    assert reached == set(JobState)
