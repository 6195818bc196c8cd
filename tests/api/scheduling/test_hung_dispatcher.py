"""Whatever the dispatcher does, the tick goes on; once another took over the job starts, and has used up nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.dispatch.dispatcher import DispatchProcess
from tests.api.conftest import Yard
from tests.api.scheduling.test_preemption import starts
from tests.api.scheduling.test_scheduling import FakeHost, card, job
from tests.dispatch.conftest import Under, until

TICK_S = 5.0  # one takes milliseconds; at load 10 still less than this


@pytest.fixture
def under(tmp_path: Path) -> Iterator[Under]:
    made = Under(tmp_path)
    yield made
    made.close()


def serve_with(yard: Yard, made: DispatchProcess) -> None:
    """The controller hands to this one from now on."""
    services = yard.services
    services.dispatch = services.controller.dispatch = services.controller.handover._dispatch = made


def ticks(yard: Yard, host: FakeHost) -> None:
    host.report()
    began = time.monotonic()
    yard.tick()
    assert time.monotonic() - began < TICK_S
    yard.now += 1
    time.sleep(0.05)


@pytest.mark.parametrize("how", ["is stopped", "blocks in ray.init", "takes no command"])
def test_the_job_starts_once_another_took_over_and_has_used_no_attempt(
    yard: Yard, under: Under, how: str
) -> None:
    mode = {"blocks in ray.init": "init hangs", "takes no command": "takes none"}.get(how, "well")
    made = under.open(mode, "well", waiting=2)
    serve_with(yard, made)
    host = FakeHost(yard, card(0, 2))
    if how != "blocks in ray.init":
        until(lambda: made.state().ready, "it did not come up")
    if how == "is stopped":
        under.stop(made)
    if how == "takes no command":
        parts: list[Any] = ["x" * 200_000]
        while made.start(99, parts):
            pass  # the pipe is full, and so is the queue
    yard.submit(retries=0)
    host.trace()
    if how == "takes no command":
        for _ in range(3):
            ticks(yard, host)
        assert not made.start(99, parts), "nothing of it is taken"
        os.kill(under.pid(made), signal.SIGKILL)
    said: list[dict[str, Any]] = []

    def begun() -> bool:
        ticks(yard, host)
        said.extend(made.events())
        return {"event": "started", "attempt_id": 1} in said

    # The controller takes events, too: here nobody but the test does.
    yard.services.controller._take_reports = lambda now: None  # type: ignore[method-assign]
    until(begun, "it was handed to nobody")
    del yard.services.controller._take_reports
    starts(yard, host, 1)
    (only,) = job(yard)["attempts_detail"]
    assert (only["number"], only["outcome"], job(yard)["state"]) == (1, None, "running")
    assert all(one["fault"] is None for one in yard.http.get("/api/v1/hosts").json()["hosts"])
