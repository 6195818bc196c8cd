"""What hosts report: every part of it stored once, however often it is sent."""

from __future__ import annotations

import math

from jobs.messages.reports import TraceResult
from jobs.state import Code, Event, Outcome
from orchestrator.store import Store
from tests.builders import (
    NOW,
    a_line,
    a_report,
    a_sample,
    a_spec,
    a_start,
    an_end,
    because,
    end_attempt,
    joined,
    news,
    opened,
    submitted,
    training,
)


def test_the_same_report_twice_changes_nothing(store: Store) -> None:
    attempt = training(store)
    store.want_profile("sha", a_spec(), NOW)
    report = a_report(
        news(attempt, started=a_start(NOW + 3), progress=[a_line(1)], log="loss 2.0\n", ended=an_end()),
        samples=[a_sample()],
        traces=[TraceResult(key="sha", profile={"layers": 16})],
    )
    seen = []
    for now in (NOW + 4, NOW + 4):
        store.record_report(attempt.host_id, report, now)
        seen.append(
            (
                store.attempt(attempt.id),
                store.job_view(attempt.job_id),
                store.events(attempt.job_id),
                store.logs(attempt.id),
                store.progress(attempt.id),
                store.samples(attempt.gpus[0].id, NOW, NOW + 1),
                store.profiles(["sha"]),
                store.fleet_rows(),
            )
        )
    assert seen[0] == seen[1]
    assert seen[0][3].text == "loss 2.0\n" and len(seen[0][4]) == len(seen[0][5]) == 1


def test_news_of_a_start_makes_the_job_train(store: Store) -> None:
    attempt = training(store)
    store.record_report(attempt.host_id, a_report(news(attempt, started=a_start(NOW + 3))), NOW + 4)
    row = store.attempt(attempt.id)
    assert row.started is not None and (row.started_at, row.started["pid"]) == (NOW + 3, 4242)
    assert store.job(attempt.job_id).reason.code == Code.TRAINING
    assert store.events(attempt.job_id)[-1].kind == "training"


def test_news_of_a_start_does_not_hide_that_the_job_is_stopping(store: Store) -> None:
    attempt = training(store)
    store.request_stop(attempt.id, "cancelled", NOW)
    store.record_report(attempt.host_id, a_report(news(attempt, started=a_start())), NOW)
    assert store.job(attempt.job_id).reason.code == Code.STOPPING


def test_a_reported_end_is_kept_for_the_controller_and_the_first_one_stands(store: Store) -> None:
    attempt = training(store)
    for outcome in (Outcome.OOM, Outcome.SUCCEEDED):
        store.record_report(attempt.host_id, a_report(news(attempt, ended=an_end(outcome))), NOW)
    row = store.attempt(attempt.id)
    assert row.outcome is None and row.reported is not None and row.reported["outcome"] == "oom"


def test_an_old_number_changes_nothing_but_the_log(store: Store) -> None:
    attempt = training(store)
    before = (store.job(attempt.job_id), store.attempt(attempt.id))
    old = news(attempt, number=7, log="late\n", started=a_start(), progress=[a_line(3)], ended=an_end())
    store.record_report(attempt.host_id, a_report(old), NOW)
    row = store.attempt(attempt.id)
    assert (row.log_bytes, store.logs(attempt.id).text) == (5, "late\n")
    assert (row.started_at, row.reported, store.progress(attempt.id)) == (None, None, [])
    assert store.job(attempt.job_id) == before[0]


def test_a_closed_attempt_still_gets_its_log_and_nothing_else(store: Store) -> None:
    attempt = training(store)
    end_attempt(store, attempt.id, 1, an_end(Outcome.LOST), Event.REQUEUED, because(Code.LOST), NOW)
    again = opened(store, store.job(attempt.job_id), attempt.host_id, [attempt.gpus[0].id])
    late = news(attempt, log="bye\n", progress=[a_line(9)], ended=an_end())
    store.record_report(attempt.host_id, a_report(late), NOW)
    assert store.logs(attempt.id).text == "bye\n" and store.progress(attempt.id) == []
    assert store.attempt(attempt.id).outcome == Outcome.LOST
    assert store.attempt(again.id) == again


