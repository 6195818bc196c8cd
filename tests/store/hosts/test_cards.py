"""One card: what happened to it, told once and not at every flap; which attempts held it."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.errors import NotFound
from jobs.state import Event
from orchestrator.store import Store
from orchestrator.store.actions import WantedEvents
from orchestrator.store.hosts.card_signs import QUIET_S, Seen, signs_of
from orchestrator.store.schema.tables import gpus
from tests.builders import (
    NOW,
    a_host,
    a_report,
    a_sample,
    an_end,
    because,
    cards,
    end_attempt,
    joined,
    opened,
    submitted,
)


def told(store: Store, card: int) -> list[tuple[float, str, str]]:
    """What happened to the card, oldest first."""
    found = store.events_of(WantedEvents(card=card), 1000)
    return [(row.event.ts - NOW, row.event.kind, row.event.text) for row in reversed(found)]


def report(store: Store, host: int, at: float, fault: str | None = None, **values: Any) -> None:
    mine = [card.model_copy(update={"fault": fault}) for card in cards("alpha")]
    sample = a_sample(ts=NOW + at, **values)
    store.record_report(host, a_report(gpus=1, samples=[sample]).model_copy(update={"gpus": mine}), NOW + at)


def test_a_fault_is_told_at_once_and_its_end_once_it_stays_away(store: Store) -> None:
    host, (card,) = joined(store)
    lost = "NVML: GPU is lost"
    for at in (0, 1, 2):
        report(store, host, at, lost)
    report(store, host, 3)
    report(store, host, 4, lost)  # it flaps
    for at in (5, 30, 64, 65, 66, 67):
        report(store, host, at)
    assert told(store, card) == [
        (0, "card_fault", f"takes no work: {lost}"),
        (65, "card_well", "takes work again"),
    ]
    report(store, host, 70, lost)
    assert [kind for _, kind, _ in told(store, card)] == ["card_fault", "card_well", "card_fault"]


def test_the_same_report_twice_tells_nothing_twice(store: Store) -> None:
    host, (card,) = joined(store)
    for _ in range(2):
        report(store, host, 1, "NVML: unknown", ecc_uncorrected=2, throttle=0x40, xids=[79])
    kinds = [kind for _, kind, _ in told(store, card)]
    assert kinds == ["card_fault", "card_slow", "card_ecc", "card_xid"]


def test_memory_errors_are_counted_and_not_told_one_by_one(store: Store) -> None:
    host, (card,) = joined(store)
    for at, count in enumerate((0, 1, 2, 3)):
        report(store, host, at, ecc_uncorrected=count)
    report(store, host, 700, ecc_uncorrected=5)
    report(store, host, 701, ecc_uncorrected=0)  # its driver was loaded again
    report(store, host, 702, ecc_uncorrected=1)
    assert told(store, card) == [
        (1, "card_ecc", "1 uncorrected memory error, 1 since its driver was loaded"),
        (700, "card_ecc", "4 uncorrected memory errors, 5 since its driver was loaded"),
        (702, "card_ecc", "1 uncorrected memory error, 1 since its driver was loaded"),
    ]


def test_slow_clocks_begin_and_end_and_a_power_cap_is_none(store: Store) -> None:
    host, (card,) = joined(store)
    report(store, host, 0, throttle=0x4 | 0x1)  # a power cap, idle: nothing is wrong
    for at in range(10, 200, 10):
        report(store, host, at, throttle=0x40 if at <= 100 else 0x4)
    assert told(store, card) == [
        (10, "card_slow", "its clocks are held down: heat (hardware)"),
        (160, "card_full_speed", "its clocks are not held down any more"),
    ]
    over = store.events_of(WantedEvents(card=card, kinds=["card_full_speed"]), 1)[0].event
    assert (over.data["since"], over.data["until"]) == (NOW + 10, NOW + 100)


def test_errors_of_the_driver_are_told_each(store: Store) -> None:
    host, (card,) = joined(store)
    report(store, host, 0, xids=[31, 79])
    report(store, host, 1)
    assert [text for _, _, text in told(store, card)] == [
        "error of the driver: XID 31",
        "error of the driver: XID 79",
    ]


def test_a_card_that_goes_comes_back_or_moves(store: Store) -> None:
    host, (card,) = joined(store)
    store.record_report(host, a_report(gpus=0), NOW + 1)
    store.record_report(host, a_report(gpus=1), NOW + 2)
    beta = store.join_host(a_host("beta", gpus=0).model_copy(update={"gpus": cards("alpha")}), NOW + 3)
    assert told(store, card) == [
        (1, "card_gone", "its host has it no more"),
        (2, "card_back", "its host has it again"),
        (3, "card_back", "it was in alpha before"),
    ]
    last = store.events_of(WantedEvents(card=card), 1)[0]
    assert (last.event.host_id, last.subject, last.host) == (beta, "card beta/0", "beta")
    assert store.events_of(WantedEvents(host=beta, kinds=["card_back"]), 9) == [last], "its host's too"


def test_a_new_card_tells_nothing_but_its_fault(store: Store) -> None:
    host, _ = joined(store, gpus=0)
    report(store, host, 0, "MIG is enabled")
    (card,) = store.gpus()
    assert [kind for _, kind, _ in told(store, card.id)] == ["card_fault"]


def test_what_was_told_last_may_be_garbled(store: Store) -> None:
    host, (card,) = joined(store)
    for garbage in ("{no json", "[1]", '{"fault_at": "x", "fault": 7, "slow": "y", "ecc_corrected": "z"}'):
        with store.write() as connection:
            connection.exec_driver_sql(f"UPDATE gpus SET signs = '{garbage}'")
        report(store, host, 1, "broken", ecc_corrected=1, throttle=8)
    assert "card_fault" in {kind for _, kind, _ in told(store, card)}


def test_a_healthy_card_costs_no_write(store: Store) -> None:
    host, _ = joined(store)
    report(store, host, 0, ecc_corrected=0, ecc_uncorrected=0, throttle=0x5)
    with store.read() as connection:
        assert connection.execute(gpus.select()).one().signs is None


def test_signs_of_another_text_come_once_a_minute() -> None:
    known, first = signs_of(None, Seen(NOW, "a"))
    known, second = signs_of(known, Seen(NOW + 1, "b"))
    _, third = signs_of(known, Seen(NOW + QUIET_S, "b"))
    assert [len(found) for found in (first, second, third)] == [1, 0, 1]


def test_attempts_of_a_card_are_listed_newest_first(store: Store) -> None:
    host, (first, second) = joined(store, gpus=2)
    for number in range(3):
        attempt = opened(store, submitted(store, name=f"job-{number}"), host, [first], NOW + number)
        end_attempt(store, attempt.id, 1, an_end(), Event.SUCCEEDED, because(), NOW + number)
    last = opened(store, submitted(store, name="both"), host, [first, second], NOW + 9)
    page = store.card_attempts(first, 2)
    assert [job.name for _, job in page] == ["both", "job-2"]
    assert [job.name for _, job in store.card_attempts(first, 9, page[-1][0].id)] == ["job-1", "job-0"]
    ((one, job),) = store.card_attempts(second, 9)
    assert (one.id, one.rank, one.released_at, job.state) == (last.id, 1, None, "running")


def test_a_card_is_found_by_id_uuid_and_place(store: Store) -> None:
    _, (first, second) = joined(store, gpus=2)
    for name in (str(second), "GPU-alpha-1", "alpha/1"):
        assert store.find_card(name).id == second
    for name in ("alpha", "alpha/2", "alpha/", "/", "99999999999999999999", "GPU-x", "beta/0"):
        with pytest.raises(NotFound, match=r"there is no card .*HOST/INDEX"):
            store.find_card(name)
    assert store.find_card("alpha/0").id == first
    # Another card in its place: the one that is there now.
    newer = cards("alpha", 2)[1].model_copy(update={"uuid": "GPU-new"})
    store.join_host(a_host(gpus=0).model_copy(update={"gpus": [cards("alpha")[0], newer]}), NOW)
    assert store.find_card("alpha/1").uuid == "GPU-new" and store.find_card("GPU-alpha-1").id == second
