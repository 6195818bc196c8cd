"""Cards whose memory no trainer of ours accounts for are not offered."""

from __future__ import annotations

import os

import pytest

from jobs.messages.reports import GpuInfo, GpuSample
from jobs.units import GiB, MiB
from workers.agent.foreign_memory import FREE_BYTES, ForeignMemory

CARD = GpuInfo(uuid="GPU-0", index=0, kind="cuda", name="NVIDIA L4", memory_bytes=24 * GiB)


class Card:
    """One card, looked at again and again."""

    def __init__(self) -> None:
        self.watch = ForeignMemory()

    def look(self, used: int | None, listed: dict[int, int] | None = None, ours: tuple[int, ...] = ()) -> str:
        sample = GpuSample(uuid="GPU-0", ts=0, memory_used_bytes=used, process_memory=listed)
        self.watch.look([CARD], [sample], {"GPU-0": dict.fromkeys(ours, 0)})
        return self.watch.fault("GPU-0") or ""


def test_memory_of_a_trainer_that_ended_keeps_its_card_until_it_is_free() -> None:
    card = Card()
    assert not card.look(9 * GiB, {41: 9 * GiB}, ours=(41,))
    held = card.look(9 * GiB, {41: 9 * GiB})
    assert held == "9.00 GiB of it is still held by process 41, a trainer that has ended", "at the first look"
    assert card.look(300 * MiB, {41: 300 * MiB}), "whatever little it is"
    assert not card.look(5 * MiB, {})


def test_where_nvml_names_no_process_the_sum_tells() -> None:
    """As in a container, where it names none or numbers them otherwise."""
    for listed in (None, {}, {999_999: 9 * GiB}):
        card = Card()
        assert not card.look(9 * GiB, listed, ours=(41,))
        assert card.look(9 * GiB, listed), listed
        assert not card.look(FREE_BYTES, {})


def test_a_card_that_others_use_is_not_offered() -> None:
    card, somebody = Card(), os.getpid()
    assert not card.look(6 * GiB, {somebody: 6 * GiB}), "a trainer may have come up between two looks"
    fault = card.look(6 * GiB, {somebody: 6 * GiB})
    assert fault.startswith(f"6.00 GiB of it is in use by process {somebody} (")
    assert fault.endswith("), and by no trainer of tuneyard")
    assert not card.look(0, {})


def test_a_trainer_that_comes_up_between_two_looks_is_no_fault() -> None:
    card = Card()
    assert not card.look(0, {})
    assert not card.look(6 * GiB, {41: 6 * GiB})
    assert not card.look(6 * GiB, {41: 6 * GiB}, ours=(41,))


def test_others_on_a_card_that_ours_share_are_seen() -> None:
    card = Card()
    listed = {41: 4 * GiB, 999_999: 3 * GiB}
    assert not card.look(7 * GiB, listed, ours=(41,))
    assert card.look(7 * GiB, listed, ours=(41,)).startswith("3.00 GiB of it is in use by process 999999, ")
    assert not card.look(4 * GiB, {41: 4 * GiB}, ours=(41,))


@pytest.mark.parametrize("used", [0, 400 * MiB, FREE_BYTES])
def test_what_a_desktop_takes_is_let_be(used: int) -> None:
    card = Card()
    assert not any(card.look(used, {999_999: used}) for _ in range(3))


def test_a_card_that_can_not_be_read_changes_nothing() -> None:
    card = Card()
    card.look(9 * GiB, {41: 9 * GiB}, ours=(41,))
    held = card.look(9 * GiB, {41: 9 * GiB})
    assert held and card.look(None) == held
    assert not card.look(0, {})
