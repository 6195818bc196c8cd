"""A job whose host is not there: every answer says so, none gives a time to go, and `why` says what happens next."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from orchestrator.cli.commands.fleet.top import _card_row
from orchestrator.cli.commands.jobs.show import _summary
from orchestrator.cli.render import words
from orchestrator.cli.top.fleet import hosts_of
from tests.api.conftest import Yard
from tests.api.scheduling.test_preemption import later
from tests.api.scheduling.test_scheduling import FakeHost, card, end, job
from tests.api.scheduling.test_standstill import training
from tests.api.scheduling.test_storage import begun, unpublished


def line_of_top(yard: Yard) -> list[str]:
    """The line of the first card in `tuneyard top --once`."""
    first, *_ = hosts_of(yard.http.get(f"{PREFIX}/fleet").json())
    cells = _card_row(first.cards[0], yard.now)
    return [cell if isinstance(cell, str) else cell.text for cell in cells]


def why(yard: Yard, number: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = yard.http.get(f"{PREFIX}/jobs/{number}/why").json()
    return found


def test_a_host_that_fell_silent_is_told_wherever_its_job_is(yard: Yard) -> None:
    training(yard, step_s=1.0)
    heard = yard.now
    assert job(yard)["silent"] is None
    yard.now += 60
    lost_at = heard + yard.services.settings.lost_after_s
    (listed,) = yard.http.get(f"{PREFIX}/jobs").json()["jobs"]
    for shown in (listed, job(yard), why(yard)["job"]):
        assert shown["silent"] == {"host": "h1", "stopped": False, "since": heard, "given_up_at": lost_at}
        progress = shown["progress"]
        assert (progress["eta_s"], progress["tokens_per_s"], progress["stalled"]) == (None, None, False)
        at = words.clock(heard, yard.now)
        assert words.reason(shown, yard.now) == f"silent since {at}: host h1"
        said = f"host h1 has not been heard of since {at} (1m ago)"
        assert words.sentence(shown, yard.now) == f"job 1 is running: {said}"
        assert words.eta(shown, yard.now) == "unknown"
    told = dict(_summary(job(yard), yard.now))
    assert told["reason"] == words.silence(job(yard), yard.now)
    assert str(told["progress"]).endswith("; as it was told 1m00s ago")
    texts = line_of_top(yard)
    assert any(f" since {words.clock(heard, yard.now)}, had 1" in text for text in texts)
    assert texts[-3:] == ["", "", ""], "of one that is away nobody knows how far it is"


def test_why_says_when_the_attempt_is_given_up_and_what_becomes_of_its_checkpoint(yard: Yard) -> None:
    host = training(yard, step_s=1.0)
    yard.now += 60
    look, then, commands = why(yard)["advice"]
    assert "if it is heard of within 30s" in look and "trains on" in look
    assert "in 30s this attempt counts as lost" in then and "the checkpoint of step 40 is there" in then
    assert "`tuneyard hosts`" in commands and "`tuneyard host run`" in commands
    host.report()
    assert job(yard)["silent"] is None
    yard.now += 91
    yard.tick()
    yard.tick()
    assert job(yard)["attempts_detail"][0]["outcome"] == "lost"
    assert (job(yard)["reason"]["code"], job(yard)["silent"]) == ("no_host", None)
    (line,) = why(yard)["advice"]
    assert line.startswith("start the agent of h1 again: `tuneyard up`")


def test_a_host_that_was_told_to_end_is_no_silent_one(yard: Yard) -> None:
    host = training(yard, step_s=1.0)
    host.report(boot="")
    assert job(yard)["silent"]["stopped"] and why(yard)["advice"][0].startswith("its agent was told to end")
    assert words.silence(job(yard), yard.now) == "host h1 was stopped now"
    host.report(boot="", attempts=end(1, 1, Outcome.HOST_STOPPED))
    yard.tick()
    assert job(yard)["attempts_detail"][0]["outcome"] == "host_stopped"


def test_of_a_gang_the_host_that_is_not_there_is_named(yard: Yard) -> None:
    a, b = FakeHost(yard, card(0, 2), name="a"), FakeHost(yard, card(1, 2), name="b")
    b.report()
    yard.submit(resources={"gpus": 2, "across_hosts": True})
    a.trace()
    assert job(yard)["state"] == "running"
    yard.now += 30
    a.report()
    assert job(yard)["silent"]["host"] == "b"


@pytest.mark.parametrize("limit", [None, "2h"])
def test_why_tells_of_a_standstill_and_what_ends_it(limit: str | None, yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit(training={"steps": 100}, **({"time_limit": limit} if limit else {}))
    host.trace()
    line = {"ts": yard.now, "step": 45, "total_steps": 100, "tokens": 9, "step_s": 1.0}
    began = {"ts": yard.now, "pid": 1, "create_time": 1.0}
    kept = [{"step": 40, "bytes": 9, "ts": 900.0, "whole": True}]
    news = {"attempt_id": 1, "number": 1, "started": began, "progress": [line], "checkpoints": kept}
    host.report(attempts=[news])
    assert why(yard)["advice"] == []
    yard.now += 600
    host.report()
    what, words_of, how = why(yard)["advice"]
    assert "45% hangs" in line_of_top(yard)
    assert what.startswith("no step for 10m00s, where one takes 1s: the trainer hangs")
    assert ("its time_limit of 2h00m ends it in 1h50m" if limit else "it has no time_limit") in what
    assert "`tuneyard logs 1`" in words_of
    assert "`tuneyard cancel 1`" in how and how.endswith("`tuneyard requeue 1` goes on from step 40")


def test_a_folder_on_a_host_that_is_gone_is_nothing_to_make_room_in(yard: Yard) -> None:
    (host,) = begun(yard, "a")
    unpublished(host, 1, 1)
    yard.tick()
    assert job(yard)["reason"]["code"] == "storage" and "make room on a" in why(yard)["advice"][0]
    host.report(boot="")
    yard.tick()
    assert job(yard)["reason"]["code"] == "no_host", "it waits for its host, and no longer for room"
    assert "make room" not in str(why(yard)["advice"])
    FakeHost(yard, card(0, 2), name="a", home="/tmp/a").report()
    later(yard, by=1)
    assert job(yard)["reason"]["code"] == "storage"


def test_nor_where_another_host_is_there(yard: Yard) -> None:
    a, b = begun(yard, "a", "b")
    unpublished(a, 1, 1)
    yard.tick()
    a.report(boot="")
    b.report()
    found = why(yard)["advice"]
    assert found and all("make room" not in line for line in found), found


def at_work(yard: Yard) -> FakeHost:
    """A host in the midst of training, of whose news the server has seen the last."""
    host = training(yard, step_s=1.0)
    host.report()
    yard.tick()
    return host


def outcomes(yard: Yard) -> list[str | None]:
    return [attempt["outcome"] for attempt in job(yard)["attempts_detail"]]


@pytest.mark.parametrize("by_s", [3600.0, -3600.0])
def test_a_clock_that_jumps_ends_nothing_and_hides_nothing(by_s: float, yard: Yard) -> None:
    host = at_work(yard)
    yard.now += by_s
    yard.deaf_s += by_s
    yard.tick()
    assert outcomes(yard) == [None] and job(yard)["silent"] is None
    host.report()
    yard.now += 19
    yard.tick()
    assert job(yard)["silent"] is None
    yard.now += 11
    yard.tick()
    assert job(yard)["silent"]["host"] == "h1", "30 s of silence are noticed, whatever the time of day is"
    yard.now += 61
    yard.tick()
    assert outcomes(yard) == ["lost"]


def test_a_server_that_was_deaf_blames_nobody(yard: Yard) -> None:
    host = at_work(yard)
    yard.now += 30
    yard.tick()
    assert job(yard)["silent"]["host"] == "h1"
    yard.now += 1000
    yard.deaf_s += 1000
    yard.tick()
    silent = job(yard)["silent"]
    assert outcomes(yard) == [None] and silent["given_up_at"] == yard.now + 60, "30 s of 90 have gone by"
    hosts = yard.http.get(f"{PREFIX}/hosts").json()["hosts"]
    assert hosts[0]["state"] == "away"
    host.report()
    yard.tick()
    assert outcomes(yard) == [None] and job(yard)["silent"] is None


def test_news_that_came_before_the_server_went_deaf_is_as_old_as_it_was_then(yard: Yard) -> None:
    host = at_work(yard)
    yard.now += 5
    host.report()  # and nobody looks before it is stopped
    yard.now += 1000
    yard.deaf_s += 1000
    yard.tick()
    assert outcomes(yard) == [None] and job(yard)["silent"] is None


@pytest.mark.parametrize("stop", [False, True])
def test_nor_is_a_trainer_blamed_that_did_not_come_up_meanwhile(stop: bool, yard: Yard) -> None:
    host = FakeHost(yard, card(0, 2))
    yard.submit(training={"steps": 100})
    host.trace()
    if stop:
        yard.http.post(f"{PREFIX}/jobs/1/cancel")
    yard.tick()
    yard.now += 1000
    yard.deaf_s += 1000
    yard.tick()
    assert outcomes(yard) == [None]
    for _ in range(10):
        yard.now += 19
        host.report()
        yard.tick()
    assert outcomes(yard)[0] == ("cancelled" if stop else "not_started")
