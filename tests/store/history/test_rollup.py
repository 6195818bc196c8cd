"""Samples become minutes and quarters: each sample counted once, whatever crashed or came late."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.units import GiB
from orchestrator.store import Store
from orchestrator.store.history import rollup
from orchestrator.store.history.fields import CARD, FLEET, FLEET_ID, HOST, MINUTE_S, QUARTER_S, VALUES, Bucket
from orchestrator.store.history.late import GRACE_S
from tests.builders import a_host, a_report, a_sample

T0 = 1_800_000.0  # a quarter of an hour begins
DAY = 86_400.0


def a_host_of(store: Store, name: str = "alpha") -> int:
    """A host with one card joins; its id."""
    return store.join_host(a_host(name), T0)


def tell(store: Store, host: int, name: str, *times: float, now: float | None = None, **values) -> None:
    """Readings of a host's first card at these seconds after T0."""
    told = [a_sample(f"GPU-{name}-0", T0 + at, **values) for at in times]
    store.record_report(host, a_report(host=name, samples=told), T0 + max(times) if now is None else now)


def take_up(store: Store, now: float) -> None:
    while store.roll_up(now, 0.0):
        pass


def kept(store: Store, scope: int, subject: int, width: int = MINUTE_S) -> list[Bucket]:
    with store.read() as connection:
        return rollup.read_buckets(connection, scope, [subject], width, 0, 1e12)


def value(bucket: Bucket, name: str) -> int | None:
    return bucket.values[VALUES.index(name)]


def test_a_minute_holds_mean_least_and_most_of_its_samples(store: Store) -> None:
    host = a_host_of(store)
    for at, used, load in ((0, 1 * GiB, 0.2), (20, 2 * GiB, 0.4), (59.9, 6 * GiB, 0.9)):
        tell(store, host, "alpha", at, memory_used_bytes=used, utilization=load, fault="hot" if at else None)
    tell(store, host, "alpha", 60, memory_used_bytes=9 * GiB)
    take_up(store, T0 + 60 + GRACE_S - 1)
    assert kept(store, CARD, 1) == [], "its minute is not over"
    take_up(store, T0 + 60 + GRACE_S)
    (one,) = kept(store, CARD, 1)
    assert (one.ts, one.n, one.cards, one.faults, one.until_ms) == (T0, 3, 1, 2, 59_900)
    memory = [value(one, f"memory_used_bytes_{stat}") for stat in ("mean", "min", "max")]
    assert memory == [3 * GiB, 1 * GiB, 6 * GiB]
    assert [value(one, f"utilization_{stat}") for stat in ("mean", "min", "max")] == [5000, 2000, 9000]
    assert value(one, "power_w_mean") is None, "nothing was told of it"
    assert [b.n for b in kept(store, HOST, host)] == [b.n for b in kept(store, FLEET, FLEET_ID)] == [3]


def test_hosts_and_the_fleet_are_the_cards_together(store: Store) -> None:
    hosts = [a_host_of(store, name) for name in ("alpha", "beta")]
    for host, name, load, times in ((hosts[0], "alpha", 0.2, (0, 1, 2)), (hosts[1], "beta", 0.8, (5,))):
        tell(store, host, name, *times, utilization=load, energy_j=5.0)
    take_up(store, T0 + QUARTER_S + GRACE_S)
    for width in (MINUTE_S, QUARTER_S):
        (fleet,) = kept(store, FLEET, FLEET_ID, width)
        assert (fleet.n, fleet.cards, value(fleet, "utilization_mean")) == (4, 2, 3500)
        (beta,) = kept(store, HOST, hosts[1], width)
        assert (beta.n, beta.cards, value(beta, "utilization_mean")) == (1, 1, 8000)


def test_energy_is_what_the_counter_grew_by_also_over_gaps_and_restarts(store: Store) -> None:
    host = a_host_of(store)
    counters = ((0, 100), (30, 160), (61, 200), (70, 5), (600, 50))  # at 70 the driver began anew
    for at, energy in counters:
        tell(store, host, "alpha", at, energy_j=float(energy))
    tell(store, host, "alpha", 90, energy_j=None)
    take_up(store, T0 + QUARTER_S + GRACE_S)
    found = {int(one.ts - T0): one.energy_j for one in kept(store, CARD, 1)}
    assert found == {0: 60, 60: 45, 600: 45}
    assert [one.energy_j for one in kept(store, CARD, 1, QUARTER_S)] == [150]


def test_what_comes_late_is_counted_once(store: Store) -> None:
    host = a_host_of(store)
    tell(store, host, "alpha", 0, 1, 2)
    take_up(store, T0 + 2 * QUARTER_S)
    late = T0 + 2 * QUARTER_S
    for _ in range(2):  # the host sends it again, for it got no answer
        tell(store, host, "alpha", 2, 3, 4, now=late)
        take_up(store, late)
    for scope, subject in ((CARD, 1), (HOST, host), (FLEET, FLEET_ID)):
        for width in (MINUTE_S, QUARTER_S):
            assert [one.n for one in kept(store, scope, subject, width)] == [5]


