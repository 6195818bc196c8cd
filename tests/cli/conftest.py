"""Fixtures of the CLI's tests: a fake server, and `tuneyard` as a real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.fake_server import TOKEN, FakeServer

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "orchestrator.cli.main"]


def heed_ctrl_c() -> None:
    """Before exec: a shell starts background jobs with SIGINT ignored, and the tests may be one of them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Ran:
    """What a finished process left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as exactly one JSON value."""
        return json.loads(self.out)


Tuneyard = Callable[..., Ran]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A clean environment with a home of its own and no server."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TUNEYARD_")}
    return {**kept, "PYTHONPATH": str(ROOT), "TUNEYARD_HOME": str(tmp_path / "home"), "COLUMNS": "200"}


@pytest.fixture
def bare(environment: dict[str, str], tmp_path: Path) -> Tuneyard:
    """Run `tuneyard ARGS` where no server is configured."""

    def run(*args: str, stdin: str = "", **extra: str) -> Ran:
        done = subprocess.run(
            [*COMMAND, *args],
            cwd=tmp_path,
            env={**environment, **extra},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def tuneyard(bare: Tuneyard, server: FakeServer) -> Tuneyard:
    """Run `tuneyard ARGS` against the fake server."""

    def run(*args: str, stdin: str = "", **extra: str) -> Ran:
        return bare(*args, stdin=stdin, **{"TUNEYARD_URL": server.url, "TUNEYARD_TOKEN": TOKEN, **extra})

    return run
