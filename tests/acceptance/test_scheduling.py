"""Preemption on a real fleet: a job gives its card to one of higher priority and goes on where it was."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Fleet, processes_of
from tests.workers.builders import make_tokenizer, prompt_rows, write_rows

pytestmark = pytest.mark.acceptance


@pytest.fixture
def small_fleet(tmp_path: Path) -> Iterator[Fleet]:
    """One card, and nobody is left alone for long."""
    make_tokenizer(tmp_path / "tokenizer")
    write_rows(tmp_path / "rows.jsonl", prompt_rows(64))
    with tempfile.TemporaryDirectory(prefix="ty-", ignore_cleanup_errors=True) as folder:
        environment = {**os.environ, "TUNEYARD_HOME": folder, "TUNEYARD_MIN_RUN": "2s"}
        made = Fleet(Path(folder), tmp_path, environment)
        try:
            up = made.run("up", "--port", "0", "--cpu-cards", "700MiB")
            assert up.returncode == 0, up.stdout + up.stderr
            yield made
        finally:
            made.run("down")
            logs = [made.home / "server.log", made.home / "host.log"]
            print(*(log.read_text()[-3000:] for log in logs if log.exists()))
        assert not processes_of(made.home)


def test_a_high_job_takes_the_card_of_a_low_one_which_goes_on_from_its_checkpoint(small_fleet: Fleet):
    fleet = small_fleet
    low = fleet.submit("low", priority="low", retries=0, training={"steps": 120, "checkpoint_steps": 1000})
    fleet.wait(low, lambda shown: bool(shown["progress"]) and shown["progress"]["step"] >= 2)
    high = fleet.submit("high", priority="high", training={"steps": 3})
    waiting = fleet.wait(high, lambda shown: shown["reason"]["code"] != "new")
    assert waiting["reason"]["code"] in ("busy", "room", "starting", "training"), waiting["reason"]

    ended_high = fleet.end(high)
    assert ended_high["state"] == "succeeded", fleet.logs(high)
    ended_low = fleet.end(low)
    assert ended_low["state"] == "succeeded", fleet.logs(low)

    first, second = ended_low["attempts_detail"]
    (only,) = ended_high["attempts_detail"]
    assert (first["outcome"], second["outcome"], only["outcome"]) == ("preempted", "succeeded", "succeeded")
    assert first["last_checkpoint"], "it was to save before it stopped"
    assert first["ended_at"] <= only["opened_at"] and only["ended_at"] <= second["opened_at"]
    assert only["gpus"] == first["gpus"] == second["gpus"]
    assert second["steps"] == 120 and 2 <= first["steps"] < 120
    with sqlite3.connect(fleet.home / "tuneyard.db") as database:
        (begun,) = database.execute(
            "SELECT min(step) FROM progress WHERE attempt_id = ?", [second["id"]]
        ).fetchone()
    assert begun == first["steps"] + 1, "the second attempt did not go on where the first one was"
    told = [event["text"] for event in ended_low["events"] if event["kind"] == "stop_requested"]
    assert len(told) == 1 and f"job {high}" in told[0]
