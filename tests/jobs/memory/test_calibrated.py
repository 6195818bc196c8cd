"""What the ladder is told of what was measured, and of where a job ran out of memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.cards import card_for
from jobs.memory.calibration.observations import Observation
from jobs.memory.ladder import Choice
from jobs.recovery import RanOut
from jobs.units import GiB
from orchestrator.control.snapshot.build import family_told, fleet_of
from orchestrator.control.snapshot.cache import SnapshotCache, basis_of, chooser
from orchestrator.scheduler.fleet import NoProfile, PendingJob
from orchestrator.scheduler.placement.place import Placement
from orchestrator.store.rows import ProfileRow
from tests.fleets import KEY, STACK, fleet, gpu, host, plan, projection, waiting
from tests.profiles import small_profile

PROFILE = small_profile(layers=4, layer_bytes_a_token=40_000)
CARD = card_for("cuda", "NVIDIA A10G", 24 * GiB)
STACK_ID = host(0).stack_id


def a_job(**fields) -> PendingJob:
    made = waiting(1, training={"sequence_length": 1024, "global_batch": 8})
    return replace(made, family="llama", **fields)


def seen(error: float, pace: float = 1.0, **fields) -> Observation:
    given = {
        "family": "llama",
        "method": "lora",
        "card": "NVIDIA A10G",
        "card_bytes": 24 * GiB,
        "stack": STACK,
        "projected_device_bytes": GiB,
        "measured_device_bytes": round(GiB * (1 + error)),
        "projected_step_s": 1.0,
        "measured_step_s": pace,
    }
    return Observation(**given | fields)


def chosen(cache: SnapshotCache, job: PendingJob) -> Choice:
    found = cache.choose(job, PROFILE, CARD, STACK_ID)
    assert isinstance(found, Choice)
    assert chooser(cache.calibration)(job, PROFILE, CARD, STACK_ID) == found, "remembered, and not the same"
    return found


def test_what_was_measured_moves_the_upper_bound_and_the_pace_but_not_the_projection():
    cache = SnapshotCache()
    before = chosen(cache, a_job())
    cache.calibrate([seen(0.2, pace) for pace in (2.0, 3.0, 4.0)])
    after = chosen(cache, a_job())
    assert after.projection.device_bytes == before.projection.device_bytes
    margin, live = after.projection.margin, after.projection.allocated_bytes
    assert margin.beside[1] == pytest.approx(0.2)  # nobody told live bytes and those beside them apart
    upper = after.projection.device_bytes * 1.2 + live * margin.high
    assert after.projection.upper_bytes == pytest.approx(upper, rel=1e-6)
    assert after.projection.step_s == before.projection.step_s
    assert (before.speed, after.speed) == (1.0, 3.0)
    stranger = chosen(cache, replace(a_job(), family="qwen3"))
    assert stranger.projection.upper_bytes == before.projection.upper_bytes


def test_a_hub_id_counts_with_its_architecture_once_it_is_traced():
    """A job of org/llama-8b and one of org/my-llama learn from each other; before a trace nobody knows that."""
    cache, traced = SnapshotCache(), replace(PROFILE, model_type="llama")
    cache.calibrate([seen(0.2)])
    hub = replace(waiting(1, training={"sequence_length": 1024, "global_batch": 8}), family="org/my-llama")
    for unknown in ({}, {KEY: NoProfile()}, {KEY: PROFILE}):
        assert family_told(hub, unknown)["family"] == "org/my-llama"
    row = ProfileRow(KEY, {}, traced.as_dict(), None, False, 1, 0.0, 0.0, 0.0)
    (job,) = fleet_of((host(1),), [hub], {KEY: row}, cache, 0.0).queue
    assert job.family == "llama"
    assert chosen(cache, job) == chosen(cache, a_job())
    assert chosen(cache, job).projection.upper_bytes > chosen(cache, hub).projection.upper_bytes
    packed = ProfileRow(KEY, {}, replace(traced, quantised="fp4").as_dict(), None, False, 1, 0.0, 0.0, 0.0)
    (job,) = fleet_of((host(1),), [hub], {KEY: packed}, SnapshotCache(), 0.0).queue
    assert (job.family, job.quantisation) == ("llama", "fp4")


def test_a_rung_that_ran_out_is_passed_over_with_all_that_need_as_much():
    cache = SnapshotCache()
    first = chosen(cache, a_job())
    past = RanOut(
        first.rung,
        "cuda",
        CARD.name,
        CARD.memory_bytes,
        first.projection.device_bytes,
        first.projection.upper_bytes,
    )
    second = chosen(cache, a_job(ran_out=(past,)))
    assert second.rung != first.rung
    assert second.projection.device_bytes < first.projection.device_bytes
    larger = cache.choose(a_job(ran_out=(past,)), PROFILE, replace(CARD, memory_bytes=48 * GiB), STACK_ID)
    assert isinstance(larger, Choice) and larger.rung == first.rung


def test_the_longest_sequence_of_the_data_is_what_counts():
    cache = SnapshotCache()
    assert (
        chosen(cache, a_job(length=100)).projection.device_bytes
        < chosen(cache, a_job()).projection.device_bytes
    )


def test_the_basis_of_a_placement_says_whose_residuals_set_its_bound():
    cache = SnapshotCache()
    cache.calibrate([seen(0.2)])
    where = host(1, gpu(1, name="NVIDIA A10G"))
    job = a_job()
    basis = basis_of(job, Placement(where, where.gpus, chosen(cache, job)), cache.calibration)
    assert (basis["family"], basis["trace_key"], basis["sequence_length"]) == ("llama", KEY, 1024)
    assert "widened by llama" in basis["margin_group"] and basis["margin_beside"][1] == pytest.approx(0.2)


@pytest.mark.parametrize(("policy", "taken"), [("smallest_card", 1), ("fastest", 2), ("cheapest", 3)])
def test_the_policy_says_which_of_the_cards_that_fit(policy, taken):
    cards = [replace(gpu(1, 24), price=1.0), replace(gpu(2, 80), price=8.0), replace(gpu(3, 48), price=1.0)]

    def pick(job, profile, card, stack=""):
        step_s = {24: 4.0, 80: 1.0, 48: 2.0}[card.memory_bytes // GiB]
        peak = replace(projection(rung, 10), step_s=step_s)
        return Choice(peak.rung, peak, slowdown=0.0, tried=())

    rung = chosen(SnapshotCache(), a_job()).rung
    job = waiting(1, resources={"policy": policy})
    started = plan(fleet([host(1, *cards)], [job]), 0, pick).starts[1]
    assert [card.id for card in started.gpus] == [taken]
