"""A real application over a real SQLite store, with a fake dispatcher and a clock that tests set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from orchestrator.api.app import create_app
from orchestrator.api.context import Services
from orchestrator.api.submission.group_commit import GroupCommit
from orchestrator.config import Settings
from orchestrator.control.controller import Controller
from orchestrator.control.host_silence import Hearing
from orchestrator.scheduler.policy import Rules
from orchestrator.store import Store
from tests import invariants
from tests.documented import Documented
from tests.fakes import FakeDispatch
from tests.loop_guard import LoopGuard

TOKEN = "test-token"


@dataclass
class Yard:
    """A server without its loop: tests tick it by hand."""

    services: Services
    http: TestClient
    dispatch: FakeDispatch
    now: float = 1_000.0
    deaf_s: float = 0.0  # of that, the time in which the server could not listen, or the clock jumped
    data: Path = field(default_factory=Path)

    def set_rules(self, rules: Rules) -> None:
        """The scheduler goes by these from now on."""
        controller = self.services.controller
        controller.settings = dataclasses.replace(controller.settings, rules=rules)

    def tick(self) -> None:
        self.services.controller.tick(self.now)

    def job(self, **sections: Any) -> dict[str, Any]:
        """A valid job as a client would send it."""
        config = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
        config |= {"num_attention_heads": 4, "vocab_size": 256}
        spec = {"model": {"config": config, "tokenizer": "org/tokenizer"}, "data": str(self.data), **sections}
        return {"spec": spec}

    def submit(self, **sections: Any) -> dict[str, Any]:
        answer = self.http.post("/api/v1/jobs", json={"jobs": [self.job(**sections)], "user": "ada"})
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()["jobs"][0]
        return made


@pytest.fixture
def yard(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    store = Store(sqlite_url)
    dispatch = FakeDispatch()
    settings = Settings(home=tmp_path, database=sqlite_url, token=TOKEN, ray=False)
    yards: list[Yard] = []

    def clock() -> float:
        return yards[0].now if yards else Yard.now

    def awake_s() -> float:
        return clock() - (yards[0].deaf_s if yards else 0.0)

    controller = Controller(store, dispatch, settings, clock, Hearing(awake_s))
    services = Services(settings, store, dispatch, controller, GroupCommit(store, controller.clock))
    services.window.apart_s = 0.0
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "a line"}\n' * 4)
    app, guard = Documented(create_app(services)), LoopGuard(store, monkeypatch)
    with TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        made = Yard(services, http, dispatch, data=data)
        yards.append(made)
        guard.start()
        yield made
        guard.stop()
    services.lanes.close()
    services.reports.close()
    services.feed.close()
    assert not app.wrong and not guard.noted
    invariants.check_all(store)
    store.close()
