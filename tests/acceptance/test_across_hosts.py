"""A gang over two hosts: two agents on this machine, each with a folder, a raylet and one CPU card of its own."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.conftest import JOB_S, TUNEYARD, Fleet, processes_of
from tests.workers.builders import make_tokenizer, prompt_rows, write_rows

# Eight processes with torch in them start on the way, one core each at best.
pytestmark = pytest.mark.acceptance
GANG = {"gpus": 2, "across_hosts": True}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Path]]:
    """A fleet of two hosts, and the home of the second."""
    inputs = tmp_path_factory.mktemp("inputs")
    make_tokenizer(inputs / "tokenizer")
    write_rows(inputs / "rows.jsonl", prompt_rows(64))
    with (
        tempfile.TemporaryDirectory(prefix="ty-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryDirectory(prefix="ty2-", ignore_cleanup_errors=True) as other,
    ):
        made = Fleet(Path(folder), inputs, {**os.environ, "TUNEYARD_HOME": folder})
        agent: subprocess.Popen[bytes] | None = None
        try:
            up = made.run("up", "--port", "0", "--cpu-cards", "700MiB", "--warm", "0")
            assert up.returncode == 0, up.stdout + up.stderr
            config = json.loads((made.home / "config.json").read_text())
            command = [TUNEYARD, "host", "run", "--server", config["url"], "--token", config["token"]]
            command += ["--name", "second", "--cpu-cards", "700MiB", "--warm", "0"]
            with (inputs / "second.log").open("w") as log:
                environment = {**os.environ, "TUNEYARD_HOME": other}
                agent = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            wait(lambda: len([host for host in made.json("hosts")["hosts"] if host["ray_ready"]]) == 2)
            yield made, Path(other)
        finally:
            if agent is not None:
                agent.terminate()
                agent.wait(60)
            made.run("down")
            logs = [made.home / "server.log", made.home / "host.log", inputs / "second.log"]
            print(*(log.read_text()[-3000:] for log in logs if log.exists()))
        wait(lambda: not processes_of(made.home) and not processes_of(Path(other)))


def wait(until: Any, timeout_s: float = JOB_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_it_trains_on_both_and_the_result_is_on_the_lead(two: tuple[Fleet, Path]):
    fleet, other = two
    job = fleet.submit("wide", method="full", resources=GANG, training={"steps": 12})
    shown = fleet.end(job)
    assert shown["state"] == "succeeded", fleet.logs(job)
    (attempt,) = shown["attempts_detail"]
    assert len(attempt["hosts"]) == 2 and attempt["hosts"][1] == "second"
    assert [gpu["host"] for gpu in attempt["gpus"]] == attempt["hosts"]
    assert attempt["last_loss"] < attempt["first_loss"] and attempt["steps"] == 12
    assert (Path(attempt["result"]) / "manifest.json").is_file()
    assert Path(attempt["result"]).is_relative_to(fleet.home)
    kept = f"host/*/jobs/{job}/logs/attempt-{attempt['id']}.txt"
    wait(lambda: list(other.glob(kept)))
    (log,) = other.glob(kept)
    assert "ended: succeeded 12 steps" in log.read_text(), "the rank on the second host did not train along"
    assert all(gpu["job"] is None for gpu in fleet.json("gpus")["gpus"])


def test_a_rank_that_dies_on_the_other_host_is_named_and_all_goes_on_from_the_checkpoint(
    two: tuple[Fleet, Path],
):
    fleet, other = two
    training = {"steps": 100, "checkpoint_steps": 5}
    job = fleet.submit("struck", method="full", resources=GANG, training=training)
    fleet.wait(job, lambda shown: bool(shown["progress"]) and shown["progress"]["step"] >= 15)
    attempt = fleet.show(job)["attempts_detail"][0]["id"]
    (started,) = other.glob(f"host/*/attempts/{attempt}/started.json")
    pid = json.loads(started.read_text())["pid"]
    psutil.Process(pid).kill()
    killed = time.monotonic()
    fleet.wait(job, lambda shown: shown["attempts_detail"][0]["outcome"] is not None)
    took_s = time.monotonic() - killed
    assert took_s < 45, "the others were to end at once, not by a time limit"
    shown = fleet.end(job)
    assert shown["state"] == "succeeded", fleet.logs(job)
    first, second = shown["attempts_detail"]
    assert first["outcome"] == "lost", first["message"]
    assert first["message"].startswith(f"rank 1 on second: the trainer process (pid {pid})")
    assert first["last_checkpoint"] and first["hosts"] == second["hosts"]
    with sqlite3.connect(fleet.home / "tuneyard.db") as database:
        (begun,) = database.execute(
            "SELECT min(step) FROM progress WHERE attempt_id = ?", [second["id"]]
        ).fetchone()
    assert begun > 10, "the second attempt began again"
    copies = other.glob(f"host/*/jobs/{job}/checkpoints/step-*")
    assert list(copies), "the second host had the lead's checkpoint to resume from"
