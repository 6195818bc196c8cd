"""A job goes on elsewhere: who is told where its checkpoint is, what is waited for, and when it is removed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from jobs.state import Outcome
from jobs.units import GiB, MiB
from orchestrator.api.app import PREFIX
from orchestrator.scheduler.policy import Rules
from tests.api.conftest import Yard
from tests.api.scheduling.test_out_of_memory import FIXED, SIZES, run_out, snug, traced
from tests.api.scheduling.test_preemption import LONG_S, later, starts
from tests.api.scheduling.test_scheduling import FakeHost, card, end, job
from tests.profiles import small_profile
from workers.attempt_folder import yard_root

SIZE = 3 * GiB  # of a checkpoint: 31 s to another host
STEP = "/tmp/a/x/jobs/1/checkpoints/step-00000040"


def hosts(yard: Yard, *gib: float) -> list[FakeHost]:
    """a, b .. with a card each; job 1 runs on a."""
    made = [
        FakeHost(yard, card(number, size), name=name, home=f"/tmp/{name}")
        for number, (name, size) in enumerate(zip("abc", gib, strict=False))
    ]
    drain(yard, True, *made[1:])
    yard.submit(name="low", priority="low", training={"steps": 1000})
    made[0].trace()
    assert job(yard)["host"] == "a"
    starts(yard, made[0], 1)
    drain(yard, False, *made[1:])
    return made


def drain(yard: Yard, drained: bool, *hosts: FakeHost) -> None:
    for one in hosts:
        yard.http.post(f"{PREFIX}/hosts/{one.id}/drain", json={"drained": drained})
        one.report()


def leaves(yard: Yard, host: FakeHost, outcome: Outcome = Outcome.PREEMPTED, **fields: Any) -> None:
    """Job 1 ends on a, with a checkpoint of step 40."""
    kept = {"steps": 45, "last_checkpoint": STEP, "checkpoint_bytes": SIZE, **fields}
    host.report(attempts=end(1, 1, outcome, **kept))


def lost(yard: Yard, *others: FakeHost) -> None:
    """Nothing is heard of a host that trains; these are."""
    later(yard, *others, by=100)
    yard.tick()


def kept(yard: Yard) -> list[dict[str, Any]]:
    """What the trainer that was handed over last is told."""
    found: list[dict[str, Any]] = yard.dispatch.started[-1]["assignments"][0]["kept"]
    return found


def at(yard: Yard, name: str, step: int | None, away: bool = False) -> dict[str, Any]:
    home = str(yard_root(f"/tmp/{name}", yard.services.store.yard()))
    return {"host": name, "home": home, "step": step, "job_id": None, "away": away}


def test_the_first_attempt_has_nothing_to_fetch(yard):
    hosts(yard, 2)
    assert kept(yard) == []


def test_from_a_drained_host_it_goes_on_elsewhere_at_once(yard):
    a, _ = hosts(yard, 2, 2)
    drain(yard, True, a)
    leaves(yard, a)
    yard.tick()
    assert job(yard)["host"] == "b"
    assert kept(yard) == [at(yard, "a", 40)]


def test_a_preempted_job_waits_for_its_host_no_longer_than_carrying_takes(yard):
    a, b = hosts(yard, 2, 2)
    drain(yard, True, b)
    yard.submit(name="high", priority="high")
    later(yard, a, b)
    leaves(yard, a)
    yard.tick()
    assert job(yard, 2)["host"] == "a"
    drain(yard, False, b)
    later(yard, a, b, by=1)
    assert job(yard)["state"] == "queued"
    later(yard, a, b, by=19)
    assert job(yard)["state"] == "queued"
    later(yard, a, b, by=12)
    assert (job(yard)["state"], job(yard)["host"]) == ("running", "b")
    assert kept(yard) == [at(yard, "a", 40)]


def test_a_job_that_ran_out_of_memory_takes_its_checkpoint_to_a_larger_card(yard):
    size = snug(yard, **FIXED)
    a = FakeHost(yard, card(0, size), name="a", home="/tmp/a")
    b = FakeHost(yard, card(9, 8 * size), name="b", home="/tmp/b")
    yard.submit(**SIZES | FIXED)
    traced(yard, a)
    b.report()
    run_out(yard, a, last_checkpoint=STEP, checkpoint_bytes=SIZE)
    assert job(yard)["host"] == "b"
    assert kept(yard) == [at(yard, "a", 40)]


def test_where_it_lies_on_its_own_host_nobody_else_is_asked(yard):
    a, _ = hosts(yard, 2, 2)
    leaves(yard, a)
    yard.tick()
    assert (job(yard)["host"], kept(yard)) == ("a", [])


def test_a_host_that_fell_silent_is_asked_what_it_has(yard):
    a, b = hosts(yard, 2, 2)
    lost(yard, b)
    assert (job(yard)["host"], kept(yard)) == ("b", [at(yard, "a", None, away=True)])
    starts(yard, b, 2, step=20)
    drain(yard, True, b)
    a.report()
    b.report(attempts=end(2, 2, Outcome.PREEMPTED, steps=20, last_checkpoint=f"{STEP[:-2]}20"))
    yard.tick()
    assert (job(yard)["host"], kept(yard)) == ("a", [at(yard, "b", 20)])
    a.report(attempts=end(3, 3, Outcome.NOT_STARTED))
    later(yard, a, b, by=20)
    assert (job(yard)["host"], kept(yard)) == ("a", [at(yard, "b", 20)])


def test_the_newest_is_asked_for_first_and_what_nobody_knows_before_that(yard):
    a, b, c = hosts(yard, 2, 2, 2)
    drain(yard, True, a, c)
    leaves(yard, a)
    yard.tick()
    starts(yard, b, 2, step=60)
    drain(yard, False, c)
    drain(yard, True, b)
    b.report(attempts=end(2, 2, Outcome.PREEMPTED, steps=60, last_checkpoint=f"{STEP[:-2]}60"))
    yard.tick()
    assert (job(yard)["host"], kept(yard)) == ("c", [at(yard, "b", 60), at(yard, "a", 40)])
    starts(yard, c, 3, step=80)
    drain(yard, False, a)
    lost(yard, a, b)
    assert job(yard)["host"] == "a"
    assert kept(yard) == [at(yard, "c", None, away=True), at(yard, "b", 60)]


@pytest.mark.parametrize("counts", [{"steps": 100_000}, {"epochs": 3}], ids=["steps", "epochs"])
def test_it_moves_to_another_host_and_stays_there(yard, counts):
    """How many steps three epochs have its trainer tells."""
    yard.set_rules(Rules(move=True))
    a = FakeHost(yard, card(0, 2, kind="cuda", name="NVIDIA L4", memory_bytes=23034 * MiB), name="a")
    large = card(1, 2, kind="cuda", name="NVIDIA H100 80GB HBM3", memory_bytes=81559 * MiB)
    b = FakeHost(yard, large, name="b")
    drain(yard, True, b)
    yard.submit(name="long", training=counts, resources={"policy": "fastest"})
    a.trace(small_profile(flops_a_token=1e10))
    assert job(yard)["host"] == "a"
    drain(yard, False, b)
    begun = yard.now
    for step in (20, 2000):
        yard.now = begun + step
        starts(yard, a, 1, step=step, total=100_000)
        b.report()
        yard.tick()
    reason = job(yard)["reason"]
    assert reason["text"].startswith("moves to NVIDIA H100 80GB HBM3 79.65 GiB on b, where it ends ")
    assert [stop["reason"] for stop in a.report()["stops"]] == ["preempted"]
    told = {"total_steps": 100_000, "checkpoint_bytes": 100 * MiB}
    leaves(yard, a, steps=2000, last_checkpoint="/x/step-00002000", **told)
    yard.tick()
    assert (job(yard)["host"], kept(yard)[0]["step"]) == ("b", 2000)


@pytest.mark.parametrize(
    ("outcome", "keep_s", "after_s", "dropped"),
    [
        (Outcome.SUCCEEDED, None, 0, True),
        (Outcome.CANCELLED, None, 6 * 86_400, False),
        (Outcome.CANCELLED, None, 7 * 86_400, True),
        (Outcome.SUCCEEDED, 3600.0, 3599, False),
        (Outcome.SUCCEEDED, 3600.0, 3600, True),
        (Outcome.CANCELLED, 0.0, 0, True),
    ],
)
def test_checkpoints_of_an_ended_job_go_from_every_host(yard, outcome, keep_s, after_s, dropped):
    controller = yard.services.controller
    controller.settings = dataclasses.replace(controller.settings, keep_checkpoints_s=keep_s)
    yard.services.settings = controller.settings
    a, b = hosts(yard, 2, 2)
    if outcome is Outcome.CANCELLED:
        yard.http.post(f"{PREFIX}/jobs/1/cancel")
    leaves(yard, a, outcome)
    yard.tick()
    yard.now += after_s
    assert [host.report(kept=[1, 77])["drop"] for host in (a, b)] == [[1] if dropped else []] * 2


def test_checkpoints_of_a_job_that_goes_on_stay(yard):
    a, b = hosts(yard, 2, 2)
    assert a.report(kept=[1])["drop"] == []
    leaves(yard, a)
    later(yard, a, b, by=LONG_S)
    assert [host.report(kept=[1])["drop"] for host in (a, b)] == [[], []]
