"""Lengths of data: wanted of a host, counted there, kept."""

from __future__ import annotations

from jobs.memory.sequence_lengths import Lengths
from jobs.messages.reports import TraceResult
from orchestrator.store import Store
from tests.builders import NOW, a_report, a_spec, joined

COUNTED = Lengths.counted({20: 3, 300: 1}, rows=4).as_dict()
RETRY_S = 3600.0


def want(store: Store, host_id: int, now: float = NOW, key: str = "sha") -> None:
    store.want_lengths(key, a_spec(), host_id, now, RETRY_S)


def answered(store: Store, host_id: int, now: float = NOW, **result: object) -> None:
    told = TraceResult.model_validate({"data_key": "sha", **result})
    store.record_report(host_id, a_report(traces=[told]), now)


def test_a_host_counts_and_its_answer_is_kept(store: Store) -> None:
    alpha, _ = joined(store, "alpha")
    beta, _ = joined(store, "beta")
    want(store, alpha)
    want(store, beta, NOW + 1)  # it is asked already
    (row,) = store.pending_lengths([alpha])
    assert (row.key, row.spec, row.pending) == ("sha", a_spec(), True)
    assert store.pending_lengths([beta]) == []
    answered(store, alpha, NOW + 9, lengths=COUNTED)
    row = store.lengths({"sha", "other"})["sha"]
    assert (row.lengths, row.error, row.host_id, row.ended_at) == (COUNTED, None, alpha, NOW + 9)
    assert not row.pending and store.pending_lengths([alpha]) == []
    assert row.lengths is not None and Lengths.from_dict(row.lengths).longest == 300


def test_the_first_answer_stands(store: Store) -> None:
    alpha, _ = joined(store)
    answered(store, alpha, lengths=COUNTED)  # never asked for
    assert store.lengths({"sha"}) == {}
    want(store, alpha)
    answered(store, alpha, lengths=COUNTED)
    answered(store, alpha, NOW + 5, data_error="too late")
    want(store, alpha, NOW + 2 * RETRY_S)
    row = store.lengths({"sha"})["sha"]
    assert (row.lengths, row.error, row.ended_at) == (COUNTED, None, NOW)


def test_an_error_is_asked_again_after_a_while(store: Store) -> None:
    alpha, _ = joined(store, "alpha")
    beta, _ = joined(store, "beta")
    want(store, alpha)
    answered(store, alpha, NOW + 10, data_error="the hub is not to be reached")
    want(store, beta, NOW + 9 + RETRY_S)
    assert store.lengths({"sha"})["sha"].error == "the hub is not to be reached"
    want(store, beta, NOW + 10 + RETRY_S)
    (row,) = store.pending_lengths([beta])
    assert (row.error, row.ended_at, row.requested_at) == (None, None, NOW + 10 + RETRY_S)


def test_an_answer_with_nothing_in_it_is_an_error(store: Store) -> None:
    alpha, _ = joined(store)
    want(store, alpha)
    answered(store, alpha)
    assert store.lengths({"sha"})["sha"].error == "the host gave neither lengths nor a reason"


def test_what_a_host_that_went_away_was_to_count_is_free_again(store: Store) -> None:
    alpha, _ = joined(store, "alpha")
    beta, _ = joined(store, "beta")
    for key in ("sha", "other"):
        want(store, alpha, key=key)
    answered(store, alpha, lengths=COUNTED)
    assert store.counting_hosts() == {alpha}
    assert (store.release_lengths(alpha), store.release_lengths(alpha)) == (1, 0)
    assert store.counting_hosts() == set()
    want(store, beta, NOW + 1, key="other")
    assert [row.key for row in store.pending_lengths([beta])] == ["other"]
    assert store.lengths({"sha"})["sha"].host_id == alpha


def test_one_answer_holds_a_profile_and_lengths(store: Store) -> None:
    alpha, _ = joined(store)
    store.want_profile("trace", a_spec(), NOW)
    want(store, alpha)
    answered(store, alpha, key="trace", profile={"layers": 16}, data_error="no such file")
    assert store.profiles({"trace"})["trace"].profile == {"layers": 16}
    assert store.lengths({"sha"})["sha"].error == "no such file"


def test_a_nul_in_an_error_is_kept_out_of_the_database(store: Store) -> None:
    alpha, _ = joined(store)
    want(store, alpha)
    answered(store, alpha, data_error="bad\0row")
    assert store.lengths({"sha"})["sha"].error == "bad\x1arow"
