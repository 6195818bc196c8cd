"""A real server on loopback and a host that sends results to it: real HTTP, a real store, no Ray and no training."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn

from jobs.errors import TuneyardError
from jobs.state import Event, Outcome
from orchestrator.api.app import create_app
from orchestrator.api.context import Services
from orchestrator.api.submission.group_commit import GroupCommit
from orchestrator.client.client import Client
from orchestrator.config import Settings
from orchestrator.control.controller import Controller
from orchestrator.store import Store
from tests.builders import (
    RUNG,
    a_host,
    a_job,
    a_projection,
    a_report,
    an_end,
    because,
    end_attempt,
    start_attempt,
)
from tests.cli.conftest import Ran, Tuneyard, bare, environment  # noqa: F401
from tests.documented import Documented
from tests.fakes import FakeDispatch
from workers.agent.result_upload import Sender
from workers.agent.server_client import Link
from workers.checkpoints.manifest import write_manifest

TOKEN = "token-of-the-transfers"
FILES = {
    "adapter_model.safetensors": bytes(range(256)) * 9000,  # 2.2 MiB: several pieces
    "deep/er/tokens.json": b"{}",
    "empty": b"",
    "tokenizer.json": b"x" * 1_100_000,
}


@dataclass
class Depot:
    """The server, and the host `alpha` with the results of its jobs."""

    services: Services
    folder: Path
    url: str
    host_id: int = 0
    gpus: list[int] = field(default_factory=list)
    _sender: Sender | None = None
    _awake: threading.Event = field(default_factory=threading.Event)
    _ended: bool = False

    def client(self) -> Client:
        return Client(self.url, TOKEN)

    def join(self) -> None:
        self.host_id = self.services.store.join_host(a_host(), time.time())
        self.gpus = [gpu.id for gpu in self.services.store.gpus()]

    def job(self, name: str = "tune", files: dict[str, bytes] | None = None) -> tuple[int, Path]:
        """A job that has succeeded, and its result's folder."""
        store, now = self.services.store, time.time()
        row = store.submit([a_job(name)], now)[0]
        attempt = start_attempt(store, row.id, self.host_id, self.gpus, RUNG, a_projection(), now)
        assert attempt is not None
        result = self.folder / "output" / f"job-{row.id}"
        for file, content in (FILES if files is None else files).items():
            (result / file).parent.mkdir(parents=True, exist_ok=True)
            (result / file).write_bytes(content)
        write_manifest(result, {"kind": "adapter", "job_id": row.id, "attempt_id": attempt.id})
        ended = an_end(Outcome.SUCCEEDED, result=str(result))
        end_attempt(store, attempt.id, 1, ended, Event.SUCCEEDED, because(), now)
        return row.id, result

    def restart_agent(self) -> None:
        """A new one knows nothing of what the old one sent."""
        self._sender = Sender(Link(self.url, TOKEN))

    def run_agent(self) -> None:
        """What of a host agent this is about: it reports, and follows the orders that it gets."""
        link = Link(self.url, TOKEN)
        while not self._ended:
            if self._sender is not None:
                with contextlib.suppress(TuneyardError):
                    sends = link.report(self.host_id, a_report()).sends
                    self._sender.follow(sends, self.services.store.epoch())
            self._awake.wait(0.05)
        link.close()

    def away(self) -> None:
        """The host is not heard of any more."""
        self._sender = None

    def end(self) -> None:
        self._ended = True
        self._awake.set()


@pytest.fixture
def depot(sqlite_store: Store, tmp_path: Path) -> Iterator[Depot]:
    settings = Settings(home=tmp_path, database=str(sqlite_store.url), token=TOKEN, ray=False)
    controller = Controller(sqlite_store, FakeDispatch(), settings)
    services = Services(
        settings, sqlite_store, FakeDispatch(), controller, GroupCommit(sqlite_store, controller.clock)
    )
    listener = socket.create_server(("127.0.0.1", 0))
    app = Documented(create_app(services))
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    serving.start()
    made = Depot(services, tmp_path / "host", f"http://127.0.0.1:{listener.getsockname()[1]}")
    made.join()
    made.restart_agent()
    agent = threading.Thread(target=made.run_agent, daemon=True)
    agent.start()
    yield made
    made.end()
    agent.join()
    server.should_exit = True
    serving.join()
    listener.close()
    assert not app.wrong


@pytest.fixture
def tuneyard(bare: Tuneyard, depot: Depot) -> Tuneyard:  # noqa: F811
    """Run `tuneyard ARGS` against the depot."""

    def run(*args: str) -> Ran:
        return bare(*args, TUNEYARD_URL=depot.url, TUNEYARD_TOKEN=TOKEN)

    return run


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder, without its manifest."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    manifest = json.loads(found.pop("manifest.json").read_bytes())
    assert set(manifest["files"]) == set(found)
    return {name: path.read_bytes() for name, path in found.items()}
