"""A real fleet for the acceptance tests: server, agent, Ray and TRL on this machine, through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.workers.builders import TINY, make_tokenizer, prompt_rows, write_rows

TUNEYARD = str(Path(sys.executable).with_name("tuneyard"))
# These bound a failure, not a success: on a machine that others use, what takes 10 s takes minutes.
COMMAND_S, JOB_S, TEST_S = 300, 400, 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of this folder wait for whole jobs."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(TEST_S))


@dataclass
class Fleet:
    """A tuneyard home with everything up."""

    home: Path
    inputs: Path
    environment: dict[str, str]

    def run(self, *arguments: str, timeout: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [TUNEYARD, *arguments], env=self.environment, capture_output=True, text=True, timeout=timeout
        )

    def up(self, *flags: str) -> subprocess.CompletedProcess[str]:
        return self.run("up", "--cpu-cards", "700MiB,700MiB,2GiB", *flags)

    def json(self, *arguments: str) -> Any:
        """The JSON answer of a verb that must succeed."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def job_file(self, name: str, model: dict[str, Any] | None = None, **sections: Any) -> Path:
        """A small job that trains in seconds; sections are laid over it."""
        training = {
            "steps": 6,
            "sequence_length": 64,
            "global_batch": 4,
            "learning_rate": 0.01,
            "warmup_ratio": 0.0,
        }
        training |= sections.pop("training", {})
        spec = {
            "name": name,
            "model": {"config": {**TINY, **(model or {})}, "tokenizer": "./tokenizer", "dtype": "float32"},
            "data": "./rows.jsonl",
            "training": training,
            **sections,
        }
        path = self.inputs / f"{name}.yaml"
        path.write_text(json.dumps(spec))  # JSON is YAML
        return path

    def submit(self, name: str, **sections: Any) -> int:
        """The id of the submitted job."""
        answer = self.json("submit", str(self.job_file(name, **sections)))
        return int(answer["jobs"][0]["id"])

    def show(self, job: int) -> dict[str, Any]:
        shown: dict[str, Any] = self.json("show", str(job))
        return shown

    def wait(
        self, job: int, until: Callable[[dict[str, Any]], bool], timeout_s: float = JOB_S
    ) -> dict[str, Any]:
        """The job once it is as wanted.

        Asked of the API itself: a command a look takes a core from the job that is waited for.
        """
        deadline = time.monotonic() + timeout_s
        url, headers = self._server()
        with httpx.Client(base_url=url, headers=headers, timeout=COMMAND_S) as http:
            while True:
                answer = http.get(f"/api/v1/jobs/{job}")
                assert answer.status_code == 200, answer.text
                shown: dict[str, Any] = answer.json()
                if until(shown):
                    return shown
                if time.monotonic() > deadline:
                    raise AssertionError(
                        f"job {job} is not as wanted: {json.dumps(shown, indent=1)}\n{self.logs(job)}"
                    )
                time.sleep(0.2)

    def _server(self) -> tuple[str, dict[str, str]]:
        """Where the command line finds the server, and what it shows it."""
        known = {"url": self.environment.get("TUNEYARD_URL"), "token": self.environment.get("TUNEYARD_TOKEN")}
        if None in known.values():
            known = json.loads((self.home / "config.json").read_text())
        return str(known["url"]), {"Authorization": f"Bearer {known['token']}"}

    def end(self, job: int, timeout_s: float = JOB_S) -> dict[str, Any]:
        """The job once it has ended."""
        return self.wait(job, lambda shown: shown["ended_at"] is not None, timeout_s)

    def logs(self, job: int) -> str:
        return self.run("logs", str(job)).stdout

    def trainer(self, job: int) -> psutil.Process:
        """The process that trains the job's open attempt."""
        attempt = self.show(job)["attempts_detail"][-1]["id"]
        (path,) = self.home.glob(f"host/*/attempts/{attempt}/started.json")
        return psutil.Process(json.loads(path.read_text())["pid"])


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process that was started for this home."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get("TUNEYARD_HOME") == str(home)
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    inputs = tmp_path_factory.mktemp("inputs")
    make_tokenizer(inputs / "tokenizer")
    write_rows(inputs / "rows.jsonl", prompt_rows(256))
    with tempfile.TemporaryDirectory(prefix="ty-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        environment = {**os.environ, "TUNEYARD_HOME": str(home)}
        made = Fleet(home, inputs, environment)
        try:
            up = made.up("--port", "0")
            assert up.returncode == 0, up.stdout + up.stderr
            yield made
        finally:
            down = made.run("down")
            left = [" ".join(process.cmdline())[:100] for process in processes_of(home)]
            print((home / "server.log").read_text()[-3000:], (home / "host.log").read_text()[-3000:])
        assert down.returncode == 0, down.stdout + down.stderr
        assert not left, left
