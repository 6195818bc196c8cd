"""Lists of jobs, filtered and sorted in the database; and groups by name."""

from __future__ import annotations

import fnmatch
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.errors import NotFound, UsageError
from jobs.state import JobState
from orchestrator.store import Store
from orchestrator.store.jobs.listing import SORTS, Wanted
from tests.builders import NOW, a_job, a_line, a_report, a_spec, joined, news, opened

ALPHABET = "abAB1.*?[]!\\é_%"


def names(store: Store, **wanted: object) -> list[str]:
    """Names of the jobs that a list has, in its order."""
    return [view.job.name for view in store.listing(Wanted(**wanted)).views]  # type: ignore[arg-type]


def test_filters_narrow_together(store: Store) -> None:
    store.submit([a_job("old", user="eve")], NOW - 100)
    store.submit([a_job("lr-1", user="ada"), a_job("lr-2", user="eve", project="ours"), a_job("other")], NOW)
    store.request_cancel(3, NOW)
    assert names(store) == ["other", "lr-2", "lr-1", "old"]
    assert names(store, user="eve") == ["lr-2", "old"]
    assert names(store, user="eve", since=NOW) == ["lr-2"]
    assert names(store, name="lr-?", sort="id") == ["lr-1", "lr-2"]
    assert names(store, name="lr-*", states=frozenset({JobState.QUEUED})) == ["lr-1"]
    assert names(store, user="eve", project="ours", since=NOW + 1) == []
    page = store.listing(Wanted(name="*r*"), limit=2)
    assert (len(page.views), page.more, page.total) == (2, True, 3)
    page = store.listing(Wanted(name="*r*"), limit=2, before=page.views[-1].job.id)
    assert ([view.job.name for view in page.views], page.more, page.total) == (["lr-1"], False, 3)


def test_every_column_sorts_both_ways_with_what_is_missing_last(store: Store) -> None:
    host_id, gpu_ids = joined(store, gpus=3)
    specs = [a_spec(resources={"gpus": count}) for count in (4, 1, 2)] + [a_spec()]
    jobs = store.submit(
        [
            a_job(name, spec=spec, priority=priority)
            for name, spec, priority in zip(("b", "a", "C", "d"), specs, (50, 10, 90, 0), strict=True)
        ],
        NOW,
    )
    tries = [opened(store, job, host_id, [gpu]) for job, gpu in zip(jobs, gpu_ids, strict=False)]
    losses = ((9.0, 1.5), (1.0, 2.5), (0.1, math.nan))
    lines = [
        news(attempt, progress=[a_line(1, loss=first), a_line(2, loss=last)])
        for attempt, (first, last) in zip(tries, losses, strict=True)
    ]
    store.record_report(host_id, a_report(*lines, gpus=3), NOW)
    assert names(store, sort="loss") == ["b", "a", "d", "C"]
    assert names(store, sort="-loss") == ["a", "b", "d", "C"], "no loss, or one that is no number, is last"
    assert names(store, sort="name") == ["C", "a", "b", "d"]
    assert names(store, sort="-priority") == ["C", "b", "a", "d"]
    assert names(store, sort="-gpus") == ["b", "C", "d", "a"]
    assert names(store, sort="state") == ["d", "C", "a", "b"]
    for sort in SORTS:
        for order in (sort, f"-{sort}"):
            assert sorted(names(store, sort=order)) == ["C", "a", "b", "d"]
    paged = [store.listing(Wanted(sort="loss"), limit=1, offset=at).views[0].job.name for at in range(4)]
    assert paged == ["b", "a", "d", "C"]
    with pytest.raises(UsageError, match="no column to sort by; use id, name"):
        Wanted(sort="--name")


STOCK = [
    "a",
    "ab",
    "AB",
    "a-1",
    "b-1",
    "1",
    ".",
    "[",
    "]",
    "^a",
    "!a",
    "\\",
    "é",
    "_",
    "%",
    "a*b",
    "[a]",
    "-",
]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pattern=st.text(ALPHABET, max_size=8))
def test_a_pattern_means_the_same_on_both_databases(store: Store, pattern: str) -> None:
    if not store.count_jobs():
        store.submit([a_job(name) for name in STOCK], NOW)
    assert set(names(store, name=pattern)) == set(fnmatch.filter(STOCK, pattern))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("[a-b]*", "a ab a-1 b-1 a*b"),
        ("[^a-b]", "1 . [ ] \\ é _ % -"),
        ("[!^]a", "!a"),
        ("[1-.]", "1"),  # a range the wrong way round is its first character
        ("[a-]*", "a ab a-1 a*b -"),
        ("[a-b-1]-1", "a-1 b-1"),
        ("[[]a[]]", "[a]"),
        ("[]a]", "a ]"),
        ("[a", ""),
        ("", ""),
    ],
)
def test_ranges_of_a_pattern(store: Store, pattern: str, found: str) -> None:
    store.submit([a_job(name) for name in STOCK], NOW)
    assert names(store, name=pattern, sort="id") == found.split()


def test_a_group_is_found_by_id_and_by_name(store: Store) -> None:
    store.submit([a_job("alone")], NOW)
    sweep = store.submit([a_job(f"lr-{n}", group=0) for n in (1, 2, 3)], NOW)
    own_names = store.submit([a_job("rank-1", group=0), a_job("other", group=0)], NOW)
    assert store.find_group("lr") == store.find_group(str(sweep[0].id)) == sweep[0].id
    assert store.find_group(str(own_names[0].id)) == own_names[0].id
    for text in ("1", "alone", "lr-1", "rank", "999", "9" * 40, ""):
        with pytest.raises(NotFound, match="no group"):
            store.find_group(text)


def test_a_name_of_more_than_one_thing_is_refused_with_the_ids(store: Store) -> None:
    first, second = (store.submit([a_job(f"lr-{n}", group=0) for n in (1, 2)], NOW)[0].id for _ in range(2))
    with pytest.raises(UsageError, match=rf"'lr' is the name of 2 groups: {first}, {second}; give the id"):
        store.find_group("lr")
    with pytest.raises(NotFound, match=rf"is a group of jobs \({first}, {second}\).*tuneyard list lr"):
        store.find_job("lr")
    job = store.submit([a_job("lr")], NOW)[0]
    with pytest.raises(
        UsageError, match=rf"name of job {job.id} and of group {first}, {second}; give the id"
    ):
        store.find_job("lr")
    assert store.find_job("lr-1").id == second, "of several jobs the newest"