def test_news_of_attempts_that_are_not_this_host_s_are_ignored(store: Store) -> None:
    attempt = training(store)
    beta, _ = joined(store, "beta")
    for stranger in (news(attempt, log="x", ended=an_end()), news(attempt, attempt_id=999, log="x")):
        store.record_report(beta, a_report(stranger, host="beta"), NOW)
    assert store.attempt(attempt.id) == attempt


def test_of_a_log_only_what_is_new_is_stored(store: Store) -> None:
    attempt = training(store)
    pieces = [(0, "één "), (0, "één twee "), (6, "twee drie"), (3, "n twee"), (99, "a gap")]
    for offset, text in pieces:
        store.record_report(attempt.host_id, a_report(news(attempt, log=text, log_offset=offset)), NOW)
    assert store.logs(attempt.id).text == "één twee drie"
    assert store.attempt(attempt.id).log_bytes == len("één twee drie".encode())


def test_a_piece_that_begins_inside_a_character_keeps_the_offsets_true(store: Store) -> None:
    attempt = training(store)
    for offset, text in ((0, "ab"), (1, "éc"), (4, "d")):  # the é overlaps the b with its first byte
        store.record_report(attempt.host_id, a_report(news(attempt, log=text, log_offset=offset)), NOW)
    assert store.logs(attempt.id).text == "ab?cd" and store.attempt(attempt.id).log_bytes == 5


def test_a_sample_belongs_to_the_attempt_that_held_the_card_at_its_time(store: Store) -> None:
    first = training(store)
    card = first.gpus[0].id
    end_attempt(store, first.id, 1, an_end(), Event.SUCCEEDED, because(), NOW + 10)
    second = opened(store, submitted(store), first.host_id, [card], NOW + 20)
    late = [a_sample(ts=NOW + ts) for ts in (-1, 5, 15, 25)] + [a_sample("GPU-of-nobody")]
    store.record_report(first.host_id, a_report(samples=late), NOW + 30)
    found = store.samples(card, NOW - 10, NOW + 99)
    assert [sample.attempt_id for sample in found] == [None, first.id, None, second.id]


def test_figures_that_are_no_numbers_are_none_on_both_databases(store: Store) -> None:
    attempt = training(store)
    bad = news(
        attempt,
        progress=[a_line(1, loss=math.nan), a_line(2, loss=math.inf)],
        ended=an_end(last_loss=math.nan, message="a\0b"),
    )
    store.record_report(attempt.host_id, a_report(bad, samples=[a_sample(power_w=math.nan)]), NOW)
    assert [line.loss for line in store.progress(attempt.id)] == [None, None]
    assert store.latest_samples()[attempt.gpus[0].id].power_w is None
    reported = store.attempt(attempt.id).reported
    assert reported is not None and reported["last_loss"] is None
    ended = an_end(Outcome.FAILED, message="a\0b")
    end_attempt(store, attempt.id, 1, ended, Event.FAILED, because(Code.FAILED, "a\0b"), NOW)
    assert store.attempt(attempt.id).message == store.job(attempt.job_id).reason.text == "a\x1ab"


def test_several_hosts_reports_are_one_commit(store: Store) -> None:
    alpha, _ = joined(store, "alpha")
    beta, _ = joined(store, "beta")
    both = [(beta, a_report(host="beta")), (77, a_report(host="x")), (alpha, a_report(host="alpha"))]
    assert store.record_reports(both, NOW + 5) == {77}
    assert {host.last_seen for host in store.hosts()} == {NOW + 5}
    assert all(gpu.present for gpu in store.gpus())
    assert store.record_reports([], NOW) == set()
