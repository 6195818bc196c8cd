"""Curves of a training: one over all attempts, and small however long it trains."""

from __future__ import annotations

import itertools
import math

import sqlalchemy as sa

from jobs.messages.reports import Evaluated
from jobs.state import Code, Event, Outcome
from orchestrator.store import Store
from orchestrator.store.hosts.series import KEEP, MOST
from orchestrator.store.schema.tables import evaluations, progress
from tests.builders import (
    NOW,
    a_job,
    a_line,
    a_report,
    a_spec,
    an_end,
    because,
    end_attempt,
    joined,
    news,
    opened,
    submitted,
    training,
)

STEPS = 1_000_000


def steps_of(store: Store, job_id: int) -> list[tuple[int, list[int]]]:
    """Attempt number and steps of the lines that are told of it."""
    return [(one.number, [line.step for line in one.progress]) for one in store.series(job_id)]


def test_a_job_of_a_million_steps_stays_small(store: Store) -> None:
    attempt = training(store)
    spoilt = {step for step in range(0, STEPS, 40) if step in (40_000, 999_960)}
    batch = 500
    told = range(1, STEPS + 1, 40)  # a line a second at 40 steps a second
    for at in range(0, len(told), batch):
        some = told[at : at + batch]
        lines = [
            a_line(step, loss=math.nan if step - 1 in spoilt else 1.0, total_steps=STEPS) for step in some
        ]
        tests = [Evaluated(ts=NOW, step=step, loss=2.0) for step in some]
        store.record_report(attempt.host_id, a_report(news(attempt, progress=lines, evaluations=tests)), NOW)
        (series,) = store.series(attempt.job_id)
        assert len(series.progress) <= MOST + batch and len(series.evaluations) <= MOST + batch
    assert len(series.progress) >= KEEP // 2, "still a curve"
    assert (
        series.progress[0].step == 1 and series.progress[-1].step == told[-1] == series.evaluations[-1].step
    )
    lost = {line.step - 1 for line in series.progress if line.loss is None}
    assert lost == spoilt, "a loss that is no number is not thinned away"
    # What is older than the last batches is spread evenly over the steps.
    early = [line.step for line in series.progress if line.step < STEPS // 2]
    widest = max(after - before for before, after in itertools.pairwise(early))
    assert widest <= 2 * STEPS / (KEEP / 2)
    (offsets,) = store.open_on([attempt.host_id])[attempt.host_id].offsets
    assert (offsets.step, offsets.evaluated) == (told[-1], told[-1]), "the host need not tell it again"


def test_what_a_sweep_compares_is_not_thinned_away(store: Store) -> None:
    host_id, gpu_ids = joined(store)
    sweep = {"early_stop": {"after_steps": 1001, "keep": 0.5}}
    (job,) = store.submit([a_job(spec=a_spec(sweep=sweep), group=0)], NOW)
    attempt = opened(store, job, host_id, gpu_ids)
    before: list[object] = []
    for begin in range(0, 20_000, 500):
        lines = [a_line(step, loss=1.0 / step) for step in range(begin + 2, begin + 502, 2)]
        store.record_report(host_id, a_report(news(attempt, progress=lines)), NOW)
        before.append(store.group_losses(job.id, 1001)[0].loss)
    assert before[3:] == [1.0 / 1002] * len(before[3:])
    with store.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(progress)).scalar_one() < 2 * MOST


def test_attempts_are_one_curve_and_what_is_trained_again_stands_once(store: Store) -> None:
    host_id, gpu_ids = joined(store)
    job = submitted(store)
    for number, steps, tested in (
        (1, (1, 2, 3, 4), (2, 4)),
        (2, (), ()),
        (3, (3, 4, 5), (4,)),
        (4, (5,), ()),
    ):
        attempt = opened(store, job, host_id, gpu_ids)
        lines = [a_line(step, loss=float(number)) for step in steps]
        tests = [Evaluated(ts=NOW, step=step, loss=float(number)) for step in tested]
        store.record_report(host_id, a_report(news(attempt, progress=lines, evaluations=tests)), NOW)
        why = because(Code.PREEMPTED, "made room")
        end_attempt(store, attempt.id, number, an_end(Outcome.PREEMPTED), Event.REQUEUED, why, NOW)
    assert steps_of(store, job.id) == [(1, [1, 2]), (2, []), (3, [3, 4]), (4, [5])]
    tests = [(test.step, test.loss) for one in store.series(job.id) for test in one.evaluations]
    assert tests == [(2, 1.0), (4, 3.0)]
    assert store.series(999) == []


def test_the_same_report_twice_is_one_evaluation(store: Store) -> None:
    attempt = training(store)
    for loss in (1.0, 2.0):
        tests = [Evaluated(ts=NOW, step=0, loss=loss), Evaluated(ts=NOW, step=2, loss=math.nan)]
        store.record_report(attempt.host_id, a_report(news(attempt, evaluations=tests)), NOW)
    (series,) = store.series(attempt.job_id)
    assert [(test.step, test.loss) for test in series.evaluations] == [(0, 1.0), (2, None)]
    view = store.job_view(attempt.job_id)
    assert view.evaluation == series.evaluations[-1] and view.progress is None
    assert store.open_on([attempt.host_id])[attempt.host_id].offsets[0].evaluated == 2
    with store.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(evaluations)).scalar_one() == 2


def test_lines_of_many_attempts_are_counted_together(store: Store) -> None:
    """A server that starts counts those of every attempt of the fleet."""
    asked: list[str] = []
    sa.event.listen(store._engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    with store.write() as connection:
        store.thin_lines(connection, dict.fromkeys(range(1, 401), 1))
    assert len([one for one in asked if "count(*)" in one]) == 2, "one of progress, one of evaluations"


def test_a_spike_of_one_step_stays_however_often_lines_are_thinned(store: Store) -> None:
    attempt = training(store)
    up, down = 20_001, 30_003
    batch = 500
    for begin in range(1, 60_001, batch):
        lines = [
            a_line(step, loss=9.0 if step == up else 0.1 if step == down else 2.0, total_steps=60_000)
            for step in range(begin, begin + batch)
        ]
        store.record_report(attempt.host_id, a_report(news(attempt, progress=lines)), NOW)
    (series,) = store.series(attempt.job_id)
    told = {line.step: line.loss for line in series.progress}
    assert (told[up], told[down]) == (9.0, 0.1) and len(told) <= MOST + batch
