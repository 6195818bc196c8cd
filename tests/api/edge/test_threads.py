"""Threads that do what they are handed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from orchestrator.api.edge.threads import Threads

WAIT_S = 30.0


def barrier(threads: Threads, count: int) -> Callable[[], None]:
    """Hands so much work that only that many threads together can do; returned: what waits for them."""
    together = threading.Barrier(count + 1)
    for _ in range(count):
        threads.hand(lambda: _pass(together))
    return lambda: _pass(together)


def _pass(together: threading.Barrier) -> None:
    together.wait(WAIT_S)


def test_as_many_work_at_once_as_there_may_be_and_no_more() -> None:
    threads = Threads(3, "tried")
    for _ in range(3):
        barrier(threads, 3)()
    assert len(threads._threads) == 3
    threads.close()


def test_one_that_is_free_takes_the_next() -> None:
    threads, done = Threads(4, "tried"), threading.Semaphore(0)
    for _ in range(20):
        threads.hand(done.release)
        assert done.acquire(timeout=WAIT_S)
        while threads._free < 1:  # it has told, and is about to wait again
            threading.Event().wait(0.001)
    assert len(threads._threads) == 1
    threads.close()


def test_the_first_that_was_handed_is_done_first() -> None:
    threads, done, last = Threads(1, "tried"), list[int](), threading.Event()
    for number in range(100):
        threads.hand(lambda number=number: done.append(number))  # type: ignore[misc]
    threads.hand(last.set)
    assert last.wait(WAIT_S) and done == [*range(100)]
    threads.close()


def test_work_that_raises_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    threads, done = Threads(1, "tried"), threading.Event()

    def fails() -> None:
        raise KeyError("lost")

    threads.hand(fails)
    threads.hand(done.set)
    assert done.wait(WAIT_S) and "a thread of tried failed" in caplog.text
    threads.close()


def test_what_has_not_begun_when_they_are_closed_never_does() -> None:
    threads, begun, goes_on, done = Threads(1, "tried"), threading.Event(), threading.Event(), list[int]()

    def first() -> None:
        begun.set()
        goes_on.wait(WAIT_S)

    threads.hand(first)
    threads.hand(lambda: done.append(1))
    assert begun.wait(WAIT_S)
    threads.close()
    with pytest.raises(RuntimeError, match="have ended"):
        threads.hand(lambda: done.append(2))
    goes_on.set()
    threads._threads[0].join(WAIT_S)
    assert not threads._threads[0].is_alive() and not done
