"""`make bench-agents` on a small fleet: every card gets busy, every report is answered."""

from __future__ import annotations

import json

import pytest

from benchmarks.agents.__main__ import main


@pytest.mark.timeout(300)
def test_a_small_fleet_is_measured(capfd: pytest.CaptureFixture[str]) -> None:
    main(["--hosts", "3", "--cards", "2", "--queued", "20", "--seconds", "3"])
    result = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (result["bench"], result["busy"], result["errors"], result["lists_failed"]) == ("agents", 6, 0, 0)
    assert 0 < result["reports_per_s"] <= 4 and 0 < result["p50_ms"] <= result["p99_ms"]
    assert result["list_s"] > 0 and result["server_ms_a_report"] > 0
