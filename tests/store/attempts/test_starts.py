"""Several starts under one commit: each is whole or not at all, whatever becomes of the others."""

from __future__ import annotations

from dataclasses import replace

from jobs.state import Event, JobState, Outcome
from orchestrator.control.outcomes import ends_of
from orchestrator.store import Store
from orchestrator.store.requests import NewLink, Start
from tests.builders import (
    NOW,
    RUNG,
    a_job,
    a_line,
    a_projection,
    a_report,
    an_end,
    because,
    end_attempt,
    joined,
    news,
    submitted,
)
from tests.builders import (
    a_start as a_process,
)


def a_start(job_id: int, host_id: int, *gpu_ids: int, shared: bool = False) -> Start:
    return Start(job_id, host_id, gpu_ids, RUNG, a_projection(), shared=shared)


def test_what_moved_is_left_out_and_the_rest_starts(store: Store) -> None:
    host_id, cards = joined(store, gpus=4)
    good, cancelled, taken, gang = store.submit([a_job() for _ in range(4)], NOW)
    waits = store.submit([a_job(links=(NewLink(good.id),))], NOW)[0]
    store.request_cancel(cancelled.id, NOW)
    starts = [
        a_start(gang.id, host_id, cards[3], cards[2]),
        a_start(good.id, host_id, cards[0]),
        a_start(cancelled.id, host_id, cards[1]),
        a_start(taken.id, host_id, cards[0]),
        a_start(waits.id, host_id, cards[1]),
        a_start(999, host_id, cards[1]),
        a_start(good.id, host_id, cards[1]),
    ]
    opened = store.start_attempts(starts, NOW)
    assert set(opened) == {good.id, gang.id}
    attempt = store.attempt(opened[gang.id])
    assert ([gpu.id for gpu in attempt.gpus], attempt.number) == ([cards[3], cards[2]], 1)
    assert [gpu.job_id for gpu in store.gpus()] == [good.id, None, gang.id, gang.id]
    for row in (taken, waits):
        assert store.job(row.id) == row, "what did not start must be as it was"
    assert store.job(good.id).state == JobState.RUNNING
    assert [event.kind for event in store.events(taken.id)] == ["submitted"]


def test_none_is_none(store: Store) -> None:
    host_id, cards = joined(store)
    assert store.start_attempts([], NOW) == {}
    job = submitted(store)
    assert store.start_attempts([a_start(job.id, host_id)], NOW) == {}
    assert store.start_attempts([a_start(job.id, host_id + 1, *cards)], NOW) == {}


def test_those_that_share_see_each_other(store: Store) -> None:
    host_id, cards = joined(store)
    first, second = submitted(store), submitted(store)
    starts = [a_start(job.id, host_id, *cards, shared=True) for job in (second, first)]  # 20 of 24 GiB each
    assert set(store.start_attempts(starts, NOW)) == {first.id}


def test_cards_of_several_hosts_each_from_the_host_that_was_planned(store: Store) -> None:
    alpha, ours = joined(store, "alpha", gpus=2)
    beta, theirs = joined(store, "beta", gpus=2)
    wide, other = submitted(store), submitted(store)
    gpu_ids, host_ids = (theirs[0], theirs[1], ours[0]), (beta, beta, alpha)
    gang = Start(wide.id, beta, gpu_ids, RUNG, a_projection(), host_ids=host_ids)
    for wrong in (
        replace(gang, host_ids=(beta, beta, beta)),  # one of them is elsewhere by now
        replace(gang, host_id=alpha),  # rank 0 is not with the lead
        replace(gang, host_ids=()),
    ):
        assert store.start_attempts([wrong], NOW) == {}
    store.set_drained(alpha, True, NOW)
    assert store.start_attempts([gang], NOW) == {}
    store.set_drained(alpha, False, NOW)
    opened = store.start_attempts([gang], NOW)
    attempt = store.attempt(opened[wide.id])
    assert (attempt.host, attempt.hosts) == ("beta", {beta: "beta", alpha: "alpha"})
    assert [gpu.host for gpu in attempt.gpus] == ["beta", "beta", "alpha"]
    assert store.job(wide.id).reason.text == "starting on beta, alpha"
    assert store.start_attempts([a_start(other.id, alpha, ours[0])], NOW) == {}, "held from afar"
    found = store.open_on([alpha, beta])
    assert [[one.attempt_id for one in found[host].offsets] for host in (alpha, beta)] == [[attempt.id]] * 2


def test_what_each_host_is_told_of_an_attempt_over_several_and_what_it_may_tell(store: Store) -> None:
    alpha, ours = joined(store, "alpha")
    beta, theirs = joined(store, "beta")
    gamma, _ = joined(store, "gamma")
    job = submitted(store)
    gang = Start(job.id, alpha, (*ours, *theirs), RUNG, a_projection(), host_ids=(alpha, beta))
    (attempt_id,) = store.start_attempts([gang], NOW).values()
    attempt = store.attempt(attempt_id)
    mine = news(attempt, started=a_process(), log="hello\n", progress=[a_line(3)])
    for host_id, name in ((beta, "beta"), (gamma, "gamma"), (alpha, "alpha")):
        store.record_report(host_id, a_report(mine, host=name), NOW)
        before = store.attempt(attempt_id)
        assert (before.started_at is None) == (host_id != alpha), "the start, log and progress are the lead's"
    assert [(one.log_offset, one.step, one.lead) for one in store.open_on([alpha])[alpha].offsets] == [
        (6, 3, True)
    ]
    assert [(one.attempt_id, one.log_offset, one.lead) for one in store.open_on([beta])[beta].offsets] == [
        (attempt_id, 0, False)
    ]
    assert store.open_on([gamma])[gamma].offsets == []
    for host_id, name, outcome in (
        (gamma, "gamma", Outcome.OOM),  # takes no part
        (beta, "beta", Outcome.LOST),
        (beta, "beta", Outcome.SUCCEEDED),  # its first word counts
        (alpha, "alpha", Outcome.FAILED),
    ):
        report = a_report(news(attempt, ended=an_end(outcome)), host=name)
        store.record_report(host_id, report, NOW)
        store.record_report(host_id, report, NOW)
    store.report_end(attempt_id, beta, an_end(Outcome.CANCELLED))
    said = [(host_id, end.outcome) for host_id, end in ends_of(store.attempt(attempt_id)).items()]
    assert said == [(beta, Outcome.LOST), (alpha, Outcome.FAILED)], "in the order in which they came"
    end_attempt(store, attempt_id, 1, an_end(), Event.SUCCEEDED, because(), NOW + 1)
    assert [gpu.job_id for gpu in store.gpus()] == [None] * 3
    assert store.open_on([beta])[beta].offsets == []


def test_an_end_with_an_old_number_is_not_noted(store: Store) -> None:
    alpha, ours = joined(store, "alpha")
    beta, theirs = joined(store, "beta")
    job = submitted(store)
    gang = Start(job.id, alpha, (*ours, *theirs), RUNG, a_projection(), host_ids=(alpha, beta))
    (attempt_id,) = store.start_attempts([gang], NOW).values()
    late = news(store.attempt(attempt_id), number=7, ended=an_end(Outcome.OOM))
    store.record_report(beta, a_report(late, host="beta"), NOW)
    assert store.attempt(attempt_id).reported is None
