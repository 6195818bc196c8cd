"""A restore by docs/operating.md: an id that the backup did not know goes to a job that has nothing of the first."""

from __future__ import annotations

import json

import pytest

from tests.acceptance.conftest import Fleet

pytestmark = pytest.mark.acceptance


def test_the_next_job_begins_at_step_1(fleet: Fleet):
    copy = fleet.home / "copy.db"
    fleet.json("db", "backup", str(copy))
    first = fleet.submit("lost", training={"steps": 5000, "checkpoint_steps": 5})
    fleet.wait(first, lambda shown: bool(shown["progress"]) and shown["progress"]["step"] >= 12)
    assert fleet.run("cancel", str(first)).returncode == 0
    fleet.end(first)
    assert fleet.run("down").returncode == 0
    restored = fleet.run("db", "restore", str(copy))
    assert restored.returncode == 0, restored.stderr
    up = fleet.up()
    assert up.returncode == 0, up.stdout + up.stderr
    second = fleet.submit("another", training={"steps": 6})  # the same in all that decides the weights
    assert second == first
    shown = fleet.end(second)
    assert shown["state"] == "succeeded", fleet.logs(second)
    (attempt,) = shown["attempts_detail"]
    assert attempt["steps"] == 6 and attempt["resumed"]["step"] is None
    told = json.loads(fleet.run("doctor", "--json").stdout)
    checks = {check["name"]: check for check in told["checks"]}
    assert f"job {first} " in checks["set aside"]["found"] or f"id {first} " in checks["set aside"]["found"]
    assert any(fleet.home.glob("host/*/aside/job-*/checkpoints/step-*"))
