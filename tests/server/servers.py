"""`tuneyard serve` as a process, and a host agent that trains for it, without Ray."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from tests.api.scheduling.test_scheduling import FakeHost, card

TUNEYARD = str(Path(sys.executable).with_name("tuneyard"))
SOON_S = 90.0  # nothing here takes it, on a machine that is not overloaded beyond use


class Home:
    """A tuneyard home and the servers started for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started: list[subprocess.Popen[str]] = []

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TUNEYARD_")}
        return {**inherited, "TUNEYARD_HOME": str(self.path)}

    def serve(self, *flags: str) -> subprocess.Popen[str]:
        command = [TUNEYARD, "serve", "--no-ray", *flags]
        child = subprocess.Popen(
            command, env=self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.started.append(child)
        return child

    def close(self) -> None:
        for child in self.started:
            child.kill()
            child.communicate()

    def refused(self, *flags: str) -> tuple[int, str]:
        child = self.serve(*flags)
        _, errors = child.communicate(timeout=SOON_S)
        return child.returncode, errors

    def client(self) -> httpx.Client:
        """A client of the server, once it answers. However long that takes, as long as its process lives."""
        while True:
            with contextlib.suppress(OSError, ValueError, httpx.HTTPError):
                known = json.loads((self.path / "config.json").read_text())
                headers = {"Authorization": f"Bearer {known['token']}"}
                httpx.get(known["url"] + "/api/v1/health", timeout=SOON_S)  # it listens before it answers
                return httpx.Client(base_url=known["url"] + "/api/v1", headers=headers, timeout=SOON_S)
            ended = [child for child in self.started if child.poll() is not None]
            assert len(ended) < len(self.started), f"the server ended: {ended[-1].communicate()[1]}"
            time.sleep(0.05)


def job(home: Home) -> dict[str, object]:
    data = home.path / "data.jsonl"
    data.write_text('{"text": "x"}\n')
    return {"jobs": [{"spec": {"model": "org/model", "data": str(data)}}]}


def trained_job(home: Home) -> dict[str, object]:
    """A job that the server does not look for anything of."""
    data = home.path / "data.jsonl"
    data.write_text('{"text": "x"}\n' * 4)
    config = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 4, "vocab_size": 256}
    spec = {"model": {"config": config, "tokenizer": "org/tokenizer"}, "data": str(data)}
    return {"jobs": [{"spec": {**spec, "training": {"steps": 100}}}]}


def until(found: Callable[[], Any], timeout_s: float = SOON_S) -> Any:
    """What it finds once that is true; an error of the connection is no answer."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if seen := found():
                return seen
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


class Client:
    """What FakeHost asks of a yard, of a server in a process of its own."""

    def __init__(self, http: httpx.Client) -> None:
        self.real, self.http = http, self

    @property
    def now(self) -> float:
        return time.time()

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.real.post(path.removeprefix("/api/v1"), **body)

    def tick(self) -> None:
        """It ticks by itself."""


class Agent:
    """A host that trains one job for as long as it lives, and reports like a real agent: again where it fails."""

    def __init__(self, http: httpx.Client) -> None:
        self.http, self.heard = http, 0
        self.host = FakeHost(Client(http), card(0, 2))
        self._ended, self.speaks = threading.Event(), threading.Event()
        self.speaks.set()
        self._thread = threading.Thread(target=self._run)
        self._news: list[dict[str, Any]] = []

    def begin(self, job_id: int) -> None:
        """Once the server has opened an attempt of the job, it trains."""
        until(self._trace)
        shown = until(lambda: (found := self.job(job_id))["state"] == "running" and found)
        (attempt,) = shown["attempts_detail"]
        began = {"ts": time.time(), "pid": 1, "create_time": 1.0}
        self._news = [{"attempt_id": attempt["id"], "number": 1, "started": began}]
        self._thread.start()

    def job(self, job_id: int) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"/jobs/{job_id}").json()
        return found

    def outcomes(self, job_id: int) -> list[str | None]:
        return [attempt["outcome"] for attempt in self.job(job_id)["attempts_detail"]]

    def end(self) -> None:
        """Silent from here on."""
        self._ended.set()
        self._thread.join()

    def _trace(self) -> bool:
        self.host.trace()
        return bool(self.http.get("/jobs", params={"state": "running"}).json()["jobs"])

    def _run(self) -> None:
        while not self._ended.wait(0.2):
            if not self.speaks.is_set():
                continue
            with contextlib.suppress(httpx.HTTPError, AssertionError):
                self.host.report(attempts=self._news)
                self.heard += 1


@contextlib.contextmanager
def training(http: httpx.Client, job_id: int) -> Iterator[Agent]:
    """A host on which that job trains."""
    agent = Agent(http)
    agent.begin(job_id)
    try:
        yield agent
    finally:
        agent.end()
