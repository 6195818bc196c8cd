"""A dispatcher that hangs is ended and replaced, and nobody waits for it meanwhile."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import psutil
import pytest

from orchestrator.dispatch.dispatcher import HEAD_TRIES, DispatchProcess
from orchestrator.dispatch.heartbeat import LONGEST_LOOK_S, Awake, Work
from tests.dispatch.conftest import Under, until


def replaced(made: DispatchProcess, generation: int) -> None:
    until(lambda: made.generation > generation and made.state().ready, "no other took over")


def started(made: DispatchProcess, attempt_id: int) -> None:
    assert made.start(attempt_id, [])
    said: list[dict[str, Any]] = []
    until(lambda: said.extend(made.events()) or said, "it said nothing of the start")
    assert said[0] == {"event": "started", "attempt_id": attempt_id}


def test_one_that_is_stopped_is_killed_and_another_starts_what_waits(under: Under) -> None:
    made = under.open("well")
    replaced(made, 0)
    stopped, address = under.stop(made), made.address
    until(lambda: made.state().trouble, "nobody noticed")
    assert not made.state().ready
    replaced(made, 1)
    assert not psutil.pid_exists(stopped) and made.address == address, (
        "the head, and what runs under it, goes on"
    )
    assert made.state().trouble == "" and made.state().replaced == 0
    started(made, 7)


@pytest.mark.parametrize(
    ("mode", "doing"),
    [("init hangs", "connecting to the Ray head"), ("call hangs", "looking after the hosts' actors")],
)
def test_one_that_blocks_in_ray_says_so_and_is_replaced(under: Under, mode: str, doing: str) -> None:
    made = under.open(mode, "well")
    until(lambda: doing in made.state().trouble, "nobody noticed")
    until(lambda: made.state().ready, "no other took over")
    started(made, 7)


def test_a_pipe_that_is_full_makes_nobody_wait(under: Under) -> None:
    made = under.open("takes none", waiting=50)
    replaced(made, 0)
    large = [{"host": "h", "home": "x" * 100_000, "output_root": "", "assignments": []}]
    began, taken = time.monotonic(), 0
    while made.start(taken, large):  # type: ignore[arg-type]
        taken += 1
    assert 50 <= taken < 100, "what it does not take is kept up to a bound, and then refused"
    assert time.monotonic() - began < 30
    os.kill(under.pid(made), signal.SIGKILL)
    replaced(made, 1)


def test_a_head_that_nobody_can_connect_to_is_replaced_too(under: Under) -> None:
    made = under.open(*["init fails"] * HEAD_TRIES, "well")
    first = made._head.process
    assert first is not None
    until(lambda: made.state().ready, "no other took over")
    assert not first.is_running() and made._head.process != first


def test_what_is_wrong_with_the_disk_or_the_head_ends_no_supervisor(under: Under, monkeypatch: Any) -> None:
    made = under.open("well")
    replaced(made, 0)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(made._head, "alive", full)
    made._make_head, real = full, made._make_head  # type: ignore[method-assign, assignment]
    os.kill(under.pid(made), signal.SIGKILL)
    until(lambda: "No space left on device" in made.state().trouble, "it is told")
    made._make_head = real  # type: ignore[method-assign]
    replaced(made, 1)
    started(made, 8)


def test_closing_waits_for_nothing_that_hangs(under: Under) -> None:
    made = under.open("well", silent_s=600.0)
    replaced(made, 0)
    stopped = under.stop(made)
    made.close()
    assert not psutil.pid_exists(stopped)


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_a_pause_of_the_server_is_no_silence_of_the_dispatcher() -> None:
    hand = Hand()
    awake = Awake(hand)
    hand.at = 105.0  # it was stopped
    assert awake.look() == LONGEST_LOOK_S


def test_work_is_overdue_by_its_own_limit() -> None:
    hand = Hand()
    work = Work(Awake(hand))
    with work.doing("waiting", 3.0):
        with work.doing("asking", 1.0):
            hand.at = 2.0
            found = work.look()
            assert found is not None and (found.doing, found.for_s) == ("asking", 2.0)
        hand.at = 3.0
        assert work.look() is None
        hand.at = 4.0
        found = work.look()
        assert found is not None and found.doing == "waiting"
    assert work.look() is None
