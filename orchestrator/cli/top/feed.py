"""The thread that asks the server, one request at a time: what is on screen, once an interval or when that moves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from jobs.errors import TuneyardError
from orchestrator.client.http import Api

W = TypeVar("W")
QUICKEST_S = 0.1  # between two requests, however fast somebody scrolls


class Feed(Generic[W]):
    """Asks with what is wanted last, and tells each answer, or why there is none, from its own thread.

    ask: the answer for what is wanted; raises what jobs.errors has. tell: gets what was wanted, the answer or None,
    and what went wrong or "".
    """

    def __init__(
        self,
        api: Api,
        ask: Callable[[Api, W], Any],
        tell: Callable[[W, Any, str], object],
        wanted: W,
        interval_s: float,
    ) -> None:
        self._api, self._ask, self._tell, self._interval_s = api, ask, tell, interval_s
        self._wanted, self._lock = wanted, threading.Lock()
        self._moved, self._over = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def want(self, wanted: W) -> None:
        """From now on this; at once where it is something else."""
        with self._lock:
            moved, self._wanted = wanted != self._wanted, wanted
        if moved:
            self._moved.set()

    def hurry(self) -> None:
        """Ask again at once: something was changed."""
        self._moved.set()

    def stop(self) -> None:
        """Ends the thread after the request that it is at."""
        self._over = True
        self._moved.set()

    def _run(self) -> None:
        while not self._over:
            begun = time.monotonic()
            with self._lock:
                wanted = self._wanted
            self._moved.clear()
            answer, trouble = None, ""
            try:
                answer = self._ask(self._api, wanted)
            except TuneyardError as error:
                trouble = str(error)
            if not self._over:
                self._tell(wanted, answer, trouble)
            spent = time.monotonic() - begun
            if self._moved.wait(max(0.0, self._interval_s - spent)) and not self._over:
                time.sleep(max(0.0, QUICKEST_S - (time.monotonic() - begun)))
        self._api.close()
