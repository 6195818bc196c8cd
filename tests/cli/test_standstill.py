"""A trainer that stands still, as people read it."""

from __future__ import annotations

from typing import Any

from orchestrator.cli.commands.jobs.show import _checkpoint, _resumed, _summary
from orchestrator.cli.render import words
from orchestrator.cli.render.table import Cell
from tests.cli import scenes
from tests.cli.fake_server import FakeServer


def test_it_says_since_when_and_gives_no_time_to_go(server: FakeServer) -> None:
    job: Any = scenes.running(server)
    job["progress"] |= {"stalled": True, "age_s": 252.0, "step_s": 1.0, "eta_s": None, "tokens_per_s": None}
    assert words.eta(job, 0.0) == "no step 4m12s"
    told = dict(_summary(job, 0.0))["progress"]
    text = told.text if isinstance(told, Cell) else told
    assert text.endswith("; last step 4m12s ago, a step takes 1.00 s: it may hang")
    assert "to go" not in text and "tokens/s" not in text


def test_where_an_attempt_went_on_from() -> None:
    def attempt(number: int, resumed: dict[str, Any] | None) -> Any:
        return {"number": number, "resumed": resumed}

    assert _resumed(attempt(1, None)) == _resumed(attempt(1, {"step": None})) == ""
    assert _resumed(attempt(2, {"step": None})) == "at step 0"
    assert _resumed(attempt(2, {"step": 600})) == "after step 600"
    assert _resumed(attempt(1, {"step": 600, "job_id": 7})) == "after step 600 of job 7"


def test_checkpoints_with_their_size_or_as_damaged() -> None:
    one = {"step": 600, "bytes": 12 << 20, "ts": 0.0, "whole": True}
    assert _checkpoint(one, 120.0) == "step 600, 12 MiB, checksums taken 2m ago"
    assert _checkpoint({**one, "whole": False}, 0.0) == "step 600 is damaged"
