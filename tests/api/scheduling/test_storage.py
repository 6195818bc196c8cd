"""A host whose folders take nothing: the job waits or goes elsewhere, spends no retry, and says which folder it is."""

from __future__ import annotations

from jobs.state import Outcome
from jobs.units import MiB
from orchestrator.api.app import PREFIX
from tests.api.conftest import Yard
from tests.api.scheduling.test_preemption import later
from tests.api.scheduling.test_scheduling import FakeHost, card, end, job
from tests.api.scheduling.test_travel import STEP, drain, kept

SAID = (
    "trained to the end, result not published: no space left on device in /data (needs 1.20 GiB, 3 MiB free)"
)


def unpublished(host: FakeHost, attempt: int, number: int) -> None:
    done = {
        "steps": 1000,
        "total_steps": 1000,
        "last_checkpoint": f"{STEP[:-4]}1000",
        "checkpoint_bytes": MiB,
    }
    host.report(attempts=end(attempt, number, Outcome.STORAGE, message=SAID, **done))


def begun(yard: Yard, *names: str) -> list[FakeHost]:
    hosts = [
        FakeHost(yard, card(number, 2), name=name, home=f"/tmp/{name}") for number, name in enumerate(names)
    ]
    drain(yard, True, *hosts[1:])
    yard.submit(name="full", training={"steps": 1000})
    hosts[0].trace()
    assert job(yard)["host"] == names[0]
    return hosts


def test_it_waits_with_that_reason_and_frees_its_card(yard):
    (host,) = begun(yard, "a")
    unpublished(host, 1, 1)
    yard.tick()
    shown = job(yard)
    assert (shown["state"], shown["reason"]["code"], shown["reason"]["text"]) == ("queued", "storage", SAID)
    assert shown["reason"]["figures"]["until"] == yard.now + 5
    assert yard.http.get(f"{PREFIX}/gpus").json()["gpus"][0]["job"] is None
    why = yard.http.get(f"{PREFIX}/jobs/1/why").json()
    assert why["advice"] == [
        "make room on a, or let that folder be written to; it is then tried again by itself. "
        "`tuneyard hosts` shows the room that is left"
    ]


def test_it_is_tried_for_ever_and_costs_no_retry(yard):
    (host,) = begun(yard, "a")
    for number in range(1, 10):
        unpublished(host, number, number)
        yard.tick()
        assert job(yard)["state"] == "queued"
        later(yard, host, by=120)
    assert (job(yard)["state"], job(yard)["attempts"]) == ("running", 10)
    host.report(attempts=end(10, 10, Outcome.SUCCEEDED, steps=1000, result="/data/x"))
    yard.tick()
    assert job(yard)["state"] == "succeeded"


def test_another_host_takes_it_and_fetches_the_checkpoint(yard):
    a, b = begun(yard, "a", "b")
    drain(yard, False, b)
    unpublished(a, 1, 1)
    yard.tick()
    later(yard, a, b, by=40)
    assert (job(yard)["state"], job(yard)["host"]) == ("running", "b")
    assert [(place["host"], place["step"]) for place in kept(yard)] == [("a", 1000)]


def test_the_trainer_is_told_what_its_files_will_take(yard):
    begun(yard, "a")
    (told,) = yard.dispatch.started[-1]["assignments"]
    parts = job(yard)["attempts_detail"][0]["projection"]["parts"]
    assert told["result_bytes"] == parts["adapters"] > 0
    assert told["checkpoint_bytes"] == parts["adapters"] + parts["optimizer"]
