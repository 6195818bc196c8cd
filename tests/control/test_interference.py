"""Jobs on one card: when they slow each other down too much, which one goes, and which never share a card again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobs.memory.rung import Rung
from jobs.recovery import RanOut
from jobs.units import GiB
from orchestrator.control.sharing.interference import Sharer, apart, last_alone, parting, step_s, too_slow
from orchestrator.scheduler.fleet import Fleet, RunningJob
from orchestrator.scheduler.policy import Rules
from orchestrator.store.rows import ProgressRow
from tests.fleets import Peaks, fleet, gpu, host, plan, waiting

RULES = Rules()


def line(step: int, ts: float, step_s: float | None) -> ProgressRow:
    nothing: dict[str, Any] = dict.fromkeys(
        ("loss", "learning_rate", "tokens_per_s", "allocated_bytes", "reserved_bytes", "device_bytes")
    )
    return ProgressRow(1, step, ts, 100, tokens=0, step_s=step_s, **nothing)


def every(seconds: float, count: int, took: float) -> list[ProgressRow]:
    return [line(at + 1, at * seconds, took) for at in range(count)]


def sharers(*slowdowns: float | None) -> list[Sharer]:
    return [
        Sharer(number, 10 * number, float(number), 1.0, slow)
        for number, slow in enumerate(slowdowns, start=1)
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(every(1.0, 12, 1.0), None, id="eleven steps are too few"),
        pytest.param(every(1.0, 13, 1.0), 1.0, id="a dozen will do"),
        pytest.param(every(0.5, 13, 0.5), None, id="a dozen in six seconds are too few"),
        pytest.param([line(1, 0, 1.0), line(101, 60, 0.6)], None, id="one line is no pace"),
        pytest.param([line(1, 0, 9.0), *every(1.0, 20, 1.0)[1:]], 1.0, id="the first counts what was before"),
        pytest.param([*every(1.0, 20, 1.0), line(21, 99, 80.0)], 1.0, id="one slow step is no pace"),
        pytest.param(every(1.0, 20, 1.0)[:1] + every(1.0, 20, None)[1:], None, id="no times at all"),
        pytest.param([], None, id="nothing"),
    ],
)  # fmt: skip
def test_a_pace_needs_a_dozen_steps_and_ten_seconds(lines, expected):  # type: ignore[no-untyped-def]
    assert step_s(lines) == expected


@pytest.mark.parametrize(
    ("since", "until", "others", "expected"),
    [
        pytest.param(10.0, 50.0, [(50.0, None)], (10.0, 50.0), id="before a neighbour came"),
        pytest.param(10.0, 50.0, [(5.0, None)], None, id="never"),
        pytest.param(10.0, 90.0, [(5.0, 40.0), (80.0, None)], (40.0, 80.0), id="between two"),
        pytest.param(
            10.0, 90.0, [(20.0, 30.0), (60.0, None)], (30.0, 60.0), id="the later of two times alone"
        ),
        pytest.param(10.0, 90.0, [(20.0, 50.0), (40.0, None)], (10.0, 20.0), id="neighbours that overlap"),
        pytest.param(50.0, 50.0, [(10.0, None)], None, id="it came last itself"),
        pytest.param(50.0, 50.0, [(10.0, 20.0)], None, id="no time at all"),
        pytest.param(10.0, 50.0, [], (10.0, 50.0), id="always"),
    ],
)
def test_when_a_job_was_last_alone_on_its_card(since, until, others, expected):  # type: ignore[no-untyped-def]
    assert last_alone(since, until, others) == expected


@pytest.mark.parametrize(
    ("slowdowns", "rules", "bad"),
    [
        ((1.4, 1.4), RULES, False),
        ((1.0, 1.51), RULES, True),
        ((None, 1.4), RULES, False),
        ((None, 1.6), RULES, True),
        ((None, None), RULES, False),
        ((1.9, 1.9), Rules(share_slowdown=3), False),  # 1.05 times the work of one
        ((2.1, 2.1), Rules(share_slowdown=3), True),  # one after the other is sooner done
        ((2.5, 2.5, 2.5), Rules(share_slowdown=3), False),
        ((None, 2.9), Rules(share_slowdown=3), False),
    ],
)
def test_too_slow_is_beyond_the_rule_or_less_work_than_one_does_alone(slowdowns, rules, bad):  # type: ignore[no-untyped-def]
    assert too_slow(sharers(*slowdowns), rules) is bad


def test_the_last_to_come_goes_and_the_figures_say_why():
    found = parting(sharers(1.2, 2.25, 1.1), RULES)
    assert found is not None
    gone, reason = found
    assert gone.job_id == 3
    assert "job 2 took 2.2 times" in reason.text and "not beside jobs 1, 2" in reason.text
    assert reason.figures == {
        "apart_from": [1, 2],
        "slowdown": 2.25,
        "alone_s": 1.0,
        "beside_s": 2.25,
        "allowed": 1.5,
    }


def test_nobody_is_stopped_before_all_have_settled_or_for_what_was_only_projected_a_little_wrong():
    first, second = sharers(4.0, 4.0)
    assert parting([first, replace(second, beside_s=None)], RULES) is None
    assert parting([first], RULES) is None
    assert parting([replace(one, spread=1.0, beside_s=2.9) for one in (first, second)], RULES) is None
    assert parting([replace(one, spread=1.0, beside_s=3.1) for one in (first, second)], RULES) is not None


def shared(job_id: int, gpu_id: int, upper: int = 10 * GiB) -> RunningJob:
    return RunningJob(job_id, job_id, 1, (gpu_id,), 50, 0.0, 0.0, shares=True, upper_bytes=upper)


def taken(job_id: int, gpu_id: int) -> RunningJob:
    """One that does not share its card."""
    return RunningJob(job_id, job_id, 1, (gpu_id,), 50, 0.0, 0.0)


def seen(*held: RunningJob, queue: list[Any]) -> Fleet:
    """Two cards of 24 GiB, and who shares them."""
    by_card = {gpu_id: job.job_id for job in held for gpu_id in job.gpu_ids}
    cards = [gpu(number, 24, held_by=by_card.get(number)) for number in (1, 2)]
    return replace(fleet([host(1, *cards)], queue), running=tuple(held))


def where(snapshot: Fleet) -> dict[int, tuple[int, bool]]:
    started = plan(snapshot, 1e6, Peaks(10, 5)).starts
    return {job: (placement.gpus[0].id, placement.side) for job, placement in started.items()}


def job(number: int, **more: Any) -> Any:
    return replace(waiting(number, resources={"share": True}), **more)


def test_what_was_parted_does_not_lie_beside_each_other_again():
    assert where(seen(shared(7, 1), taken(8, 2), queue=[job(9)])) == {9: (1, True)}
    away = job(9, apart=frozenset({7}))
    assert where(seen(shared(7, 1), taken(8, 2), queue=[away])) == {}
    assert where(seen(shared(7, 1), queue=[away])) == {9: (2, False)}
    assert where(seen(shared(7, 1), shared(8, 2), queue=[away])) == {9: (2, True)}
    assert where(seen(shared(7, 1), shared(7, 2), queue=[away])) == {}


def test_two_that_start_at_once_are_kept_apart_both_ways():
    known = apart({(9, 8)})
    pair = [job(number, apart=known[number]) for number in (8, 9)]
    assert where(seen(taken(7, 2), queue=pair)) == {8: (1, False)}
    assert where(seen(taken(7, 2), queue=[job(8), job(9)])) == {8: (1, False), 9: (1, True)}


def test_a_job_that_ran_out_of_its_share_gets_a_card_to_itself():
    ran_out = RanOut(Rung(0, 1), "cuda", "card24", 10 * GiB, 9 * GiB, 10 * GiB, shared=True)
    greedy = job(9, ran_out=(ran_out,))
    assert not greedy.shares and job(9, ran_out=(replace(ran_out, shared=False),)).shares
    assert where(seen(shared(7, 1), queue=[greedy])) == {9: (2, False)}
    assert where(seen(queue=[greedy, job(10)])) == {9: (1, False), 10: (2, False)}