def test_samples_go_once_their_minutes_hold_them_and_what_comes_then_is_added(store: Store) -> None:
    host = a_host_of(store)
    tell(store, host, "alpha", 0, 1, 2, utilization=0.5)
    tell(store, host, "alpha", 2 * QUARTER_S)
    assert store.prune_samples(T0 + DAY) == 0, "nothing of it was taken up"
    take_up(store, T0 + QUARTER_S + GRACE_S)
    assert store.prune_samples(T0 + DAY) == 3
    assert [row.ts - T0 for row in store.samples(1, 0, T0 + DAY)] == [2 * QUARTER_S]
    for _ in range(2):
        tell(store, host, "alpha", 1, 3, utilization=0.9, now=T0 + DAY)  # 1 was counted
        take_up(store, T0 + QUARTER_S + GRACE_S)
        (minute,) = kept(store, CARD, 1)
        assert (minute.n, value(minute, "utilization_mean")) == (4, 6000)
        assert [one.n for one in kept(store, FLEET, FLEET_ID, QUARTER_S)] == [4]
    assert [row.ts - T0 for row in store.samples(1, 0, T0 + DAY)] == [2 * QUARTER_S]


def test_samples_that_no_minute_holds_are_taken_up_before_they_go(store: Store) -> None:
    host = a_host_of(store)
    tell(store, host, "alpha", 0, 1)
    take_up(store, T0 + QUARTER_S + GRACE_S)
    tell(
        store, host, "alpha", 5, now=T0 + 5
    )  # as if another server had stored it meanwhile: it is not marked
    assert store.prune_samples(T0 + DAY) == 3
    assert [one.n for one in kept(store, CARD, 1)] == [3]


def test_minutes_go_after_their_time_and_quarters_stay(store: Store) -> None:
    host = a_host_of(store)
    tell(store, host, "alpha", 0, QUARTER_S)
    take_up(store, T0 + 3 * QUARTER_S)
    store.prune_minutes(T0 + QUARTER_S + 7, 0.0)
    assert [one.ts - T0 for one in kept(store, CARD, 1)] == [QUARTER_S]
    assert [one.ts - T0 for one in kept(store, CARD, 1, QUARTER_S)] == [0, QUARTER_S]
    store.prune_minutes(T0 + QUARTER_S, T0 + QUARTER_S)
    assert [one.ts - T0 for one in kept(store, HOST, host, QUARTER_S)] == [QUARTER_S]


def test_a_long_absence_is_passed_over(store: Store) -> None:
    host = a_host_of(store)
    tell(store, host, "alpha", 0)
    take_up(store, T0 + 60 + GRACE_S)
    tell(store, host, "alpha", 400 * DAY)
    rounds = 0
    while store.roll_up(T0 + 400 * DAY + 100, 0.0):
        rounds += 1
    assert rounds < 20
    assert [one.ts - T0 for one in kept(store, CARD, 1)] == [0, 400 * DAY]


def test_the_last_quarter_is_made_though_no_more_samples_come(store: Store) -> None:
    host = a_host_of(store)
    tell(store, host, "alpha", 20)
    take_up(store, T0 + 720)
    take_up(store, T0 + 3 * QUARTER_S)
    assert [(one.ts - T0, one.n) for one in kept(store, CARD, 1, QUARTER_S)] == [(0, 1)]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_each_sample_is_counted_once_whatever_happens(open_store, data) -> None:
    """Samples in any order, servers that die between any two steps, samples that go."""
    store = open_store()
    with store.write() as connection:
        for table in (rollup.history, rollup.history_late, rollup.history_state, rollup.samples):
            connection.execute(table.delete())
    host = a_host_of(store)
    times = data.draw(st.lists(st.integers(0, 3 * QUARTER_S), min_size=1, max_size=60, unique=True))
    random.Random(data.draw(st.integers(0, 99))).shuffle(times)
    now = T0
    for at in times:
        now = max(now, T0 + at + data.draw(st.sampled_from((0, 0, 5, 700))))
        tell(store, host, "alpha", at, now=now)
        action = data.draw(st.sampled_from(("nothing", "roll", "all", "restart")))
        if action == "roll":
            store.roll_up(now, 0.0)
        elif action == "all":
            take_up(store, now)
        elif action == "restart":
            store._done = (0, 0)
    take_up(store, now + QUARTER_S + GRACE_S)
    store.prune_samples(now + DAY)
    for scope, subject in ((CARD, 1), (HOST, host), (FLEET, FLEET_ID)):
        assert sum(one.n for one in kept(store, scope, subject)) == len(times)
        assert sum(one.n for one in kept(store, scope, subject, QUARTER_S)) == len(times)


@pytest.mark.parametrize("column", ["energy_j", "utilization"])
def test_what_can_not_be_read_stops_nothing(open_store, url, column) -> None:
    if not url.startswith("sqlite"):
        pytest.skip("PostgreSQL keeps no text in a column of numbers")
    store = open_store()
    host = a_host_of(store)
    tell(store, host, "alpha", 0, 1, utilization=0.5, energy_j=7.0)
    with store.write() as connection:
        connection.exec_driver_sql(f"UPDATE samples SET {column} = 'garbage'")
    take_up(store, T0 + QUARTER_S + GRACE_S)
    (one,) = kept(store, CARD, 1)
    assert one.n == 2
    assert column == "energy_j" or value(one, "utilization_mean") is None
