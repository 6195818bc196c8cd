"""The server that leads is killed under a job in training: another takes over, with a Ray head of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from orchestrator.server.local_cluster import end_ray_head
from tests.acceptance.conftest import TUNEYARD, Fleet, processes_of
from tests.server.servers import until
from tests.workers.builders import make_tokenizer, prompt_rows, write_rows

pytestmark = pytest.mark.acceptance
TOKEN = "the-token-that-all-of-them-have"


class Two:
    """Two homes with a server each, one database, and one host that knows of both."""

    def __init__(self, folder: Path, inputs: Path) -> None:
        self.folder, self.database = folder, f"sqlite:///{folder / 'both.db'}"
        self.started: list[subprocess.Popen[bytes]] = []
        self.fleet = Fleet(folder / "a", inputs, {})

    def run(self, home: str, *command: str) -> subprocess.Popen[bytes]:
        (self.folder / home).mkdir(exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TUNEYARD_")}
        environment = {**inherited, "TUNEYARD_HOME": str(self.folder / home)}
        with (self.folder / f"{home}-{command[0]}.log").open("ab") as log:
            child = subprocess.Popen([TUNEYARD, *command], env=environment, stdout=log, stderr=log)
        self.started.append(child)
        return child

    def serve(self, home: str) -> tuple[subprocess.Popen[bytes], str]:
        child = self.run(home, "serve", "--port", "0", "--token", TOKEN, "--database", self.database)
        config = self.folder / home / "config.json"
        until(config.exists)
        url = self.url_of(home)
        until(lambda: httpx.get(f"{url}/api/v1/health").status_code == 200)
        return child, url

    def url_of(self, home: str) -> str:
        return str(json.loads((self.folder / home / "config.json").read_text())["url"])

    def look_at(self, url: str) -> Fleet:
        """The command line against that server."""
        environment = {**os.environ, "TUNEYARD_URL": url, "TUNEYARD_TOKEN": TOKEN}
        environment["TUNEYARD_HOME"] = str(self.folder / "a")
        return Fleet(self.folder / "a", self.fleet.inputs, environment)

    def close(self) -> None:
        for child in reversed(self.started):
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(40)
            child.kill()
            child.wait()
        for home in ("a", "b"):
            end_ray_head(self.folder / home)
        left = [process for home in ("a", "b") for process in processes_of(self.folder / home)]
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    make_tokenizer(tmp_path / "tokenizer")
    write_rows(tmp_path / "rows.jsonl", prompt_rows(256))
    with tempfile.TemporaryDirectory(prefix="ty-", ignore_cleanup_errors=True) as folder:
        made = Two(Path(folder), tmp_path)
        try:
            yield made
        finally:
            made.close()
            for log in sorted(Path(folder).glob("*.log")):
                print(log.name, log.read_text()[-3000:])


def test_training_goes_on_under_another_server_and_new_jobs_start_there(two: Two) -> None:
    first, url_a = two.serve("a")
    _, url_b = two.serve("b")
    two.run(
        "a", "host", "run", "--server", f"{url_a},{url_b}", "--token", TOKEN, "--cpu-cards", "700MiB,700MiB"
    )
    fleet = two.look_at(url_a)
    job = fleet.submit("carried-on", training={"steps": 80})
    fleet.wait(job, lambda shown: bool(shown["progress"]))
    first.kill()
    killed_at = time.monotonic()
    fleet = two.look_at(url_b)
    health = f"{url_b}/api/v1/health"
    until(lambda: httpx.get(health).json()["leader"]["leads"])
    assert time.monotonic() - killed_at < 10
    other = fleet.submit("new", training={"steps": 3})
    assert fleet.end(other, 300)["state"] == "succeeded", fleet.logs(other)
    shown = fleet.end(job, 300)
    assert shown["state"] == "succeeded", fleet.logs(job)
    assert [attempt["outcome"] for attempt in shown["attempts_detail"]] == ["succeeded"]
    assert shown["attempts_detail"][0]["steps"] == 80
