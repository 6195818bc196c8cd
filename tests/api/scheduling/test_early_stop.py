"""A sweep with early_stop: the worst by loss end once all that run have come so far; the rest goes on."""

from __future__ import annotations

from jobs.state import Outcome
from tests.api.scheduling.test_scheduling import FakeHost, card, end, job
from tests.builders import a_line

RATES = [1e-4, 2e-4, 3e-4, 4e-4]


def lines(attempt_id: int, step: int, loss: float | None) -> dict:
    line = a_line(step, loss=loss, total_steps=100)
    started = {"ts": 0.5, "pid": 1, "create_time": 1.0}
    progress = [line.model_dump(mode="json")]
    return {"attempt_id": attempt_id, "number": 1, "started": started, "progress": progress}


def sweep(yard) -> FakeHost:
    """Four jobs that differ in their learning rate, all training."""
    host = FakeHost(yard, *(card(number, 2) for number in range(4)))
    yard.submit(
        matrix={"training.learning_rate": RATES},
        training={"steps": 100},
        sweep={"early_stop": {"after_steps": 20, "keep": 0.5}},
    )
    host.trace()
    assert [job(yard, n)["state"] for n in (1, 2, 3, 4)] == ["running"] * 4
    return host


def stops(host) -> dict[int, str]:
    return {stop["attempt_id"]: stop["reason"] for stop in host.report()["stops"]}


def test_the_worst_half_ends_once_all_have_come_so_far(yard):
    host = sweep(yard)
    losses = {1: 2.0, 2: 1.0, 3: 3.0, 4: 1.5}
    host.report(attempts=[lines(n, 20, losses[n]) for n in (1, 2, 3)] + [lines(4, 10, 9.0)])
    yard.tick()
    assert stops(host) == {}
    host.report(attempts=[lines(4, 25, losses[4])])
    yard.tick()
    assert stops(host) == {1: "cancelled", 3: "cancelled"}
    told = job(yard, 3)["reason"]
    assert told["code"] == "early_stop"
    assert "its loss at step 20, 3, is among the worst of the 4 jobs of group 1" in told["text"]
    host.report(attempts=end(3, 1, Outcome.CANCELLED) + end(1, 1, Outcome.CANCELLED))
    yard.tick()
    assert [job(yard, n)["state"] for n in (1, 2, 3, 4)] == ["cancelled", "running", "cancelled", "running"]
    ended = job(yard, 3)["reason"]
    assert (ended["code"], ended["text"]) == ("early_stop", told["text"])
    assert ended["figures"] == {"loss": 3.0, "after_steps": 20, "group": 1, "steps": 10}
    yard.tick()
    assert stops(host) == {}


def test_a_loss_that_is_no_number_is_the_worst(yard):
    host = sweep(yard)
    host.report(attempts=[lines(n, 20, float(n)) for n in (2, 3, 4)])
    host.report(
        attempts=[{**lines(1, 20, 1.0), "progress": [{**lines(1, 20, 1.0)["progress"][0], "loss": None}]}]
    )
    yard.tick()
    assert stops(host) == {1: "cancelled", 4: "cancelled"}


def test_one_of_the_worst_that_was_stopped_for_another_need_not_run_again(yard):
    host = sweep(yard)
    host.report(attempts=[lines(n, 20, float(n)) for n in (2, 3, 4)] + [lines(1, 10, 9.0)])
    host.report(attempts=end(4, 1, Outcome.PREEMPTED, steps=20, last_checkpoint="/ckpt/step-20"))
    host.cards = host.cards[:3]  # the card that it had is gone, so it waits
    host.report()
    yard.tick()
    assert job(yard, 4)["state"] == "queued"
    host.report(attempts=[lines(1, 20, 1.0)])
    yard.tick()
    ended = job(yard, 4)
    assert (ended["state"], ended["reason"]["code"]) == ("cancelled", "early_stop")
    assert stops(host) == {3: "cancelled"}


def test_the_share_of_all_jobs_is_kept_where_they_run_one_after_the_other(yard):
    """Each but the first has a higher loss than those before: the second and third end, then half of four is left."""
    host = FakeHost(yard, card(0, 2))
    yard.submit(
        matrix={"training.learning_rate": RATES},
        training={"steps": 100},
        sweep={"early_stop": {"after_steps": 20, "keep": 0.5}},
    )
    host.trace()
    ended = []
    for n in (1, 2, 3, 4):
        assert job(yard, n)["state"] == "running"
        host.report(attempts=[lines(n, 20, float(n))])
        yard.tick()
        outcome = Outcome.CANCELLED if stops(host) else Outcome.SUCCEEDED
        host.report(attempts=end(n, 1, outcome))
        yard.tick()
        ended.append(job(yard, n)["state"])
    assert ended == ["succeeded", "cancelled", "cancelled", "succeeded"]
