"""The controller's rounds leave the interpreter to requests: between two steps, and from the collector."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import pytest

import orchestrator.control.controller as controller
from orchestrator.config import Settings
from orchestrator.control.controller import Controller
from orchestrator.control.rounds import GIVE_WAY, GiveWay, uncollected
from orchestrator.dispatch.dispatcher import NoDispatch
from orchestrator.store import Store


class Hand:
    """CPU seconds that were used, and the waits that were made."""

    def __init__(self) -> None:
        self.used_s = 0.0
        self.waits: list[float] = []
        self.gives_way = GiveWay(self.waits.append, lambda: self.used_s)

    def step(self, used_s: float) -> float:
        """A step is made. How long is waited after it."""
        self.waits.clear()
        self.used_s += used_s
        self.gives_way()
        return sum(self.waits)


def test_nothing_waits_while_no_request_does() -> None:
    hand = Hand()
    hand.gives_way.begin()
    assert hand.step(3.0) == 0


def test_a_step_waits_for_crowded_requests_by_what_it_took_and_no_longer() -> None:
    hand = Hand()
    hand.gives_way.crowded = lambda: True
    hand.gives_way.begin()
    assert hand.step(0.3) == pytest.approx(GIVE_WAY * 0.3)
    assert hand.step(0.1) == pytest.approx(GIVE_WAY * 0.1), "each step counts once"


def test_it_goes_on_as_soon_as_requests_are_through() -> None:
    hand = Hand()
    hand.gives_way.crowded = lambda: len(hand.waits) < 3
    hand.gives_way.begin()
    hand.step(10.0)
    assert len(hand.waits) == 3


def test_what_was_used_before_a_round_counts_for_nothing() -> None:
    hand = Hand()
    hand.gives_way.crowded = lambda: True
    hand.used_s = 100.0
    hand.gives_way.begin()
    assert hand.step(0.0) == 0


def test_the_collector_is_off_in_a_round_and_on_after_one_that_fails() -> None:
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), uncollected():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()


def test_a_controller_at_rest_closes_at_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path, token="x" * 32, ray=False)
    made = Controller(store, NoDispatch(), settings)
    rested = threading.Event()
    monkeypatch.setattr(controller, "REST_AFTER_PLAN", 1e6)
    monkeypatch.setattr(made.rounds, "rests", lambda _: rested.set())
    made.open()
    made.wake()
    assert rested.wait(30)
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < 5
