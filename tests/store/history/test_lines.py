"""Lines: the same whatever they are drawn from, aligned with one axis."""

from __future__ import annotations

import dataclasses

import pytest

from jobs.state import Event
from orchestrator.store import Store
from orchestrator.store.history import lines
from orchestrator.store.history.fields import QUARTER_S
from orchestrator.store.history.lines import MINUTE, QUARTER, SAMPLE, Asked
from tests.builders import a_host, a_report, a_sample, an_end, because, end_attempt, training
from tests.store.history.test_rollup import DAY, T0, a_host_of, take_up, tell

FIELDS = ("utilization", "power_w")


def asked(since: float, until: float, points: int = 300, **values) -> Asked:
    return Asked(T0 + since, T0 + until, **{"fields": FIELDS, "points": points, **values})


def test_a_short_range_is_drawn_from_samples_by_the_second(store: Store) -> None:
    host = a_host_of(store)
    tell(store, host, "alpha", 0, 1, 3, utilization=0.25, power_w=300.0, energy_j=1.0)
    found = store.card_lines([1], asked(0, 5))
    assert (found.source, found.step_s, found.ts) == (SAMPLE, 1, [T0, T0 + 1, T0 + 2, T0 + 3, T0 + 4])
    (line,) = found.lines
    assert line.values["utilization"]["mean"] == [0.25, 0.25, None, 0.25, None]
    assert (line.n, line.cards) == ([1, 1, 0, 1, 0], [1, 1, 0, 1, 0])
    assert line.energy_j == [None, 0, None, 0, None]


@pytest.mark.parametrize(("points", "source", "step"), [(300, MINUTE, 60), (5, QUARTER, 900)])
def test_a_long_one_from_minutes_or_quarters_and_its_end_from_samples(
    store: Store, monkeypatch: pytest.MonkeyPatch, points: int, source: str, step: int
) -> None:
    monkeypatch.setattr(lines, "MOST_SAMPLES", 0)
    host = a_host_of(store)
    for at in range(0, 4000, 10):
        tell(store, host, "alpha", at, utilization=at / 10_000, power_w=100.0, energy_j=float(at))
    take_up(store, T0 + 3990)
    found = store.card_lines([1], asked(0, 4000, points))
    assert (found.source, found.step_s) == (source, step)
    (line,) = found.lines
    assert sum(line.n) == 400, "no sample is missing at the end, and none counted twice"
    expected = [
        [at / 10_000 for at in range(0, 4000, 10) if begin <= T0 + at < begin + step] for begin in found.ts
    ]
    for stat, of in (("mean", lambda some: sum(some) / len(some)), ("min", min), ("max", max)):
        assert line.values["utilization"][stat] == pytest.approx([of(some) for some in expected], abs=1e-4)
    assert sum(one or 0 for one in line.energy_j) == 3990


def test_steps_wider_than_what_is_kept_are_means_by_the_number_of_samples(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MOST_SAMPLES", 0)
    host = a_host_of(store)
    tell(store, host, "alpha", 0, 1, 2, utilization=0.2)
    tell(store, host, "alpha", 70, utilization=0.6)
    take_up(store, T0 + 3 * QUARTER_S)
    found = store.fleet_line([1], asked(0, 600, 2))
    assert found.step_s == 300
    (line,) = found.lines
    assert line.values["utilization"] == {"mean": [0.3, None], "min": [0.2, None], "max": [0.6, None]}
    assert line.n == [4, 0]


def test_hosts_have_a_line_each_and_a_card_that_told_nothing_an_empty_one(store: Store) -> None:
    first, second = store.join_host(a_host("alpha", 2), T0), store.join_host(a_host("beta"), T0)
    for card, load in ((0, 0.2), (1, 0.8)):
        told = [a_sample(f"GPU-alpha-{card}", T0, utilization=load)]
        store.record_report(first, a_report(host="alpha", gpus=2, samples=told), T0)
    found = store.host_lines({first: [1, 2], second: [3]}, asked(0, 2))
    alpha, beta = found.lines
    assert (alpha.cards, alpha.values["utilization"]["mean"]) == ([2, 0], [0.5, None])
    assert (beta.n, beta.values["utilization"]["max"]) == ([0, 0], [None, None])


def test_a_jobs_line_is_of_its_cards_while_it_held_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = training(store)
    begin = attempt.opened_at
    card = attempt.gpus[0]
    for at in (-5.0, 1.0, 2.0, 90.0):
        told = [a_sample(card.uuid, begin + at, utilization=0.5)]
        store.record_report(attempt.host_id, a_report(samples=told), begin + at)
    end_attempt(store, attempt.id, 1, an_end(), Event.SUCCEEDED, because(), begin + 60)
    window = Asked(begin - 10, begin + 100, FIELDS)
    (line,) = store.job_lines([attempt.job_id], window, begin + 200).lines
    assert sum(line.n) == 2
    monkeypatch.setattr(lines, "MOST_SAMPLES", 0)
    take_up(store, begin + QUARTER_S)
    found = store.job_lines([attempt.job_id], window, begin + 200)
    assert found.source == MINUTE and sum(found.lines[0].n) >= 2


def test_what_is_older_than_what_is_kept_comes_from_the_coarser(store: Store) -> None:
    host = a_host_of(store)
    tell(store, host, "alpha", 0, 1, utilization=0.5)
    take_up(store, T0 + 2 * QUARTER_S)
    every = asked(0, QUARTER_S)
    assert store.card_lines([1], every).source == SAMPLE
    store.prune_samples(T0 + DAY)
    assert store.card_lines([1], every).source == MINUTE
    store.prune_minutes(T0 + DAY, 0)
    found = store.card_lines([1], dataclasses.replace(every, stats=("mean",)))
    assert (found.source, found.lines[0].n[0]) == (QUARTER, 2)
    assert found.lines[0].values["utilization"] == {"mean": [0.5]}
