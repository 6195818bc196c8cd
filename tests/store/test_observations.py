"""What calibration reads: projected beside measured of attempts that ended."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from jobs.memory.calibration.interval import Calibration
from jobs.state import Code, Event, Outcome
from jobs.units import GiB
from orchestrator.store import Store
from orchestrator.store.observations import Selection
from orchestrator.store.requests import Actor
from orchestrator.store.schema.tables import observations
from tests.builders import (
    CARD_BYTES,
    NOW,
    RUNG,
    a_projection,
    an_end,
    because,
    end_attempt,
    joined,
    opened,
    start_attempt,
    submitted,
    training,
)

SPEC = {
    "model": {"config": {"model_type": "llama"}, "tokenizer": "t"},
    "data": "d",
    "method": {"kind": "qlora"},
}
BASIS = {
    "family": "llama",
    "quantisation": "fp4",
    "trace_key": "key of the host",
    "sequence_length": 900,
    "confidence": 0.9,
    "margin_group": "prior",
    "margin": None,
    "margin_beside": None,
    "speed": 1.0,
}
OUT = because(Code.OOM, "memory ran out")


def test_an_end_leaves_an_observation_where_memory_was_measured(store: Store) -> None:
    attempt = training(store, spec=SPEC)
    sizes = {"allocated_bytes": 16 * GiB, "reserved_bytes": 17 * GiB, "device_bytes": 18 * GiB}
    ended = an_end(**sizes, step_s=0.6, expandable=False)
    end_attempt(store, attempt.id, 1, ended, Event.SUCCEEDED, because(), NOW + 60)
    (seen,) = store.observations()
    assert (seen.attempt_id, seen.trace_key, seen.outcome) == (attempt.id, None, "succeeded")
    assert (seen.architecture, seen.method, seen.card) == ("llama", "qlora", "NVIDIA A10G")
    assert (seen.family, seen.quantisation, seen.card_bytes) == ("llama", "nf4", CARD_BYTES)
    assert (seen.stack, seen.rung) == ({"torch": "2.13.0"}, RUNG)
    assert (seen.projected_upper_bytes, seen.projected_device_bytes) == (20 * GiB, 19 * GiB)
    assert (seen.measured_allocated_bytes, seen.measured_device_bytes) == (16 * GiB, 18 * GiB)
    assert (seen.projected_step_s, seen.measured_step_s, seen.expandable) == (0.5, 0.6, False)
    assert store.jobs_of_attempts([attempt.id, 999]) == {attempt.id: (attempt.job_id, "tune", 1)}


def test_what_the_projection_stood_on_is_kept_with_it(store: Store) -> None:
    host_id, gpu_ids = joined(store)
    job = submitted(store, spec=SPEC)
    attempt = start_attempt(store, job.id, host_id, gpu_ids, RUNG, a_projection(), NOW, BASIS)
    assert attempt is not None and attempt.basis == BASIS and store.attempt(attempt.id).basis == BASIS
    end_attempt(store, attempt.id, 1, an_end(device_bytes=1), Event.SUCCEEDED, because(), NOW + 60)
    (seen,) = store.observations()
    assert (seen.trace_key, seen.sequence_length, seen.confidence) == ("key of the host", 900, 0.9)
    assert (seen.margin_group, seen.phase) == ("prior", "backward")
    assert seen.quantisation == "fp4", "as the base lay, not as its method would pack it"


def test_the_bound_of_live_bytes_is_kept_where_they_had_one_of_their_own(store: Store) -> None:
    ends = {"allocated": [15 * GiB, round(16.5 * GiB)]}
    host_id, gpu_ids = joined(store)
    for beside, known in (([-0.3, 0.5], round(16.5 * GiB)), (None, None)):
        told = {
            **a_projection(),
            "intervals": ends,
            "margin": {"low": -0.01, "high": 0.03, "count": 0, "group": "prior", "beside": beside},
        }
        attempt = start_attempt(
            store, submitted(store, spec=SPEC).id, host_id, gpu_ids, RUNG, told, NOW, BASIS
        )
        ended = an_end(allocated_bytes=16 * GiB, device_bytes=18 * GiB, step_s=1.0)
        end_attempt(store, attempt.id, 1, ended, Event.SUCCEEDED, because(), NOW + 60)
        seen = store.observations()[-1]
        assert seen.projected_live_upper_bytes == known
        assert seen.covered_part("live") is (None if known is None else True)


def test_an_attempt_that_measured_nothing_leaves_no_observation(store: Store) -> None:
    attempt = training(store)
    end_attempt(
        store, attempt.id, 1, an_end(Outcome.NOT_STARTED), Event.FAILED, because(Code.NOT_STARTED), NOW
    )
    assert store.observations() == []


def test_running_out_of_memory_is_observed_even_where_nothing_was_measured(store: Store) -> None:
    attempt = training(store)
    end_attempt(store, attempt.id, 1, an_end(Outcome.OOM), Event.REQUEUED, OUT, NOW)
    (seen,) = store.observations()
    assert seen.ran_out and seen.covered is False
    assert seen.residual() == CARD_BYTES / (19 * GiB) - 1
    margin = Calibration([seen]).margin(seen.group, 0.95)
    assert margin is not None and 19 * GiB * (1 + margin.high) > CARD_BYTES


def test_what_ran_out_of_memory_that_is_no_tensors_is_no_observation(store: Store) -> None:
    attempt = training(store)
    ended = an_end(Outcome.OOM, host_memory=True, device_bytes=1, allocated_bytes=1)
    end_attempt(store, attempt.id, 1, ended, Event.REQUEUED, OUT, NOW)
    assert store.observations() == []


@pytest.mark.parametrize(
    ("what", "left"),
    [
        (Selection(job_id=1), [2, 3]),
        (Selection(family="llama"), []),
        (Selection(family="llama", card="NVIDIA A10G"), []),
        (Selection(card="NVIDIA L4"), [1, 2, 3]),
        (Selection(job_id=2, family="qwen3"), [1, 2, 3]),
    ],
    ids=lambda one: one.text if isinstance(one, Selection) else None,
)
def test_what_was_measured_can_be_forgotten(store: Store, what: Selection, left: list[int]) -> None:
    host_id, gpu_ids = joined(store)
    for number in range(3):
        job = submitted(store, spec=SPEC)
        attempt = opened(store, job, host_id, gpu_ids, NOW + number)
        end_attempt(store, attempt.id, 1, an_end(device_bytes=1), Event.SUCCEEDED, because(), NOW + number)
    gone = 3 - len(left)
    assert store.forget_observations(what, NOW, try_only=True) == (gone, gone)
    assert len(store.observations()) == 3
    assert store.forget_observations(what, NOW, Actor("ada", "10.0.0.1")) == (gone, gone)
    assert [seen.job_id for seen in store.observations()] == left
    told = [action for action in store.actions() if action.event.kind == "forgotten"]
    assert len(told) == (1 if gone else 0)


def test_the_newest_are_read_oldest_first(store: Store) -> None:
    host_id, gpu_ids = joined(store)
    ids = []
    for number in range(4):
        attempt = opened(store, submitted(store), host_id, gpu_ids, NOW + number)
        end_attempt(store, attempt.id, 1, an_end(device_bytes=1), Event.SUCCEEDED, because(), NOW + number)
        ids.append(attempt.id)
    assert [seen.attempt_id for seen in store.observations()] == ids
    assert [seen.attempt_id for seen in store.observations(2)] == ids[2:]


def test_an_observation_of_the_first_revision_is_readable(store: Store) -> None:
    attempt = training(store, spec=SPEC)
    end_attempt(store, attempt.id, 1, an_end(device_bytes=18 * GiB), Event.SUCCEEDED, because(), NOW)
    unknown = dict.fromkeys(("family", "quantisation", "card_bytes", "phase", "confidence", "margin_group"))
    with store.write() as connection:
        connection.execute(sa.update(observations).values(**unknown, sequence_length=None))
    (seen,) = store.observations()
    assert (seen.family, seen.quantisation, seen.card_bytes, seen.confidence) == ("llama", "none", None, None)
