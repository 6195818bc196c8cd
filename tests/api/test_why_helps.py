"""What `why` says would help is true: the change is submitted, and comes to what was said."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.jobfile.requirements import LACKS
from jobs.state import Outcome
from orchestrator.api.app import PREFIX
from orchestrator.cli.commands.jobs.control import read_settings
from tests.api.scheduling.test_policies import submit
from tests.api.scheduling.test_preemption import begun, code, later, project, starts, states, stops
from tests.api.scheduling.test_scheduling import FakeHost, card, end, of

FREE = "wait: it starts when a card that fits is free; `tuneyard top` shows who holds them"
ENDS = (
    Outcome.FAILED,
    Outcome.FAILED,
    Outcome.SUCCEEDED,
    Outcome.CANCELLED,
    Outcome.TIMEOUT,
    Outcome.DIVERGED,
)


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
        FREE,
    ]
    high = instead(yard, 2, priority="high")
    later(yard, host, by=1)
    assert (code(yard, high), stops(host)) == ("room", [(1, "preempted", 120.0)])
    assert helps(yard, high) == ["wait: it starts when they have saved; `tuneyard top` shows them"]


def test_no_priority_helps_against_one_that_has_only_just_begun(yard):
    host = begun(yard, priority="normal")
    yard.submit(name="waits")
    later(yard, host, by=10)
    assert helps(yard, 2) == [FREE]
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
    (line,) = helps(yard, 2)  # there is no other card
    assert line == "wait for a job of the project to end: `tuneyard list --project strict --state running`"


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
    assert helps(yard, 2) == [FREE]


def test_a_library_that_a_trace_misses_is_what_the_job_waits_for(yard):
    """The server does not see the model's folder: that its weights are quantised only a host can tell."""
    host = FakeHost(yard, card(0, 2))
    yard.submit()
    yard.tick()
    (wanted,) = host.report()["traces"]
    says = f"{LACKS}gptqmodel, which the model in /m needs: pip install gptqmodel"
    host.report(traces=[{**of(wanted), "error": says}])
    yard.tick()
    assert code(yard, 1) == "library"
    why = yard.http.get(f"{PREFIX}/jobs/1/why").json()
    assert why["hosts"][0]["verdict"].startswith("has no gptqmodel, which the model in /m needs")
    assert any("`pip install`" in line and "`tuneyard host run`" in line for line in why["advice"])


@pytest.mark.parametrize(("step", "learning_rate"), [(None, 0.5), (None, 3e-9), (6, 0.5)])
def test_every_change_that_helps_a_job_that_diverged_is_a_command_that_does_it(yard, step, learning_rate):
    """Each is submitted: it is accepted, and begins where it was said to."""
    host = FakeHost(yard, card(0, 2))
    model = {**yard.job()["spec"]["model"], "dtype": "float32"}
    training = {"learning_rate": learning_rate, "warmup_ratio": 0.0, "autocast": "bfloat16"}
    yard.submit(model=model, method="full", training=training)
    yard.tick()
    host.trace()
    kept = "there is no good checkpoint" if step is None else f"the last good checkpoint is of step {step}"
    told = f"diverged in step 8: the loss is nan; {kept}"
    last = None if step is None else f"/c/step-{step:08d}"
    host.report(attempts=end(1, 1, Outcome.DIVERGED, message=told, last_checkpoint=last))
    yard.tick()
    answer = yard.http.get(f"{PREFIX}/jobs/1/why").json()
    assert answer["job"]["reason"]["text"] == told, "the suggestions stand below, once"
    *commands, losses = answer["advice"]
    assert "`tuneyard metrics 1`" in losses and len(commands) == len({*commands}) >= 4
    found = {}
    for line in commands:
        command, _, rest = line.removeprefix("`tuneyard requeue 1 --set ").partition("`")
        path, _, value = command.removesuffix(" --from-start").partition("=")
        from_start = command.endswith(" --from-start")
        body = {"overrides": read_settings([f"{path}={value}"]), "from_start": from_start}
        made = yard.http.post(f"{PREFIX}/jobs/1/requeue", json=body)
        assert made.status_code == 201, (line, made.text)
        goes_on = made.json()["goes_on"]["step"]
        assert rest.endswith(f"goes on from step {goes_on}" if goes_on else "begins at step 0"), line
        found[path] = goes_on
    assert found["training.learning_rate"] == (step or 0) and found["training.autocast"] == 0


def test_every_line_for_a_job_that_ended_has_its_command(yard):
    host = FakeHost(yard, card(0, 2))
    for number, outcome in enumerate(ENDS, 1):
        yard.submit(name=f"n{number}", retries=0, time_limit="2h")
        host.trace()
        bad = {"bad_input": True} if outcome is Outcome.FAILED and number == 2 else {}
        host.report(attempts=end(number, 1, outcome, **bad))
        yard.tick()
        shown = yard.http.get(f"{PREFIX}/jobs/{number}").json()
        assert shown["ended_at"], (outcome, shown["reason"])
        lines = helps(yard, number)
        assert lines and all("`tuneyard" in line for line in lines), (outcome, lines)
        assert all("checkpoint, if there is one" not in line for line in lines)
