"""A real application on a socket of its own, with a fleet in it, and `tuneyard top` without a terminal."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import textual.drivers.headless_driver  # noqa: F401 # here: what it imports later, it would import on the event loop
import uvicorn

from orchestrator.api.app import create_app
from orchestrator.cli.top.app import Top
from orchestrator.client.http import Api
from orchestrator.client.settings import Server
from tests.api.conftest import TOKEN, Yard
from tests.api.conftest import yard as yard  # a fixture of these tests too
from tests.api.scheduling.test_scheduling import FakeHost, card

GiB = 2**30


class Served:
    """A yard behind a socket: `stop` and `start` it as often as a test likes, at the same address."""

    def __init__(self, yard: Yard) -> None:
        self.yard = yard
        yard.services.window.apart_s = 0.02
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        self.running = False
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> Api:
        return Api(Server(self.url, TOKEN), timeout_s=10)

    def start(self) -> None:
        config = uvicorn.Config(
            create_app(self.yard.services), log_level="warning", ws="none", timeout_graceful_shutdown=1
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen()
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})
        self._thread.start()
        self.running = True

    def stop(self) -> None:
        if self.running:
            self._server.should_exit = True
            self._thread.join(60)
            assert not self._thread.is_alive()
            self._listener.close()
            self.running = False


@pytest.fixture
def served(yard: Yard) -> Iterator[Served]:
    made = Served(yard)
    yield made
    made.stop()


def gpu(number: int, index: int, name: str = "H100-80GB") -> dict[str, Any]:
    """A card of a host."""
    found = card(number, 2.6, kind="cuda", name=name)
    return {**found, "uuid": f"GPU-{number:04d}", "index": index}


class Fleet:
    """Hosts with cards, jobs that train on some of them, and some that wait."""

    def __init__(self, yard: Yard, hosts: int = 3, cards: int = 4) -> None:
        self.yard, self.hosts = yard, []
        for number in range(hosts):
            mine = [gpu(number * cards + index, index) for index in range(cards)]
            self.hosts.append(FakeHost(yard, *mine, name=f"gpu-{number + 1:02d}"))
        self.report()

    def submit(self, *names: str, **sections: Any) -> None:
        """Jobs that start where there is a free card."""
        for name in names:
            self.yard.submit(name=name, training={"steps": 2400}, **sections)
        self.hosts[0].trace()
        self.yard.tick()

    def report(self, log: str = "") -> None:
        """All hosts tell what their cards do, and how far their attempts came."""
        attempts = {attempt.id: attempt for attempt in self.yard.services.store.open_attempts()}
        held = {gpu.uuid: attempt for attempt in attempts.values() for gpu in attempt.gpus}
        for host in self.hosts:
            samples = [self.sample(one, held.get(one["uuid"])) for one in host.cards]
            mine = [one for one in attempts.values() if one.host_id == host.id]
            host.report(samples=samples, attempts=[self.news(one, log) for one in mine])

    def sample(self, one: dict[str, Any], attempt: Any) -> dict[str, Any]:
        number = int(one["uuid"][4:])
        wave = math.sin(self.yard.now / 5 + number)
        if attempt is None:
            used, busy, watts, heat = 1, 0.0, 71.0, 34.0
        else:
            used = int(attempt.projection["device_bytes"] * (0.95 + number % 3 * 0.03))
            busy, watts, heat = 0.9 + 0.09 * wave, 610 + 70 * wave, 66 + 9 * wave
        return {
            "uuid": one["uuid"],
            "ts": self.yard.now,
            "memory_used_bytes": used,
            "utilization": busy,
            "power_w": watts,
            "temperature_c": heat,
        }

    def news(self, attempt: Any, log: str) -> dict[str, Any]:
        step = int(self.yard.now - 1000) * 10 + attempt.id
        line = {
            "step": step,
            "total_steps": 2400,
            "ts": self.yard.now,
            "loss": 2.5 * math.exp(-step / 700) + 0.4 + 0.03 * math.sin(step),
            "learning_rate": 2e-4,
            "tokens": step * 4096,
            "tokens_per_s": 5123.0 + attempt.id,
            "step_s": 0.8,
            "allocated_bytes": 1,
            "reserved_bytes": 1,
            "device_bytes": int(attempt.projection["device_bytes"] * 0.97),
        }
        known = self.yard.services.store.attempts(attempt.job_id)[-1]
        return {
            "attempt_id": attempt.id,
            "number": attempt.number,
            "started": {"ts": attempt.opened_at, "pid": 1, "create_time": 1.0},
            "progress": [line] if step else [],
            "log_offset": known.log_bytes,
            "log": log or f"step {step}: loss {line['loss']:.4f}\n",
        }

    def live(self, seconds: int, log: str = "") -> None:
        for _ in range(seconds):
            self.yard.now += 1
            self.report(log)


@pytest.fixture
def top(served: Served) -> Callable[..., Top]:
    """`tuneyard top` over the served yard."""

    def make(interval_s: float = 0.05, palette: str | None = "okabe-ito") -> Top:
        return Top(served.connect, interval_s, palette)

    return make
