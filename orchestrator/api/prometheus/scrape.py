"""What is scraped: made at most once in some seconds, however many ask, and how making it went."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from jobs.errors import TuneyardError
from orchestrator.api.prometheus.families import counter, gauge

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
APART_S = 5.0


class Scrape:
    """For any number of threads. apart_s: how long an answer is good for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.apart_s = APART_S
        self._clock = clock
        self._lock = threading.Lock()
        self._text = b""
        self._until = 0.0
        self._failures = 0
        self._good_at: float | None = None

    def text(
        self, of_server: Iterable[Metric], fleet: Callable[[], Iterable[Metric | str]] | None, now: float
    ) -> bytes:
        """The exposition. fleet: None on a server that stands by, which exports itself alone."""
        with self._lock:
            if not self._text or self._clock() >= self._until:
                self._text = self._made(of_server, fleet, now)
                self._until = self._clock() + self.apart_s
            return self._text

    def _made(
        self, of_server: Iterable[Metric], fleet: Callable[[], Iterable[Metric | str]] | None, now: float
    ) -> bytes:
        found: list[Metric | str] = list(of_server)
        if fleet is None:
            return _bytes(found)
        began, good = self._clock(), True
        try:
            found += fleet()
            self._good_at = now
        except TuneyardError:
            self._failures += 1
            good = False
        found += [
            gauge("collect_success", "Whether the fleet could be read this time.", [((), float(good))]),
            gauge("collect_success_timestamp_seconds", "When it could last.", [((), self._good_at)]),
            gauge("collect_duration_seconds", "How long reading it took.", [((), self._clock() - began)]),
            counter("collect_failures", "How often it could not be read.", [((), self._failures)]),
        ]
        return _bytes(found)


def _bytes(found: list[Metric | str]) -> bytes:
    made: bytes = generate_latest(_Given([one for one in found if isinstance(one, Metric)]))
    return made + "".join(one for one in found if isinstance(one, str)).encode()


class _Given(Collector):
    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        yield from self._found
