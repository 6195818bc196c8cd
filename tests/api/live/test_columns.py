"""What changed between two states of the fleet: a client that applies it has the second."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.live.columns import apply, changes

VALUES = st.none() | st.integers(0, 3) | st.text(max_size=1)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[Any]]:
    ids = draw(st.lists(st.integers(0, 5), unique=True, max_size=5))
    column = st.lists(VALUES, min_size=len(ids), max_size=len(ids))
    return {"id": ids, "a": draw(column), "b": draw(column)}


STATES = st.fixed_dictionaries({"at": st.integers(0, 9), "cards": tables(), "jobs": tables(), "told": VALUES})


@given(STATES, STATES)
def test_applied_to_the_first_state_they_give_the_second(before, after):
    assert apply(before, changes(before, after)) == after


@given(STATES)
def test_nothing_changed_is_nothing(state):
    assert changes(state, {**state, "cards": {**state["cards"]}}) == {}


def test_few_values_are_told_with_their_places_and_many_as_the_column():
    before = {"cards": {"id": [1, 2, 3], "used": [5, 5, 5], "name": ["a", "b", "c"]}}
    few = {"cards": {**before["cards"], "used": [5, 6, 5]}}
    many = {"cards": {**before["cards"], "used": [6, 6, 5]}}
    assert changes(before, few) == {"cards": {"set": {"used": {"at": [1], "to": [6]}}}}
    assert changes(before, many) == {"cards": {"set": {"used": {"all": [6, 6, 5]}}}}


def test_other_rows_are_told_whole():
    before, after = {"cards": {"id": [1, 2], "a": [0, 0]}}, {"cards": {"id": [2], "a": [0]}}
    assert changes(before, after) == {"cards": {"all": after["cards"]}}
