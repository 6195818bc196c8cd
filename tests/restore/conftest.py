"""A fleet whose database goes back to a backup: the real server, store and trainer; a test reports for its host."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from jobs.messages.reports import Assignment, Ended
from orchestrator.api.app import create_app
from orchestrator.api.context import Services
from orchestrator.api.submission.group_commit import GroupCommit
from orchestrator.config import Settings
from orchestrator.control.controller import Controller
from orchestrator.control.host_silence import Hearing
from orchestrator.store import Store, backup, upgrade
from tests import invariants
from tests.api.conftest import TOKEN, Yard
from tests.api.scheduling.test_scheduling import FakeHost, card
from tests.fakes import FakeDispatch
from tests.workers.builders import TINY, make_tokenizer, prompt_rows, write_rows
from tests.workers.trainer.test_stops import StopsAfter
from workers.attempt_folder import AttemptFolder, yard_root
from workers.trainer.train import train


class Fleet:
    """One server and one host. `opened` is the server as it runs now."""

    def __init__(self, folder: Path, tokenizer: Path) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        self.database = folder / "tuneyard.db"
        self.home = folder / "host"
        self.rows = write_rows(folder / "rows.jsonl", prompt_rows())
        self.now = 1_000.0
        upgrade(f"sqlite:///{self.database}")
        self.open()

    def clock(self) -> float:
        return self.now

    def open(self) -> None:
        """Start the server on the database as it is."""
        url = f"sqlite:///{self.database}"
        self.store, self.dispatch = Store(url), FakeDispatch()
        self.restored = self.store.begin_epoch(self.now)
        settings = Settings(home=self.folder, database=url, token=TOKEN, ray=False)
        clock = self.clock
        controller = Controller(self.store, self.dispatch, settings, clock, Hearing(clock))
        services = Services(
            settings, self.store, self.dispatch, controller, GroupCommit(self.store, controller.clock)
        )
        http = TestClient(create_app(services), headers={"Authorization": f"Bearer {TOKEN}"})
        http.__enter__()  # until close()
        self.yard = Yard(services, http, self.dispatch, now=self.now)
        self.join()

    def join(self, named: bool = True) -> None:
        """named: False: with an agent of a version without uuids."""
        self.host = FakeHost(self.yard, card(0, 2), home=str(self.home), named=named)
        self.host.report()

    def close(self) -> None:
        self.yard.http.__exit__(None, None, None)
        self.yard.services.lanes.close()
        self.yard.services.reports.close()
        invariants.check_all(self.store)
        self.store.close()

    def backup(self) -> Path:
        copy = self.folder / "copy.db"
        backup(f"sqlite:///{self.database}", copy)
        return copy

    def restore(self, copy: Path) -> None:
        """As docs/operating.md has it: stop the server, put the copy in place, start it."""
        self.close()
        for left in self.folder.glob("tuneyard.db-*"):
            left.unlink()
        shutil.copy(copy, self.database)
        self.now += 100
        self.open()

    @property
    def root(self) -> Path:
        """What the host keeps of this database."""
        return yard_root(self.home, self.store.yard())

    def submit(self, **sections: Any) -> int:
        """A tiny job; its id."""
        training = {"steps": 8, "sequence_length": 32, "global_batch": 4, "warmup_ratio": 0.0}
        training |= {"learning_rate": 1e-2, "checkpoint_steps": 2, **sections.pop("training", {})}
        spec = {
            "model": {"config": TINY, "tokenizer": str(self.tokenizer), "dtype": "float32"},
            "data": {"path": str(self.rows)},
            "method": "full",
            "training": training,
            **sections,
        }
        answer = self.yard.http.post("/api/v1/jobs", json={"jobs": [{"spec": spec}], "user": "ada"})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["jobs"][0]["id"])

    def handed(self) -> Assignment:
        """What the last trainer was given."""
        self.host.report()
        self.host.trace()
        return Assignment.model_validate(self.dispatch.started[-1]["assignments"][0])

    def train(self, assignment: Assignment, until: int | None = None) -> Ended:
        """Run it here, to the end or until it is preempted after a step."""
        home = self.root
        attempt = assignment.attempt_id
        folder = AttemptFolder(home, attempt)
        if until is not None:
            folder = StopsAfter(home, attempt, until, "preempted")
        assert folder.claim(assignment)
        return train(assignment, folder, home, self.folder / "out", line_every_s=0.0)

    def ended(self, assignment: Assignment, ended: Ended) -> None:
        """Its agent reports how it ended, and removes its folder."""
        started = {"ts": self.now, "pid": 1, "create_time": 1.0}
        news = {"attempt_id": assignment.attempt_id, "number": assignment.number, "uuid": assignment.uuid}
        self.host.report(attempts=[{**news, "started": started, "ended": ended.model_dump(mode="json")}])
        self.forget(assignment)
        self.yard.now = self.now = self.now + 30
        self.yard.tick()

    def forget(self, assignment: Assignment) -> None:
        """The server has all news of it: the agent removes its folder."""
        AttemptFolder(self.root, assignment.attempt_id).remove()

    def steps(self, assignment: Assignment) -> list[int]:
        """Those that its attempt trained."""
        folder = AttemptFolder(self.root, assignment.attempt_id)
        return [line.step for line in folder.progress()]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def fleet(tmp_path: Path, tokenizer: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, tokenizer)
    yield made
    made.close()
