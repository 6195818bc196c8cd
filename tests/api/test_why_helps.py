"""What `why` says would help is true: the change is submitted, and comes to what was said."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from orchestrator.cli.control import read_settings
from tests.api.test_policies import submit
from tests.api.test_preemption import begun, code, later, project, starts, states, stops
from tests.api.test_scheduling import FakeHost, card, end


def helps(yard, number: int) -> list[str]:
    lines: list[str] = yard.http.get(f"{PREFIX}/jobs/{number}/why").json()["advice"]
    return lines


def instead(yard, number: int, **sections: Any) -> int:
    """The job cancelled and submitted with these changes; its new number."""
    yard.http.post(f"{PREFIX}/jobs/{number}/cancel")
    return submit(yard, "ada", **sections)


def test_a_higher_priority_helps_where_somebody_gives_way(yard):
    host = begun(yard, priority="normal")
    yard.submit(name="waits")
    later(yard, host)
    assert helps(yard, 2) == [
        "with priority: high it would start once job 1 has saved and stopped",
        "wait: it starts when a card that fits is free",
    ]
    high = instead(yard, 2, priority="high")
    later(yard, host, by=1)
    assert (code(yard, high), stops(host)) == ("room", [(1, "preempted", 120.0)])
    assert helps(yard, high) == ["wait: it starts when they have saved"]


def test_no_priority_helps_against_one_that_has_only_just_begun(yard):
    host = begun(yard, priority="normal")
    yard.submit(name="waits")
    later(yard, host, by=10)
    assert helps(yard, 2) == ["wait: it starts when a card that fits is free"]
    high = instead(yard, 2, priority="high")
    later(yard, host, by=1)
    assert (code(yard, high), stops(host)) == ("busy", [])


def test_sharing_helps_beside_jobs_that_share(yard):
    host = begun(yard, resources={"share": True})
    yard.submit(name="waits", priority="low")
    later(yard, host, by=10)
    (first, _) = helps(yard, 2)
    assert first.startswith("with resources.share: true it would start now on h1 (cpu 2.00 GiB, ")
    assert first.endswith(" beside others")
    shares = instead(yard, 2, priority="low", resources={"share": True})
    later(yard, host, by=1)
    assert states(yard)[shares] == "running"


def test_a_free_card_that_is_kept_for_a_gang_is_no_help(yard):
    """Job 2 wants both cards of h1, one of which is free and kept for it: nothing in job 3 gives it that card."""
    host = FakeHost(yard, card(0, 2), card(1, 2), labels={"rack": "a"})
    yard.submit(name="runs", training={"steps": 2000}, priority="high")
    host.trace()
    starts(yard, host, 1, step=100, total=2000)
    gang = {"resources": {"gpus": 2}, "training": {"steps": 10, "global_batch": 4}, "priority": "high"}
    yard.submit(name="gang", **gang)
    yard.submit(name="long", training={"steps": 900_000}, resources={"labels": {"rack": "b"}})
    later(yard, host, by=10)
    host.trace()
    assert (code(yard, 2), code(yard, 3)) == ("busy", "no_card")
    assert [line for line in helps(yard, 3) if "would start" in line] == []
    freed = instead(yard, 3, training={"steps": 900_000})
    later(yard, host, by=1)
    assert (states(yard)[freed], code(yard, freed)) == ("queued", "reserved")
    assert helps(yard, freed) == [
        "wait: `tuneyard why 2` says how far job 2 is, which these cards are kept for"
    ]


def test_what_would_only_make_it_fit_is_said_so(yard):
    host = begun(yard, priority="high")
    yard.submit(name="waits", resources={"labels": {"rack": "c"}})
    later(yard, host, by=10)
    assert helps(yard, 2) == [
        "without resources.labels.rack it would fit, and wait for a card that others hold",
        "loosen resources.labels; `tuneyard gpus` shows what there is",
    ]
    assert code(yard, 2) == "no_card"
    fits = instead(yard, 2)
    later(yard, host, by=1)
    assert code(yard, fits) == "busy"


def test_terms_of_a_project_help_only_where_they_start_the_job(yard):
    project(yard, "strict", guarantee=1, borrows=False)
    host = begun(yard, card(0, 2), priority="normal", project="strict")
    yard.submit(name="second", project="strict")
    later(yard, host, by=1)
    assert code(yard, 2) == "quota"
    assert helps(yard, 2) == ["wait for a job of the project to end"], "there is no other card"


def test_fewer_cards_help_where_that_many_are_free(yard):
    host = FakeHost(yard, card(0, 2), card(1, 2))
    yard.submit(name="runs", training={"steps": 2000}, priority="high")
    host.trace()
    wide = {"training": {"steps": 10, "global_batch": 4}}
    yard.submit(name="wide", resources={"gpus": 2}, **wide)
    later(yard, host, by=10)
    (line,) = [line for line in helps(yard, 2) if "gpus: 1" in line]
    assert line.startswith("with resources.gpus: 1 in place of 2 (slower) it would start now on h1")
    narrow = instead(yard, 2, resources={"gpus": 1}, **wide)
    later(yard, host, by=1)
    assert states(yard)[narrow] == "running"


def test_cards_that_were_given_out_a_moment_ago_are_no_help(yard):
    """The plan that starts job 1 is the last when `why` is asked: its card is no longer free."""
    host = FakeHost(yard, card(0, 2))
    yard.submit(name="runs")
    yard.submit(name="low", priority="low")
    host.trace()
    assert states(yard) == {1: "running", 2: "queued"}
    assert helps(yard, 2) == ["wait: it starts when a card that fits is free"]


@pytest.mark.parametrize("learning_rate", [0.5, 3e-9])
def test_a_command_is_ready_for_a_job_that_diverged(yard, learning_rate):
    host = FakeHost(yard, card(0, 2))
    training = {"learning_rate": learning_rate}
    yard.submit(training=training)
    yard.tick()
    host.trace()
    told = "diverged in step 8: the loss is nan; there is no good checkpoint"
    host.report(attempts=end(1, 1, Outcome.DIVERGED, message=told))
    yard.tick()
    command = helps(yard, 1)[0].split("`")[1]
    first, settings = command.split(" --set ", 1)
    assert first == "tuneyard requeue 1"
    overrides = read_settings(settings.split(" --set "))
    made = yard.http.post(f"{PREFIX}/jobs/1/requeue", json={"overrides": overrides})
    assert made.status_code == 201, made.text
    spec = made.json()["spec"] if "spec" in made.json() else yard.http.get(f"{PREFIX}/jobs/2").json()["spec"]
    assert spec["training"]["learning_rate"] == pytest.approx(learning_rate / 10)
