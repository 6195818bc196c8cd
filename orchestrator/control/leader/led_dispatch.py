"""The dispatcher of a server that may lead: it runs while that one leads, and ends with that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orchestrator.dispatch.dispatcher import Dispatch, DispatchProcess, DispatchState, NoDispatch, Part

log = logging.getLogger(__name__)


class LedDispatch:
    """Nobody's while this server stands by. Opening and closing take seconds: neither is waited for."""

    def __init__(self, make: Callable[[], DispatchProcess]) -> None:
        self._make = make
        self._now: Dispatch = _STANDS_BY
        self._before = 0  # generations of those that were closed: a new one is another
        self.wake: Callable[[], None] = lambda: None
        self._one_by_one = ThreadPoolExecutor(1, "dispatch")

    def open(self) -> None:
        """It leads: a Ray head and a dispatcher come up."""
        self._one_by_one.submit(self._open)

    def shut(self) -> None:
        """It no longer leads: they end. What runs on hosts goes on."""
        self._one_by_one.submit(self._shut)

    def close(self) -> None:
        """For good; returns once they have ended."""
        self.shut()
        self._one_by_one.shutdown()

    def _open(self) -> None:
        if self._now is not _STANDS_BY:
            return
        made = self._make()
        made.wake = self.wake
        try:
            made.open()
        except Exception:  # the thread's outermost edge
            log.exception("the dispatcher could not be started")
        self._now = made

    def _shut(self) -> None:
        ended, self._now = self._now, _STANDS_BY
        if isinstance(ended, DispatchProcess):
            self._before += ended.generation + 1
            try:
                ended.close()
            except Exception:  # the thread's outermost edge
                log.exception("the dispatcher could not be ended")

    @property
    def address(self) -> str | None:
        return self._now.address

    @property
    def generation(self) -> int:
        return self._before + found if (found := self._now.generation) else 0

    def state(self) -> DispatchState:
        return self._now.state()

    def start(self, attempt_id: int, parts: list[Part]) -> bool:
        return self._now.start(attempt_id, parts)

    def pool(self, warm: dict[str, int]) -> None:
        self._now.pool(warm)

    def events(self) -> list[dict[str, Any]]:
        return self._now.events()


class _StandsBy(NoDispatch):
    def state(self) -> DispatchState:
        return DispatchState()


_STANDS_BY = _StandsBy()
