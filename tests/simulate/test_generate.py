"""Traces that are made up."""

from __future__ import annotations

import statistics

import pytest

from jobs.errors import UsageError
from orchestrator.simulate.generate import MEAN_S, MEDIAN_S, SIZES, Wish, as_csv, generate, parse_wish
from orchestrator.simulate.trace_csv import read_trace


def test_one_wish_one_trace():
    wish = Wish(jobs=300, seed=5)
    assert generate(wish, 64) == generate(wish, 64)
    assert generate(wish, 64) != generate(Wish(jobs=300, seed=6), 64)


@pytest.mark.parametrize("load", [0.5, 1.0, 3.0])
def test_the_load_is_what_was_asked_for(load: float):
    jobs = generate(Wish(jobs=3000, load=load), 128)
    work = sum(job.gpus * job.duration_s for job in jobs)
    assert work / 128 / jobs[-1].submit_s == pytest.approx(load, rel=0.02)


def test_durations_have_the_published_median_and_a_heavy_tail():
    seconds = [job.duration_s for job in generate(Wish(jobs=20_000), 1080)]
    assert statistics.median(seconds) == pytest.approx(MEDIAN_S, rel=0.1)
    assert statistics.fmean(seconds) == pytest.approx(MEAN_S, rel=0.25)  # the cap takes a part of the mean
    assert min(seconds) >= 1


def test_sizes_have_their_shares_and_fit_where_they_run():
    jobs = generate(Wish(jobs=20_000), 1080)
    for size, share in SIZES.items():
        assert sum(job.gpus == size for job in jobs) / len(jobs) == pytest.approx(share, abs=0.01)
    assert {job.gpus for job in generate(Wish(jobs=500), 4)} == {1, 2}
    assert {job.gpus for job in generate(Wish(jobs=20), 1)} == {1}


def test_users_live_in_one_pool_each_and_jobs_come_in_the_measure_of_its_gpus():
    room = {"a": 64, "b": 32, "c": 8}
    jobs = generate(Wish(jobs=6000, users=60), 104, room)
    homes: dict[str, set[str]] = {}
    for job in jobs:
        homes.setdefault(job.user, set()).add(job.pool)
        assert job.gpus <= room[job.pool] / 2 and job.project == job.pool
    assert all(len(pools) == 1 for pools in homes.values())
    for pool, gpus in room.items():
        assert sum(job.pool == pool for job in jobs) / len(jobs) == pytest.approx(gpus / 104, abs=0.1)


def test_more_come_by_day():
    jobs = generate(Wish(jobs=20_000, load=0.05, swing=0.8), 64)
    first = jobs[0].submit_s
    days = (jobs[-1].submit_s - first) / 86_400
    assert days > 5
    # The trace begins with its first job, a little after midnight: hours are off by less than one.
    noon = sum(11 <= (job.submit_s % 86_400) / 3600 < 19 for job in jobs)
    night = sum((job.submit_s % 86_400) / 3600 < 7 for job in jobs)
    assert noon > 2 * night


def test_submissions_are_in_order_and_begin_at_nought():
    times = [job.submit_s for job in generate(Wish(jobs=500), 64)]
    assert times == sorted(times) and times[0] == 0.0


def test_what_is_written_is_read_back():
    jobs = generate(Wish(jobs=200, users=5), 24, {"a": 16, "b": 8})
    assert list(read_trace(as_csv(jobs).splitlines(), "t.csv").jobs) == jobs


def test_a_wish_in_words():
    assert parse_wish("jobs=50, load=1.5,seed=3") == Wish(jobs=50, load=1.5, seed=3)
    assert parse_wish("") == Wish()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("job=5", "there is no 'job'; did you mean jobs?"),
        ("jobs=many", "write a whole number, such as jobs=2000"),
        ("jobs=2.5", "write a whole number"),
        ("load", "write a number, such as load=0.9"),
        ("load=nan", "load=nan: write 0.01 to 100"),
        ("jobs=0", "jobs=0: write 1 to 200,000"),
        ("swing=2", "swing=2: write 0 to 1"),
        ("mean_s=100", "their mean is above median_s=206"),
    ],
)
def test_a_wish_that_is_none(text: str, said: str):
    with pytest.raises(UsageError) as caught:
        parse_wish(text)
    assert said in str(caught.value)
