"""The curves route: columns of a job, thinned so that peaks stay."""

from __future__ import annotations

import pytest

from orchestrator.api.routes.watching.curves import thinned
from orchestrator.store.rows import ProgressRow
from tests.api.test_metrics import told
from tests.api.watching.test_series import PREFIX, lived_in


def test_curves_are_columns_over_all_attempts(yard):
    told(yard)
    found = yard.http.get(f"{PREFIX}/jobs/one/curves").json()
    assert (found["job"], found["name"], found["state"], found["total"]) == (1, "one", "running", 3)
    assert found["training"]["step"] == [10, 20, 30] and found["training"]["loss"] == [2.0, None, 1.0]
    assert {len(column) for column in found["training"].values()} == {3}
    assert found["evaluation"]["step"] == [20, 25] and found["evaluation"]["loss"] == [3.0, None]


def test_telemetry_is_by_attempt(yard):
    lived_in(yard)
    (one,) = yard.http.get(f"{PREFIX}/jobs/one/curves").json()["telemetry"]
    assert (one["attempt"], sum(one["n"])) == (1, 5)
    assert set(one["values"]) == {"memory_used_bytes", "utilization", "power_w"}


@pytest.mark.parametrize("points", ["4", "2001", "x"])
def test_points_that_can_not_be_are_named(yard, points):
    lived_in(yard)
    answer = yard.http.get(f"{PREFIX}/jobs/one/curves?points={points}")
    assert answer.status_code == 422 and answer.json()["error"]["faults"][0]["path"] == "points"


def line(step: int, loss: float | None, norm: float | None = 1.0) -> ProgressRow:
    numbers = (None, None, None, None, None, None)
    tokens, speed = 0, numbers[0]
    return ProgressRow(1, step, 0.0, 9, loss, None, tokens, speed, *numbers[:4], grad_norm=norm)


@pytest.mark.parametrize("points", [5, 100, 2000])
def test_thinning_keeps_ends_and_peaks_and_no_more_than_asked(points):
    lines = [line(step, 1.0 + step / 1e6) for step in range(10_000)]
    lines[3333] = line(3333, 99.0)
    lines[4444] = line(4444, 0.0)
    lines[5555] = line(5555, None, 77.0)
    kept = thinned(lines, points)
    assert kept == sorted(set(kept)) and len(kept) <= points
    assert {0, 3333, 4444, 5555, 9999} <= set(kept) or points < 100
    assert thinned(lines[:3], points) == [0, 1, 2]
