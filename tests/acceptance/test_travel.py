"""A job goes on elsewhere: its checkpoint is fetched from the host that it left, by real agents over a real Ray."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import TUNEYARD, Fleet, processes_of
from tests.acceptance.test_across_hosts import wait
from tests.workers.builders import make_tokenizer, prompt_rows, write_rows

# Trainers start one after the other on the way, each with torch in it, on one core at best.
pytestmark = pytest.mark.acceptance
LONG = {"steps": 3000, "checkpoint_steps": 1000}
SETTINGS = {"TUNEYARD_MIN_RUN": "1s", "TUNEYARD_CARRY_RATE": "1GiB", "TUNEYARD_CPU_THREADS": "1"}


@dataclass
class Two:
    """A fleet of two hosts with a card of 700 MiB each; the second has the label place=second."""

    fleet: Fleet
    other: Path

    @property
    def first(self) -> str:
        names = [one["name"] for one in self.fleet.json("hosts")["hosts"]]
        return next(name for name in names if name != "second")

    def drained(self, name: str, undo: bool = False) -> None:
        done = self.fleet.run("host", "undrain" if undo else "drain", name)
        assert done.returncode == 0, done.stdout + done.stderr

    def first_step(self, attempt: int) -> int:
        """The first that an attempt told of."""
        with sqlite3.connect(self.fleet.home / "tuneyard.db") as database:
            query = "SELECT min(step) FROM progress WHERE attempt_id = ?"
            (begun,) = database.execute(query, [attempt]).fetchone()
        return int(begun)

    def trained(self, job: int, step: int) -> dict[str, Any]:
        """The job once it has done so many steps."""

        def far(shown: dict[str, Any]) -> bool:
            return bool(shown["progress"]) and shown["progress"]["step"] >= step

        return self.fleet.wait(job, far)

    def kept(self, job: int) -> list[str]:
        """Checkpoints of a job, on either host."""
        found = [*self.fleet.home.glob(f"host/*/jobs/{job}/checkpoints/step-*")]
        return [str(path) for path in [*found, *self.other.glob(f"host/*/jobs/{job}/checkpoints/step-*")]]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    inputs = tmp_path_factory.mktemp("inputs")
    make_tokenizer(inputs / "tokenizer")
    write_rows(inputs / "rows.jsonl", prompt_rows(64))
    with (
        tempfile.TemporaryDirectory(prefix="ty-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryDirectory(prefix="ty2-", ignore_cleanup_errors=True) as other,
    ):
        made = Fleet(Path(folder), inputs, {**os.environ, **SETTINGS, "TUNEYARD_HOME": folder})
        agent: subprocess.Popen[bytes] | None = None
        try:
            up = made.run("up", "--port", "0", "--cpu-cards", "700MiB", "--warm", "0")
            assert up.returncode == 0, up.stdout + up.stderr
            config = json.loads((made.home / "config.json").read_text())
            command = [TUNEYARD, "host", "run", "--server", config["url"], "--token", config["token"]]
            command += ["--name", "second", "--cpu-cards", "700MiB", "--warm", "0", "--label", "place=second"]
            with (inputs / "second.log").open("w") as log:
                environment = {**os.environ, **SETTINGS, "TUNEYARD_HOME": other}
                agent = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            wait(lambda: len([host for host in made.json("hosts")["hosts"] if host["ray_ready"]]) == 2)
            yield Two(made, Path(other))
        finally:
            if agent is not None:
                agent.terminate()
                agent.wait(60)
            made.run("down")
            logs = [made.home / "server.log", made.home / "host.log", inputs / "second.log"]
            print(*(log.read_text()[-3000:] for log in logs if log.exists()))
        wait(lambda: not processes_of(made.home) and not processes_of(Path(other)))


def test_a_preempted_job_goes_on_elsewhere_at_the_step_it_had(two: Two) -> None:
    fleet = two.fleet
    two.drained(two.first)
    job = fleet.submit("low", method="full", priority="low", training=LONG)
    two.trained(job, 30)
    assert fleet.show(job)["host"] == "second"
    two.drained(two.first, undo=True)
    here_only = {"labels": {"place": "second"}}
    urgent = fleet.submit("urgent", method="full", priority="high", resources=here_only)
    fleet.wait(job, lambda shown: len(shown["attempts_detail"]) == 2)
    shown = two.trained(job, 31)
    left, went_on = shown["attempts_detail"]
    assert (left["outcome"], left["host"], went_on["host"]) == ("preempted", "second", two.first)
    step = int(Path(left["last_checkpoint"]).name.removeprefix("step-"))
    assert step == left["steps"] >= 30
    fleet.wait(job, lambda _: two.first_step(went_on["id"]) > 0)
    assert two.first_step(went_on["id"]) == step + 1, fleet.logs(job)
    log = fleet.logs(job)
    assert f"checkpoint step-{step:08d} (" in log and "is fetched from host second" in log
    assert f"resuming after step {step} from {fleet.home}" in log
    assert fleet.end(urgent)["state"] == "succeeded", fleet.logs(urgent)
    assert len(two.kept(job)) >= 2, "of a job that goes on, all stay"
    fleet.run("cancel", str(job))
    fleet.end(job)


def test_from_a_drained_host_it_goes_on_elsewhere_and_leaves_nothing_behind(two: Two) -> None:
    """A trainer that dies on a host which takes no new jobs."""
    fleet = two.fleet
    job = fleet.submit("drained", method="full", training={"steps": 500, "checkpoint_steps": 10})
    left = two.trained(job, 25)["attempts_detail"][0]
    home = fleet.home if left["host"] == two.first else two.other
    (started,) = home.glob(f"host/*/attempts/{left['id']}/started.json")
    os.kill(json.loads(started.read_text())["pid"], 9)
    two.drained(left["host"])  # before anybody knows that it died
    shown = fleet.end(job)
    two.drained(left["host"], undo=True)
    assert shown["state"] == "succeeded", fleet.logs(job)
    left, went_on = shown["attempts_detail"]
    assert left["outcome"] == "lost" and left["host"] != went_on["host"]
    assert two.first_step(went_on["id"]) > 20, fleet.logs(job)
    deadline = time.monotonic() + 90
    while left_over := two.kept(job):
        assert time.monotonic() < deadline, left_over
        time.sleep(1)
