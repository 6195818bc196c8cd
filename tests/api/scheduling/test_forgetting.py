"""A job that waits because of what others measured says so, and starts once that is forgotten."""

from __future__ import annotations

from jobs.state import Outcome
from jobs.units import GiB
from orchestrator.api.app import PREFIX
from tests.api.conftest import Yard
from tests.api.scheduling.test_preemption import later
from tests.api.scheduling.test_scheduling import FakeHost, card, end, job

FORGET = f"{PREFIX}/accuracy/forget"


def ran_out(yard: Yard, host: FakeHost, attempt_id: int, number: int = 1) -> None:
    host.report(attempts=end(attempt_id, number, Outcome.OOM, step_s=1.0, device_bytes=1, allocated_bytes=1))
    yard.tick()


def test_what_ran_out_once_is_named_and_can_be_forgotten(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    fixed = {"memory": {"checkpointing": "off", "micro_batch": 1}}  # there is no smaller rung
    yard.submit(name="first", **fixed)
    host.trace()
    device = job(yard)["attempts_detail"][0]["projection"]["device_bytes"]
    yard.http.post(f"{PREFIX}/jobs/1/cancel")
    host.report(attempts=end(1, 1, Outcome.CANCELLED))
    yard.http.post(f"{PREFIX}/hosts/h1/drain", json={"drained": True})
    small = FakeHost(yard, card(1, device * 1.3 / GiB), name="h2")
    small.report()
    yard.submit(name="endless", **fixed)
    yard.tick()
    assert job(yard, 2)["host"] == "h2", job(yard, 2)["reason"]
    ran_out(yard, small, 2)
    yard.http.post(f"{PREFIX}/jobs/2/cancel")
    yard.submit(name="well", **fixed)
    later(yard, small, by=1)
    reason = job(yard, 3)["reason"]
    assert reason["code"] == "memory", reason
