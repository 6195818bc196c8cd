"""A crash of any process costs at most the steps since the last checkpoint."""

from __future__ import annotations

import json

import psutil
import pytest

from tests.acceptance.conftest import Fleet

pytestmark = pytest.mark.acceptance


def recorded(fleet: Fleet, name: str) -> psutil.Process:
    return psutil.Process(json.loads((fleet.home / "run" / f"{name}.json").read_text())["pid"])


def test_training_goes_on_while_the_server_is_killed_and_comes_back(fleet: Fleet):
    job = fleet.submit("orphan", training={"steps": 80})
    fleet.wait(job, lambda shown: bool(shown["progress"]))
    trainer = fleet.trainer(job)
    recorded(fleet, "server").kill()
    assert fleet.run("list").returncode == 1
    assert trainer.is_running()
    assert fleet.up("--port", "0").returncode == 0  # any free one: that which the agent asks
    shown = fleet.end(job)
    assert shown["state"] == "succeeded", fleet.logs(job)
    assert [attempt["outcome"] for attempt in shown["attempts_detail"]] == ["succeeded"]
    assert shown["attempts_detail"][0]["steps"] == 80


def test_the_agents_crash_is_survived(fleet: Fleet):
    job = fleet.submit("unwatched", training={"steps": 80})
    fleet.wait(job, lambda shown: bool(shown["progress"]))
    recorded(fleet, "host").kill()
    assert fleet.up().returncode == 0
    shown = fleet.end(job)
    assert shown["state"] == "succeeded", fleet.logs(job)


def test_after_the_death_of_rays_head_new_jobs_start_on_another(fleet: Fleet):
    heads = [
        process
        for process in psutil.process_iter(["cmdline"])
        if any("gcs_server" in word for word in process.info["cmdline"] or [])
        and process.environ().get("TUNEYARD_HOME") == str(fleet.home)
    ]
    assert len(heads) == 1
    heads[0].kill()
    job = fleet.submit("reborn", training={"steps": 3})
    shown = fleet.end(job)
    assert shown["state"] == "succeeded", fleet.logs(job)


def test_a_dispatcher_that_hangs_is_replaced_and_the_job_has_used_no_attempt(fleet: Fleet):
    children = recorded(fleet, "server").children()
    (hung,) = [one for one in children if "orchestrator.dispatch.ray_driver" in one.cmdline()]
    hung.suspend()
    job = fleet.submit("patient", training={"steps": 3})
    shown = fleet.end(job, 150)
    assert shown["state"] == "succeeded", fleet.logs(job)
    assert [attempt["outcome"] for attempt in shown["attempts_detail"]] == ["succeeded"]
    assert not hung.is_running()
