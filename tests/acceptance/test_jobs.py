"""Jobs from submit to their end, on a real fleet."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors import safe_open

from jobs.cards import card_for
from jobs.memory.profile import MemoryProfile
from jobs.memory.project import Rung, project
from jobs.units import GiB, MiB
from orchestrator.store import Store
from tests import invariants
from tests.acceptance.conftest import COMMAND_S, TUNEYARD, Fleet, processes_of

pytestmark = pytest.mark.acceptance


@contextmanager
def another_host(fleet: Fleet, log: Path, name: str, *flags: str, **environment: str) -> Iterator[Path]:
    """A second host of the fleet, joined with one command; its home. It leaves no process behind."""
    config = json.loads((fleet.home / "config.json").read_text())
    with tempfile.TemporaryDirectory(prefix="ty2-", ignore_cleanup_errors=True) as folder:
        command = [TUNEYARD, "host", "run", "--server", config["url"], "--token", config["token"]]
        command += ["--name", name, "--warm", "0", *flags]
        with log.open("w") as file:
            has = {**os.environ, **environment, "TUNEYARD_HOME": folder}
            agent = subprocess.Popen(command, env=has, stdout=file, stderr=file)
        try:
            yield Path(folder)
        finally:
            agent.terminate()
            agent.wait(40)
        deadline = time.monotonic() + 10
        while (left := processes_of(Path(folder))) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not left


def test_a_job_trains_and_leaves_an_adapter_with_projected_beside_measured(fleet: Fleet, tmp_path: Path):
    job = fleet.submit("lora", method={"kind": "lora", "rank": 4}, training={"steps": 12})
    shown = fleet.end(job)
    assert shown["state"] == "succeeded", fleet.logs(job)
    (attempt,) = shown["attempts_detail"]
    assert attempt["last_loss"] < attempt["first_loss"]
    assert attempt["steps"] == 12
    assert attempt["measured"]["device_bytes"] > 0
    assert attempt["measured"]["device_bytes"] <= attempt["projection"]["upper_bytes"]
    assert attempt["measured"]["step_s"] > 0
    result = Path(attempt["result"])
    manifest = json.loads((result / "manifest.json").read_text())
    assert "adapter_model.safetensors" in json.dumps(manifest)
    with safe_open(result / "adapter_model.safetensors", "pt") as file:
        assert any("lora_A" in name for name in file.keys())  # noqa: SIM118  # safe_open is no mapping
    events = [event["kind"] for event in shown["events"]]
    assert events[0] == "submitted" and events[-1] == "succeeded"
    assert "12" in fleet.logs(job)
    pulled = fleet.run("pull", str(job), str(tmp_path / "here"))
    assert pulled.returncode == 0, pulled.stdout + pulled.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()} == {
        path.name: path.read_bytes() for path in result.iterdir()
    }


def test_the_tiny_example_trains_as_it_was_written(fleet: Fleet, tmp_path: Path):
    offline = {**fleet.environment, "HF_HUB_OFFLINE": "1"}
    for arguments in (("init", "--example", "tiny"), ("submit", "tiny/job.yaml")):
        done = subprocess.run(
            [TUNEYARD, *arguments],
            env=offline,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    shown = fleet.end(fleet.json("list", "--limit", "1")["jobs"][0]["id"])
    assert (shown["name"], shown["state"]) == ("tiny", "succeeded"), fleet.logs(shown["id"])
    (attempt,) = shown["attempts_detail"]
    assert attempt["steps"] == 40 and attempt["last_loss"] < attempt["first_loss"] / 2


def test_a_gang_trains_on_two_cards_of_one_host(fleet: Fleet):
    job = fleet.submit("gang", method="full", resources={"gpus": 2})
    shown = fleet.end(job)
    assert shown["state"] == "succeeded", fleet.logs(job)
    (attempt,) = shown["attempts_detail"]
    assert len({gpu["uuid"] for gpu in attempt["gpus"]}) == 2
    assert attempt["rung"]["micro_batch"] * attempt["rung"]["accumulation"] * 2 == 4
    assert attempt["last_loss"] < attempt["first_loss"]


def test_two_jobs_share_a_card_and_each_is_held_to_its_part_of_it(fleet: Fleet):
    wanted = {"share": True, "card": "2.00 GiB"}
    jobs = [fleet.submit(f"beside{n}", training={"steps": 40}, resources=wanted) for n in (1, 2)]
    for job in jobs:
        fleet.wait(job, lambda shown: shown["state"] == "running")
    assert [gpu["jobs"] for gpu in fleet.json("gpus")["gpus"] if gpu["jobs"]] == [jobs]
    attempts = [fleet.end(job)["attempts_detail"][-1] for job in jobs]
    assert [attempt["outcome"] for attempt in attempts] == ["succeeded"] * 2, [*map(fleet.logs, jobs)]
    assert len({attempt["gpus"][0]["uuid"] for attempt in attempts}) == 1
    for attempt in attempts:
        assert attempt["measured"]["device_bytes"] <= attempt["projection"]["upper_bytes"]


def test_samples_of_the_card_are_stored_against_the_attempt(fleet: Fleet):
    job = fleet.submit("sampled", training={"steps": 40})
    shown = fleet.end(job)
    attempt = shown["attempts_detail"][0]
    with sqlite3.connect(fleet.home / "tuneyard.db") as database:
        rows = database.execute(
            "SELECT memory_used_bytes, utilization FROM samples WHERE attempt_id = ?", [attempt["id"]]
        ).fetchall()
    assert len(rows) >= 1
    assert max(memory or 0 for memory, _ in rows) > 0


def test_cancel_stops_a_running_job_at_a_checkpoint_and_frees_its_card(fleet: Fleet):
    job = fleet.submit("endless", training={"steps": 100_000})
    fleet.wait(job, lambda shown: bool(shown["progress"]))
    trainer = fleet.trainer(job)
    assert trainer.nice() == psutil.Process().nice(), "Ray made it give way to everything else"
    assert fleet.run("cancel", str(job)).returncode == 0
    shown = fleet.end(job)
    assert shown["state"] == "cancelled"
    assert shown["attempts_detail"][0]["last_checkpoint"]
    trainer.wait(10)
    assert all(gpu["job"] is None for gpu in fleet.json("gpus")["gpus"])


def test_a_killed_trainer_goes_on_from_its_last_checkpoint(fleet: Fleet):
    job = fleet.submit("killed", training={"steps": 200, "checkpoint_steps": 10})
    fleet.wait(job, lambda shown: bool(shown["progress"]) and shown["progress"]["step"] >= 25)
    fleet.trainer(job).kill()
    shown = fleet.end(job)
    assert shown["state"] == "succeeded", fleet.logs(job)
    first, second = shown["attempts_detail"]
    assert first["outcome"] == "lost"
    assert second["outcome"] == "succeeded" and second["steps"] == 200
    with sqlite3.connect(fleet.home / "tuneyard.db") as database:
        (begun,) = database.execute(
            "SELECT min(step) FROM progress WHERE attempt_id = ?", [second["id"]]
        ).fetchone()
    assert begun > 10, "the second attempt began again"


def test_a_job_that_runs_out_of_memory_goes_on_a_rung_down_from_its_checkpoint(fleet: Fleet):
    """Profile and lengths in the database are made to lie; everything after that is real."""
    rows = [{"prompt": f"After {i}?", "completion": f" {i + 1}."} for i in range(120)]
    rows[80]["completion"] = " and then" * 200  # in the third batch, which needs what was not projected
    (fleet.inputs / "uneven.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sections = {
        "model": {
            "hidden_size": 256,
            "intermediate_size": 704,
            "num_hidden_layers": 6,
            "num_attention_heads": 8,
        },
        "data": "./uneven.jsonl",
        "method": "full",
        "memory": {"checkpointing": "off"},
        "training": {"sequence_length": 256, "global_batch": 12, "steps": 4, "checkpoint_steps": 1},
        "resources": {"card": "700 MiB"},
    }
    asked = fleet.job_file("greedy", **sections)
    assert fleet.run("plan", str(asked), "--json").returncode in (0, 1)
    with sqlite3.connect(fleet.home / "tuneyard.db", timeout=30) as database:
        stored = database.execute("SELECT key, profile FROM profiles WHERE profile IS NOT NULL").fetchall()
        key, profile = next(
            (key, json.loads(text)) for key, text in stored if json.loads(text)["layers"] == 6
        )
        assert upper_bytes(profile) > 800 * MiB, "the job is meant to be too large for the small card"
        database.execute(
            "UPDATE profiles SET profile = ? WHERE key = ?", [json.dumps(belittled(profile)), key]
        )
        # As if all rows were as long as the longest: else single rows, padded to nothing, are the quickest.
        for key, text in database.execute(
            "SELECT key, lengths FROM data_lengths WHERE lengths IS NOT NULL"
        ).fetchall():
            database.execute("UPDATE data_lengths SET lengths = ? WHERE key = ?", [alike(text), key])
    fleet.run("down")
    cards = [gpu["memory_bytes"] for gpu in fleet.json("up")["gpus"]]  # as it was begun, without a word
    assert cards == [700 * MiB, 700 * MiB, 2 * GiB]
    done = fleet.run("submit", str(asked), "--wait", "--json")
    (job,) = (shown["id"] for shown in fleet.json("list")["jobs"] if shown["name"] == "greedy")
    shown = fleet.show(job)
    assert (done.returncode, shown["state"]) == (0, "succeeded"), (shown, fleet.logs(job))
    first, second = shown["attempts_detail"]
    assert first["outcome"] == "oom" and first["last_checkpoint"] and first["steps"] >= 1
    assert "can't allocate memory" in first["message"]
    assert first["rung"]["micro_batch"] == 12 and second["rung"]["micro_batch"] < 12
    assert second["rung"]["micro_batch"] * second["rung"]["accumulation"] == 12
    assert second["outcome"] == "succeeded" and second["steps"] == 4
    with sqlite3.connect(fleet.home / "tuneyard.db") as database:
        (begun,) = database.execute(
            "SELECT min(step) FROM progress WHERE attempt_id = ?", [second["id"]]
        ).fetchone()
    assert begun == first["steps"] + 1, "the second attempt did not go on where the first one was"
    worst = fleet.json("accuracy")["worst"][0]
    assert (worst["job"], worst["outcome"], worst["covered"]) == (job, "oom", False)


def alike(text: str) -> str:
    """Lengths of data, all of them those of the longest row."""
    found = json.loads(text)
    tokens = found["longest"] * found["count"]
    return json.dumps(found | {"tokens": tokens, "bins": [[found["longest"], found["count"], tokens]]})


def upper_bytes(profile: dict[str, Any]) -> int:
    """What the job above is projected to stay under at its whole batch."""
    card = card_for("cpu", "cpu", 700 * MiB)
    made = MemoryProfile.from_dict(profile)
    return project(made, Rung(0, 12, 1), sequence_length=256, card=card).upper_bytes


def belittled(profile: dict[str, Any]) -> dict[str, Any]:
    """The profile with as much taken off its activations as makes the job seem to fit."""
    for percent in range(95, 0, -5):
        made = json.loads(json.dumps(profile))
        for found in made["passes"].values():
            for segment in found.values():
                for line in (segment["delta"], *segment["peaks"], *segment["of_layers"].values()):
                    line[:] = [value * percent / 100 for value in line]
        if upper_bytes(made) < 690 * MiB:
            return made
    raise AssertionError("no lie is large enough")


def test_a_second_host_joins_with_one_command_and_gets_work(fleet: Fleet, tmp_path: Path):
    log = tmp_path / "host.log"
    with another_host(fleet, log, "second", "--cpu-cards", "1GiB", "--label", "rack=b") as home:
        job = fleet.submit("elsewhere", resources={"labels": {"rack": "b"}})
        shown = fleet.end(job)
        assert shown["state"] == "succeeded", fleet.logs(job) + log.read_text()
        assert shown["host"] == "second"
        assert Path(shown["attempts_detail"][0]["result"]).is_relative_to(home)
    hosts = {host["name"]: host["state"] for host in fleet.json("hosts")["hosts"]}
    assert hosts["second"] == "stopped"


def test_a_host_whose_library_is_broken_rests_and_its_job_goes_elsewhere(fleet: Fleet, tmp_path: Path):
    """The smallest card is that of a host on which no trainer can be imported."""
    (tmp_path / "broken" / "trl").mkdir(parents=True)
    (tmp_path / "broken" / "trl" / "__init__.py").write_text(
        "raise ImportError('libfoo.so.6: cannot open shared object file')\n"
    )
    asked = fleet.job_file("poisoned")
    assert fleet.run("plan", str(asked)).returncode == 0  # traced by the host that can
    log, broken = tmp_path / "host.log", str(tmp_path / "broken")
    with another_host(fleet, log, "broken", "--cpu-cards", "600MiB", PYTHONPATH=broken):
        deadline = time.monotonic() + 60
        while not any(
            host["name"] == "broken" and host["ray_ready"] for host in fleet.json("hosts")["hosts"]
        ):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        job = int(fleet.json("submit", str(asked))["jobs"][0]["id"])
        shown = fleet.end(job)
        assert shown["state"] == "succeeded", fleet.logs(job) + log.read_text()
        first, *_, last = shown["attempts_detail"]
        assert (first["host"], first["outcome"]) == ("broken", "host_fault")
        assert "libfoo.so.6" in first["message"]
        assert last["host"] != "broken" and last["outcome"] == "succeeded"
        (host,) = [host for host in fleet.json("hosts")["hosts"] if host["name"] == "broken"]
        assert (host["state"], "libfoo.so.6" in host["fault"]) == ("faulty", True)


def test_what_must_always_hold_holds_at_the_end(fleet: Fleet):
    store = Store(f"sqlite:///{fleet.home / 'tuneyard.db'}")
    invariants.check_all(store)
    store.close()
