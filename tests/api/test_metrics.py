"""What a job told of its steps, through the API."""

from __future__ import annotations

import pytest

from jobs.messages.reports import Evaluated
from tests.api.scheduling.test_early_stop import lines
from tests.api.scheduling.test_scheduling import FakeHost, card

PREFIX = "/api/v1"


def told(yard) -> None:
    """A job with lines at 10, 20, 30 and evaluations at 20 and 25; the loss at 20, and at 25, is no number."""
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="one")
    host.trace()
    news = lines(1, 10, 2.0)
    news["progress"] += lines(1, 20, None)["progress"] + lines(1, 30, 1.0)["progress"]
    tests = [Evaluated(ts=5.0, step=20, loss=3.0), Evaluated(ts=6.0, step=25, loss_text="inf")]
    news["evaluations"] = [test.model_dump(mode="json") for test in tests]
    host.report(attempts=[news])


def test_metrics_are_by_step_and_say_what_is_no_number(yard):
    told(yard)
    found = yard.http.get(f"{PREFIX}/jobs/one/metrics").json()
    assert (found["job"], found["name"], found["state"], found["total"]) == (1, "one", "running", 4)
    shown = [(p["step"], p["loss"], p["eval_loss"], p["not_finite"]) for p in found["points"]]
    assert shown == [
        (10, 2.0, None, {}),
        (20, None, 3.0, {"loss": "nan"}),
        (25, None, None, {"eval_loss": "inf"}),
        (30, 1.0, None, {}),
    ]
    assert {p["attempt"] for p in found["points"]} == {1}
    job = yard.http.get(f"{PREFIX}/jobs/1").json()
    assert job["evaluation"] == {"step": 25, "loss": None, "loss_text": "inf"}


@pytest.mark.parametrize(
    ("query", "steps"),
    [("every=2", [10, 25, 30]), ("last=2", [25, 30]), ("every=3&last=1", [30]), ("every=99", [10, 30])],
)
def test_metrics_are_cut_as_asked_and_keep_the_last(yard, query, steps):
    told(yard)
    found = yard.http.get(f"{PREFIX}/jobs/1/metrics?{query}").json()
    assert ([point["step"] for point in found["points"]], found["total"]) == (steps, 4)


def test_a_job_that_has_told_nothing_has_no_points(yard):
    yard.submit(name="one")
    assert yard.http.get(f"{PREFIX}/jobs/1/metrics").json()["points"] == []
    assert yard.http.get(f"{PREFIX}/jobs/2/metrics").status_code == 404
    for query in ("every=0", "last=0", "last=x"):
        answer = yard.http.get(f"{PREFIX}/jobs/1/metrics?{query}")
        assert answer.status_code == 422 and query.partition("=")[0] in answer.json()["error"]["message"]
