"""The real application on a socket of its own, over a real SQLite store, with hosts that tests play."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from orchestrator.api.app import create_app
from orchestrator.api.context import Services
from orchestrator.api.edge.connections import guarded
from orchestrator.api.edge.listener import Listener
from orchestrator.api.submission.group_commit import GroupCommit
from orchestrator.config import Settings
from orchestrator.control.controller import Controller
from orchestrator.store import Store, upgrade
from tests.fakes import FakeDispatch

TOKEN = "token-of-the-page-tests"


@dataclass
class Served:
    """A server without its loop, on the real clock. As tests.api.conftest.Yard has it, for FakeHost."""

    url: str
    http: httpx.Client
    services: Services
    server: Listener
    data: Path

    @property
    def now(self) -> float:
        return time.time()

    def tick(self) -> None:
        self.services.controller.tick(self.now)

    def submit(self, **sections: Any) -> list[int]:
        """The ids of the jobs that a job file makes."""
        config = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
        config |= {"num_attention_heads": 4, "vocab_size": 256}
        spec = {"model": {"config": config, "tokenizer": "org/tokenizer"}, "data": str(self.data), **sections}
        matrix = spec.pop("matrix", None)
        job = {"spec": {**spec, **({"matrix": matrix} if matrix else {})}}
        answer = self.http.post("/api/v1/jobs", json={"jobs": [job], "user": sections.get("user", "ada")})
        assert answer.status_code == 201, answer.text
        return [made["id"] for made in answer.json()["jobs"]]

    def ticket(self) -> str:
        """A link that signs in as ada."""
        answer = self.http.post("/api/v1/session/ticket", headers={"X-Tuneyard-User": "ada"})
        return f"{self.url}/#ticket={answer.json()['ticket']}"


@contextlib.contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[Served]:
    """A server of a database in a folder, until the end of the block."""
    url = f"sqlite:///{folder / 'tuneyard.db'}"
    upgrade(url)
    store, dispatch = Store(url), FakeDispatch()
    listener = socket.create_server(("127.0.0.1", port))
    port = listener.getsockname()[1]
    settings = Settings(
        home=folder,
        database=url,
        token=TOKEN,
        ray=False,
        port=port,
        shared_files=False,
        away_after_s=3600.0,  # hosts here speak when a test wants them to
        lost_after_s=7200.0,
    )
    controller = Controller(store, dispatch, settings)
    services = Services(settings, store, dispatch, controller, GroupCommit(store, controller.clock))
    services.window.apart_s = 0.2
    config = uvicorn.Config(
        create_app(services), http=guarded(200), ws="none", log_level="warning", timeout_graceful_shutdown=5
    )
    server = Listener(config, lambda: None, services.feed.close)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    data = folder / "data.jsonl"
    data.write_text('{"text": "a line"}\n' * 4)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as http:
            yield Served(f"http://127.0.0.1:{port}", http, services, server, data)
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
        services.lanes.close()
        services.reports.close()
        store.close()
