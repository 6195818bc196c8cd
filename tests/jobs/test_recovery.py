"""What follows when an attempt ends."""

from __future__ import annotations

import pytest

from jobs.cards import card_for
from jobs.memory.rung import Rung
from jobs.messages.reports import Ended
from jobs.recovery import (
    LONGEST_START_BACKOFF_S,
    LONGEST_STORAGE_BACKOFF_S,
    MAX_LOST_IN_A_ROW,
    OOM_REQUEUES,
    SPOILT_FROM_THE_START,
    Finish,
    Past,
    RanOut,
    Requeue,
    backoff_s,
    decide,
    nothing_smaller,
    spent,
    suggestions,
)
from jobs.state import Code, Event, Outcome, Reason
from jobs.units import GiB
from tests.fleets import spec


def ended(outcome: Outcome, steps: int = 3, message: str = "") -> Ended:
    return Ended(ts=0, outcome=outcome, steps=steps, message=message)


@pytest.mark.parametrize(
    ("outcome", "event", "code"),
    [
        (Outcome.SUCCEEDED, Event.SUCCEEDED, Code.SUCCEEDED),
        (Outcome.CANCELLED, Event.CANCELLED, Code.CANCELLED),
        (Outcome.TIMEOUT, Event.FAILED, Code.TIMEOUT),
        (Outcome.FAILED, Event.FAILED, Code.FAILED),
    ],
)
def test_these_outcomes_end_the_job(outcome, event, code):
    decision = decide([], ended(outcome), spec(time_limit="1h"), cancel_requested=False)
    assert isinstance(decision, Finish)
    assert (decision.event, decision.reason.code) == (event, code)


@pytest.mark.parametrize("steps", [0, 3])
def test_a_fault_of_the_host_costs_the_job_nothing(steps):
    """However often: neither a retry, nor one of the attempts that may be lost in a row."""
    mine = Past(Outcome.HOST_FAULT, steps)
    decision = decide([mine] * 50, ended(Outcome.HOST_FAULT, steps, "no torch"), spec(), False)
    assert isinstance(decision, Requeue) and decision.delay_s == 0
    assert "no torch; that is the host's fault" in decision.reason.text
    lost = [Past(Outcome.LOST, steps), mine, mine] * (MAX_LOST_IN_A_ROW - 2)
    again = decide(lost, ended(Outcome.LOST, steps), spec(), False)
    assert isinstance(again, Requeue)
    last = decide([*lost, Past(Outcome.LOST, steps)], ended(Outcome.LOST, steps), spec(), False)
    assert isinstance(last, Finish)


def test_what_never_started_is_tried_as_long_as_that_takes():
    """It backs off, spends nothing, and is no loss among losses."""
    never = Past(Outcome.NOT_STARTED, 0)
    found = [
        decide([never] * times, ended(Outcome.NOT_STARTED, 0), spec(retries=0), False) for times in range(50)
    ]
    assert all(isinstance(one, Requeue) and one.reason.code is Code.BACKOFF for one in found)
    delays = [one.delay_s for one in found if isinstance(one, Requeue)]
    assert delays[:3] == [5, 10, 20] and max(delays) == delays[-1] == LONGEST_START_BACKOFF_S
    lost = [Past(Outcome.LOST, 3), never, never] * (MAX_LOST_IN_A_ROW - 2)
    assert isinstance(decide(lost, ended(Outcome.LOST), spec(), False), Requeue)
    again = decide([never, never, Past(Outcome.PREEMPTED, 7)], ended(Outcome.NOT_STARTED, 0), spec(), False)
    assert isinstance(again, Requeue) and again.delay_s == 5


@pytest.mark.parametrize("retries", [0, 5])
def test_what_diverged_is_not_tried_blindly_again(retries):
    asked = spec(retries=retries, training={"learning_rate": 0.5, "warmup_ratio": 0.0})
    decision = decide([], ended(Outcome.DIVERGED, 7, "diverged in step 8: the loss is nan"), asked, False)
    assert isinstance(decision, Finish)
    assert (decision.event, decision.reason.code) == (Event.FAILED, Code.DIVERGED)
    assert decision.reason.text == "diverged in step 8: the loss is nan"
    assert decision.reason.figures["steps"] == 7
    assert decision.reason.figures["suggestions"][0] == "training.learning_rate: 0.05 (it is 0.5)"


