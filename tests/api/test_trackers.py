"""What a trainer says of a tracker that it goes on without."""

from __future__ import annotations

from tests.api.submission.test_data_lengths import FakeHost, Yard, answers, card, job


def test_a_tracker_that_training_goes_on_without_is_an_event(yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    yard.tick()
    answers(host)
    yard.tick()
    texts = ["wandb: ConnectionError: no route; training goes on without it", "mlflow: it hung"]
    lines = [{"ts": 1.0, "step": at, "total_steps": 16, "tracker": text} for at, text in enumerate(texts, 1)]
    started = {"ts": 0.5, "pid": 1, "create_time": 1.0}
    for _ in range(2):
        host.report(attempts=[{"attempt_id": 1, "number": 1, "started": started, "progress": lines}])
    told = [event["text"] for event in job(yard)["events"] if event["kind"] == "tracker_lost"]
    assert told == texts
