"""Samples, logs and progress as they are read."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.store import Store
from orchestrator.store.hosts.telemetry import sample_tuple
from orchestrator.store.schema.tables import samples as table
from tests.builders import NOW, a_line, a_report, a_sample, joined, news, training


def test_a_sample_keeps_every_reading(store: Store) -> None:
    _, (card,) = joined(store)
    sample = a_sample(
        power_w=231.5,
        power_limit_w=300.0,
        temperature_c=61.0,
        sm_clock_mhz=1410.0,
        memory_clock_mhz=1593.0,
        energy_j=123456.75,
        throttle=2**40,
        ecc_corrected=1,
        ecc_uncorrected=0,
        process_memory={4242: 2**34},
        fault="a\0b",
    )
    store.record_samples([sample_tuple(card, None, sample)])
    row = store.latest_samples()[card]
    assert row.process_memory == {"4242": 2**34} and row.fault == "a\x1ab"
    for name in set(table.c.keys()) - {"gpu_id", "attempt_id", "process_memory", "fault"}:
        assert getattr(row, name) == getattr(sample, name), name


def test_samples_are_read_by_card_and_time(store: Store) -> None:
    _, (first, second) = joined(store, gpus=2)
    rows = [sample_tuple(card, None, a_sample(ts=NOW + ts)) for card in (first, second) for ts in range(10)]
    store.record_samples(rows[::-1])
    store.record_samples(rows)
    store.record_samples([])
    assert [row.ts - NOW for row in store.samples(first, NOW + 2, NOW + 5)] == [2, 3, 4]
    assert {card: row.ts - NOW for card, row in store.latest_samples().items()} == {first: 9, second: 9}


def test_a_sample_that_is_stored_stays_as_it_is(store: Store) -> None:
    _, (card,) = joined(store)
    for utilization in (0.25, 0.75):
        store.record_samples([sample_tuple(card, None, a_sample(utilization=utilization))])
    assert store.latest_samples()[card].utilization == 0.25


def test_pruning_deletes_whole_quarters_of_an_hour_that_are_older(store: Store) -> None:
    _, (first, second) = joined(store, gpus=2)
    begin = 1_000_800.0  # of a quarter
    times = [begin - 5, begin - 1, begin, begin + 9]
    store.record_samples([sample_tuple(first, None, a_sample(ts=ts)) for ts in times])
    store.record_samples([sample_tuple(second, None, a_sample(ts=begin + 9))])
    assert store.prune_samples(begin + 7) == 0, "history holds none of it yet"
    while store.roll_up(begin + 99):
        pass
    assert store.prune_samples(begin + 7) == 2
    assert store.prune_samples(begin + 7) == 0
    assert [row.ts for row in store.samples(first, 0, NOW * 2)] == [begin, begin + 9]
    assert len(store.samples(second, 0, NOW * 2)) == 1


def test_progress_is_by_step_and_the_first_line_of_a_step_stands(store: Store) -> None:
    attempt = training(store)
    for lines in ([a_line(2), a_line(1)], [a_line(2, loss=9.0), a_line(3, step_s=2.0)]):
        store.record_report(attempt.host_id, a_report(news(attempt, progress=lines)), NOW)
    found = store.progress(attempt.id)
    assert [(line.step, line.loss) for line in found] == [(1, 2.0), (2, 1.0), (3, 2.0 / 3)]
    assert store.latest_progress([attempt.id]) == {attempt.id: found[-1]}
    assert (found[-1].eta_s, found[0].eta_s) == (14.0, None)
    assert store.latest_progress([]) == store.latest_progress([999]) == {}


def test_a_log_is_read_from_any_byte(store: Store) -> None:
    attempt = training(store)
    assert (page := store.logs(attempt.id)).text == "" and page.next_offset == 0
    for offset, text in ((0, "één\n"), (6, "twee\n"), (11, "drie\n")):
        store.record_report(attempt.host_id, a_report(news(attempt, log=text, log_offset=offset)), NOW)
    assert store.logs(attempt.id).text == "één\ntwee\ndrie\n"
    page = store.logs(attempt.id, offset=7, limit=6)
    assert (page.offset, page.text, page.next_offset) == (7, "wee\ndr", 13)
    page = store.logs(attempt.id, offset=16)
    assert (page.offset, page.text, page.next_offset) == (16, "", 16)


@pytest.mark.parametrize("limit", [1, 3, 4, 100])
def test_reading_on_from_page_to_page_gives_the_whole_log(store: Store, limit: int) -> None:
    attempt, written = training(store), "a 𝄞 é\nb"
    half = len("a 𝄞".encode())
    for offset, text in ((0, written), (half, written.encode()[half:].decode() + "!\n")):
        store.record_report(attempt.host_id, a_report(news(attempt, log=text, log_offset=offset)), NOW)
    read, at = "", 0
    while (page := store.logs(attempt.id, at, limit)).text:
        assert page.offset == at and (len(page.text.encode()) <= limit or len(page.text) == 1)
        read, at = read + page.text, page.next_offset
    assert read == written + "!\n"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), max_size=8))
def test_whatever_pieces_arrive_the_log_is_a_beginning_of_what_was_written(
    store: Store, pieces: list[tuple[int, int]]
) -> None:
    whole = "één twee 𝄞 drie vier vijf"
    host_id, (card,) = joined(store)
    if not store.gpus()[0].attempt_id:
        training(store)
    (attempt,) = store.open_attempts()
    for start, length in pieces:
        text = whole[start : start + length]
        report = news(attempt, log=text, log_offset=len(whole[:start].encode()))
        store.record_report(host_id, a_report(report), NOW)
    stored = store.logs(attempt.id).text
    assert whole.startswith(stored) and store.attempt(attempt.id).log_bytes == len(stored.encode())
    assert card