def test_a_base_model_that_is_not_finite_is_not_helped_by_a_learning_rate():
    message = f"{SPOILT_FROM_THE_START}, such as lm_head.weight; there is no good checkpoint"
    decision = decide([], ended(Outcome.DIVERGED, 1, message), spec(), False)
    (helps,) = decision.reason.figures["suggestions"]
    assert helps.startswith("another base model") and "learning_rate" not in helps


def test_a_failure_spends_a_retry_with_growing_backoff():
    first = decide([], ended(Outcome.FAILED, message="boom"), spec(retries=1), False)
    assert isinstance(first, Requeue) and first.delay_s == backoff_s(1) > 0
    assert "boom" in first.reason.text
    second = decide([Past(Outcome.FAILED, 3)], ended(Outcome.FAILED), spec(retries=1), False)
    assert isinstance(second, Finish) and second.event is Event.FAILED
    assert backoff_s(1) < backoff_s(2) <= backoff_s(50) == 600


def test_a_folder_that_takes_nothing_is_tried_for_as_long_as_it_takes():
    said = ended(
        Outcome.STORAGE, steps=100, message="no space left on device in /data (needs 1 GiB, 3 MiB free)"
    )
    delays = []
    for times in range(60):
        decision = decide([Past(Outcome.STORAGE, 100)] * times, said, spec(retries=0), False)
        assert isinstance(decision, Requeue) and decision.reason.code is Code.STORAGE
        assert decision.reason.text == said.message
        delays.append(decision.delay_s)
    assert delays[:3] == [5, 10, 20] and max(delays) == delays[-1] == LONGEST_STORAGE_BACKOFF_S
    again = decide([Past(Outcome.STORAGE, 100), Past(Outcome.PREEMPTED, 120)], said, spec(), False)
    assert isinstance(again, Requeue) and again.delay_s == 5
    assert isinstance(decide([], said, spec(), cancel_requested=True), Finish)


@pytest.mark.parametrize(
    "outcome", [Outcome.LOST, Outcome.NOT_STARTED, Outcome.PREEMPTED, Outcome.HOST_STOPPED]
)
def test_what_is_not_the_jobs_fault_spends_no_retry(outcome):
    assert isinstance(decide([], ended(outcome), spec(), False), Requeue)


def test_a_job_whose_host_was_stopped_was_preempted_by_nobody():
    history = [Past(Outcome.HOST_STOPPED, 3)] * (MAX_LOST_IN_A_ROW + 1)  # nor does it wear the job out
    decision = decide(history, ended(Outcome.HOST_STOPPED, steps=3), spec(), False)
    assert isinstance(decision, Requeue) and decision.reason.code is Code.BACKOFF
    assert decision.reason.text.startswith("its host was stopped at step 3") and not decision.delay_s


def test_a_job_that_is_lost_again_and_again_without_progress_is_given_up():
    history = [Past(Outcome.LOST, 3)] * (MAX_LOST_IN_A_ROW - 1)
    decision = decide(history, ended(Outcome.LOST, steps=3), spec(), False)
    assert isinstance(decision, Finish) and decision.reason.code is Code.LOST
    moved_on = decide(history, ended(Outcome.LOST, steps=30), spec(), False)
    assert isinstance(moved_on, Requeue)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.LOST, Outcome.OOM, Outcome.PREEMPTED])
def test_a_cancel_that_was_asked_for_is_what_ends_the_job(outcome):
    decision = decide([], ended(outcome), spec(retries=5), cancel_requested=True)
    assert isinstance(decision, Finish) and decision.event is Event.CANCELLED


