"""jobs/jobfile/changes.py: what differs between two job files, key by key, in words that tell the two apart."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.jobfile.changes import differences

keys = st.text("abc", min_size=1, max_size=2)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(0, 2)
    | st.sampled_from(["x", "y"])
    | st.lists(st.integers(0, 1), max_size=2)
)
files = st.dictionaries(
    keys,
    st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=2), max_leaves=4),
    max_size=3,
)


def said(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [str(one) for one in differences(before, after)]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"a": 1}, {"a": 2}, ["a 1 -> 2"]),
        ({"a": 1}, {"a": None}, ["a 1 -> (not set)"]),
        ({"a": None}, {"a": {"b": 1}}, ["a.b (not set) -> 1"]),
        ({"a": {"b": 1, "c": {"d": "x"}}}, {"a": None}, ["a.b 1 -> (removed)", "a.c.d x -> (removed)"]),
        ({"a": {"b": 1}}, {"a": {}}, ["a.b 1 -> (removed)"]),
        ({"a": {}}, {"a": {"b": None}}, ["a.b (not set) -> (not set)"]),
        ({"a": "x"}, {"a": {"b": 1}}, ["a x -> (removed)", "a.b (not set) -> 1"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, ["a.c 2 -> 3"]),
        ({"a": [1, 2]}, {"a": [2]}, ["a [1, 2] -> [2]"]),
        ({"a": 1}, {"a": True}, ["a 1 -> true"]),
        ({"a": None}, {"a": {}}, ["a (not set) -> {}"]),
    ],
    ids=str,
)
def test_key_by_key(before: dict[str, Any], after: dict[str, Any], told: list[str]) -> None:
    assert said(before, after) == told


@given(files, files)
def test_each_difference_is_told_and_nothing_else(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert differences(before, before) == []
    found = differences(before, after)
    assert bool(found) == (repr(before) != repr(after)) or _same(before, after)
    assert len({one.path for one in found}) == len(found)


def _same(one: Any, other: Any) -> bool:
    """Equal whatever the order of their keys, with true and 1 apart."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return repr(one) == repr(other)


@pytest.mark.parametrize("place", [0, 10, 55, 70, 500])
def test_long_values_are_cut_where_they_differ(place: int) -> None:
    old, new = "x" * 600, "x" * place + "y" + "x" * (599 - place)
    (told,) = differences({"path": old}, {"path": new})
    was, _, now = told.sides.partition(" -> ")
    assert was != now and "y" in now and max(len(was), len(now)) <= 60


def test_a_value_that_another_begins_with_is_told_apart() -> None:
    (told,) = differences({"path": "x" * 100}, {"path": "x" * 101})
    was, _, now = told.sides.partition(" -> ")
    assert was != now
