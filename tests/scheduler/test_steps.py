"""plan_steps(): steps take no card, one at a time on the host that has what they work on."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from jobs.state import Code, Reason
from orchestrator.scheduler.fleet import Host
from orchestrator.scheduler.steps import PendingStep, plan_steps

ALPHA, BETA = Host(1, "alpha", ()), Host(2, "beta", ())
BOTH = frozenset({1, 2})
NOW = 1000.0


def test_each_host_runs_its_oldest_step_of_the_highest_priority():
    steps = [
        PendingStep(5, host=1),
        PendingStep(4, host=1),
        PendingStep(6, 75, host=1),
        PendingStep(7, host=2),
    ]
    decided = plan_steps(steps, [ALPHA, BETA], {}, BOTH, NOW)
    assert decided.starts == {6: 1, 7: 2}
    assert {job: reason.code for job, reason in decided.waits.items()} == {4: Code.BUSY, 5: Code.BUSY}
    assert "alpha has the result" in decided.waits[4].text and "that of job 6 now" in decided.waits[4].text


def test_a_host_that_runs_one_takes_no_second():
    decided = plan_steps([PendingStep(5, host=1)], [ALPHA], {1: 3}, BOTH, NOW)
    assert not decided.starts and decided.waits[5].figures == {"held_by_jobs": [3]}


def test_a_step_goes_nowhere_but_where_its_result_is():
    for host, words in (
        (replace(ALPHA, online=False), "does not answer"),
        (replace(ALPHA, online=False, left=True), "was stopped"),
        (replace(ALPHA, drained=True), "is drained"),
        (replace(ALPHA, fault="no torch"), "no torch"),
        (replace(ALPHA, ray_ready=False), "coming up"),
    ):
        decided = plan_steps([PendingStep(5, host=1)], [host, BETA], {}, BOTH, NOW)
        assert not decided.starts and words in decided.waits[5].text
    old = plan_steps([PendingStep(5, host=1)], [ALPHA], {}, frozenset(), NOW)
    assert "upgrade it" in old.waits[5].text
    gone = plan_steps([PendingStep(5, host=9)], [ALPHA], {}, BOTH, NOW)
    assert gone.waits[5].code is Code.NO_HOST


def test_a_step_waits_for_its_training_and_after_a_failure():
    blocked = Reason(Code.AFTER, "waits for job 1 (running) to succeed")
    rests = Reason(Code.BACKOFF, "failed (disk); try 2 of 3 in 5s")
    steps = [PendingStep(5, host=1, blocked=blocked), PendingStep(6, host=1, not_before=NOW + 5, rests=rests)]
    decided = plan_steps(steps, [ALPHA], {}, BOTH, NOW)
    assert not decided.starts and decided.waits[5] == blocked
    assert decided.waits[6].text == rests.text and decided.waits[6].figures["until"] == NOW + 5
    assert plan_steps(steps, [ALPHA], {}, BOTH, NOW + 6).starts == {6: 1}


@given(
    st.lists(
        st.builds(
            PendingStep,
            job_id=st.integers(10, 40),
            priority=st.integers(0, 100),
            host=st.sampled_from([None, 1, 2, 3]),
            not_before=st.sampled_from([0.0, NOW + 1]),
            blocked=st.sampled_from([None, Reason(Code.HELD, "held")]),
        ),
        unique_by=lambda step: step.job_id,
    ),
    st.sampled_from([{}, {1: 3}]),
)
def test_every_step_starts_or_has_a_reason_and_nothing_given_is_changed(
    steps: list[PendingStep], running: dict[int, int]
):
    hosts = [ALPHA, BETA, Host(3, "gamma", (), drained=True)]
    before = deepcopy((steps, hosts, running))
    decided = plan_steps(steps, hosts, running, BOTH, NOW)
    assert (steps, hosts, running) == before
    assert decided.starts.keys() | decided.waits.keys() == {step.job_id for step in steps}
    assert not decided.starts.keys() & decided.waits.keys()
    places = [*decided.starts.values(), *running]
    assert len(places) == len(set(places)) and 3 not in decided.starts.values()
    by_id = {step.job_id: step for step in steps}
    for job_id, host_id in decided.starts.items():
        assert by_id[job_id].host == host_id and by_id[job_id].blocked is None
    assert plan_steps(list(reversed(steps)), hosts, running, BOTH, NOW) == decided