def test_success_wins_over_a_late_cancel():
    decision = decide([], ended(Outcome.SUCCEEDED), spec(), cancel_requested=True)
    assert isinstance(decision, Finish) and decision.event is Event.SUCCEEDED


RAN_OUT = RanOut(Rung(0, 4, 2), "cuda", "NVIDIA A10G", 24 * GiB, 20 * GiB, 22 * GiB)


def test_running_out_of_memory_spends_no_retry_and_says_what_was_measured():
    how = ended(Outcome.OOM, steps=7, message="tried to allocate 2 GiB").model_copy(
        update={"device_bytes": 23 * GiB}
    )
    decision = decide([Past(Outcome.FAILED, 3)], how, spec(retries=1), False, RAN_OUT)
    assert isinstance(decision, Requeue) and decision.delay_s == 0
    assert decision.reason.code is Code.OOM
    figures = decision.reason.figures
    assert (figures["device_bytes"], figures["card_bytes"], figures["steps"]) == (23 * GiB, 24 * GiB, 7)
    assert (figures["projected_device_bytes"], figures["projected_upper_bytes"]) == (20 * GiB, 22 * GiB)
    for words in ("23.00 GiB in use", "NVIDIA A10G with 24.00 GiB", "off, 4×2", "at most 22.00 GiB"):
        assert words in decision.reason.text
    later = decide([Past(Outcome.OOM, 3)], ended(Outcome.FAILED), spec(retries=1), False)
    assert isinstance(later, Requeue), "an attempt that ran out of memory is no failure of the job's own"


@pytest.mark.parametrize("allowed", [0, 1, OOM_REQUEUES])
def test_a_job_runs_out_of_memory_a_set_number_of_times(allowed):
    def after(times: int):
        return decide(
            [Past(Outcome.OOM, 1)] * times, ended(Outcome.OOM), spec(retries=9), False, RAN_OUT, allowed
        )

    assert all(isinstance(after(times), Requeue) for times in range(allowed))
    last = after(allowed)
    assert isinstance(last, Finish) and last.event is Event.FAILED and last.reason.code is Code.OOM


def test_what_ran_out_is_not_given_again_on_such_a_card_or_a_smaller_one():
    def card(gib: int, kind: str = "cuda"):
        return card_for(kind, "NVIDIA A10G" if kind == "cuda" else "cpu", gib * GiB)

    for size in (24, 16):
        assert spent([RAN_OUT], card(size), 0.1) == (frozenset({RAN_OUT.rung}), 22 * GiB)
    assert spent([RAN_OUT], card(48), 0.1) == spent([RAN_OUT], card(24, "cpu"), 0.1) == (frozenset(), None)
    lower = RanOut(Rung(1, 4, 2), "cuda", "NVIDIA A10G", 24 * GiB, 15 * GiB, 16 * GiB)
    rungs, ceiling = spent([RAN_OUT, lower], card(24), 0.0)
    assert rungs == {RAN_OUT.rung, lower.rung} and ceiling == 15 * GiB


def test_where_nothing_smaller_fits_the_reason_says_so_with_figures_and_suggestions():
    misfit = Reason(Code.MEMORY, "fits no card: needs at least 25.00 GiB", {"needs_bytes": 25 * GiB})
    reason = nothing_smaller([RAN_OUT], spec(method="full"), misfit)
    assert reason.code is Code.OOM
    assert reason.figures["needs_bytes"] == 25 * GiB and reason.figures["rungs"] == ["off, 4×2"]
    assert "needs at least 25.00 GiB" in reason.text and "nothing that needs less fits" in reason.text
    for words in ("method.kind: qlora", "adamw_8bit"):
        assert any(words in line for line in reason.figures["suggestions"])


def test_suggestions_name_only_what_the_job_does_not_do_yet():
    fixed = spec(method="qlora", memory={"checkpointing": "off"})
    assert suggestions(fixed)[0].startswith("memory.") and not any(
        "qlora" in line for line in suggestions(fixed)
    )
    assert not any("8bit" in line for line in suggestions(spec(method="lora")))
