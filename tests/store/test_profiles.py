"""Memory profiles: wanted, traced on a host, kept."""

from __future__ import annotations

from jobs.messages.reports import TraceResult
from orchestrator.store import Store
from orchestrator.store.rows import ProfileRow
from tests.builders import NOW, a_report, a_spec, joined, profile_error


def without_host(store: Store) -> list[ProfileRow]:
    return [row for row in store.pending_profiles() if row.host_id is None]


def test_a_wanted_profile_goes_to_one_host_and_its_answer_is_kept(store: Store) -> None:
    alpha, _ = joined(store, "alpha")
    beta, _ = joined(store, "beta")
    wanted = store.want_profile("sha", a_spec(), NOW)
    assert wanted.pending and wanted.spec == a_spec() and without_host(store) == [wanted]
    assert store.assign_profile("sha", alpha, NOW + 1) and not store.assign_profile("sha", beta, NOW + 1)
    assert without_host(store) == store.pending_profiles([beta]) == []
    assert [row.key for row in store.pending_profiles([alpha])] == ["sha"]
    store.record_report(alpha, a_report(traces=[TraceResult(key="sha", profile={"layers": 16})]), NOW + 9)
    row = store.profiles({"sha", "other"})["sha"]
    assert (row.profile, row.error, row.host_id, row.ended_at) == ({"layers": 16}, None, alpha, NOW + 9)
    assert not row.pending and store.pending_profiles() == []


def test_asking_again_changes_nothing(store: Store) -> None:
    first = store.want_profile("sha", a_spec(), NOW)
    assert store.want_profile("sha", a_spec(priority=1), NOW + 999) == first
    store.put_profile("sha", {"layers": 16}, NOW)
    assert store.want_profile("sha", a_spec(), NOW + 9999).profile == {"layers": 16}


def test_the_first_answer_stands(store: Store) -> None:
    assert not store.put_profile("sha", {"layers": 1}, NOW)  # never asked for
    store.want_profile("sha", a_spec(), NOW)
    assert store.put_profile("sha", {"layers": 16}, NOW)
    assert not profile_error(store, "sha", "no", False, NOW) and not store.put_profile("sha", {}, NOW)
    assert store.profiles(["sha"])["sha"].profile == {"layers": 16}


def test_a_host_s_error_is_asked_again_after_a_while(store: Store) -> None:
    alpha, _ = joined(store)
    store.want_profile("sha", a_spec(), NOW)
    store.assign_profile("sha", alpha, NOW)
    assert profile_error(store, "sha", "no space left", False, NOW + 10)
    assert store.want_profile("sha", a_spec(), NOW + 309).error == "no space left"
    again = store.want_profile("sha", a_spec(), NOW + 310)
    assert again.pending and again.host_id is None and again.requested_at == NOW + 310
    assert store.assign_profile("sha", alpha, NOW + 311)


def test_an_error_of_the_job_file_stands_for_a_while(store: Store) -> None:
    store.want_profile("sha", a_spec(), NOW)
    profile_error(store, "sha", "no config.json", True, NOW)
    row = store.want_profile("sha", a_spec(), NOW + 10)
    assert (row.error, row.bad_input, row.pending) == ("no config.json", True, False)
    row = store.want_profile("sha", a_spec(), NOW + 10_000)
    assert (row.error, row.bad_input, row.pending) == (None, False, True)


def test_an_answer_without_profile_or_error_is_an_error(store: Store) -> None:
    alpha, _ = joined(store)
    store.want_profile("sha", a_spec(), NOW)
    store.record_report(alpha, a_report(traces=[TraceResult(key="sha")]), NOW)
    assert store.profiles(["sha"])["sha"].error == "the host gave neither a profile nor a reason"


def test_what_a_host_that_went_away_was_to_trace_is_free_again(store: Store) -> None:
    alpha, _ = joined(store)
    for key in ("a", "b"):
        store.want_profile(key, a_spec(), NOW)
        store.assign_profile(key, alpha, NOW)
    store.put_profile("a", {"layers": 16}, NOW)
    assert store.tracing_hosts() == {alpha}
    assert store.release_profiles(alpha) == 1 and store.release_profiles(alpha) == 0
    assert store.tracing_hosts() == set()
    assert [row.key for row in without_host(store)] == ["b"]
    assert store.profiles(["a"])["a"].host_id == alpha
