"""jobs/memory/allocator: what torch's CUDA allocator holds beside live tensors, and how far off that was."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise
from statistics import NormalDist

import pytest

from jobs.cards import CATALOGUE, Card, find_card
from jobs.memory.allocator.fitted import FITTED
from jobs.memory.allocator.residuals import CONFIDENCES, RESIDUALS, ROUGH
from jobs.memory.calibration.interval import Calibration
from jobs.memory.calibration.observations import Group, Observation
from jobs.memory.ladder import choose
from jobs.memory.project import Projection, Rung, project
from jobs.memory.projection import half_the_risk, prior
from jobs.units import GiB, MiB
from tests.fleets import spec
from tests.step_profiles import card, profile

RUNGS = [Rung(0, 1), Rung(0, 4), Rung(2, 8), Rung(1, 4, 2), Rung(1, 8, 1, offload=True)]
H100, ADA = find_card("h100"), find_card("rtx4090")


def told(on: Card, rung: Rung = RUNGS[1], alike: bool = False, length: int = 512) -> Projection:
    return project(profile(), rung, sequence_length=length, card=on, equal_rows=alike)


@pytest.mark.parametrize("rung", RUNGS, ids=str)
def test_the_workspaces_of_both_threads_count_as_allocated(rung: Rung) -> None:
    bare = told(card(), rung)
    for on, each in ((ADA, 8_519_680), (H100, 32 * MiB)):
        assert told(on, rung).allocated_bytes == bare.allocated_bytes + 2 * each
        assert told(on, rung).phases == bare.phases, "phases are of tensors alone"


@pytest.mark.parametrize("rung", RUNGS, ids=str)
def test_segments_that_expand_hold_less_where_much_moves_and_so_do_batches_of_one_length(rung: Rung) -> None:
    fixed = replace(ADA, expandable=False)
    for alike in (True, False):
        here, there = (told(on, rung, alike, length=8192) for on in (ADA, fixed))
        assert here.allocated_bytes < there.allocated_bytes, "blocks that are not split"
        assert here.upper_bytes < there.upper_bytes
    # Fixed ones are the longest batch's from the first step on, whatever the others are.
    one, many = (told(ADA, rung, alike, length=8192) for alike in (True, False))
    assert one.reserved_bytes - one.allocated_bytes < many.reserved_bytes - many.allocated_bytes


def test_packed_rows_are_of_one_length() -> None:
    packed = replace(profile(), packed=True)
    found = project(packed, RUNGS[1], sequence_length=512, card=ADA)
    assert found == project(packed, RUNGS[1], sequence_length=512, card=ADA, equal_rows=True)
    assert found.margin == prior("cuda", 0.95, "expandable", alike=True)


@pytest.mark.parametrize("equal_rows", [True, False])
def test_the_choice_knows_of_data_whose_rows_are_of_one_length(equal_rows: bool) -> None:
    job = spec(training={"sequence_length": 1024, "global_batch": 8})
    found = choose(profile(), job, ADA, length=1024, equal_rows=equal_rows)
    for tried in found.tried:
        same = project(profile(), tried.rung, sequence_length=1024, card=ADA, equal_rows=equal_rows)
        assert tried.projection.upper_bytes == same.upper_bytes


@pytest.mark.parametrize("on", CATALOGUE, ids=lambda on: on.short)
def test_parts_add_up_on_every_card(on: Card) -> None:
    for rung in RUNGS:
        for expandable in (True, False):
            found = told(replace(on, expandable=expandable), rung)
            assert sum(found.parts.values()) == found.device_bytes
            assert found.allocated_bytes < found.reserved_bytes < found.device_bytes < found.upper_bytes
            assert found.upper_bytes == found.intervals["device"][1]


def test_live_bytes_and_what_stands_beside_them_have_an_interval_each() -> None:
    found = told(ADA)
    margin, live = found.margin, found.allocated_bytes
    assert margin is not None and margin.beside is not None and margin.group == "prior"
    assert found.intervals["allocated"][1] == round(live * (1 + margin.high))
    upper = found.device_bytes + live * margin.high + found.device_bytes * margin.beside[1]
    assert found.upper_bytes == pytest.approx(upper, abs=1)
    assert margin.high < margin.beside[1], "live bytes are projected the better"


@pytest.mark.parametrize("key", [*RESIDUALS, *ROUGH], ids=str)
def test_the_residuals_hold_the_projection_and_widen_with_confidence(key: tuple[str, str] | str) -> None:
    assert RESIDUALS.keys() == FITTED.keys() and {key for _, key in RESIDUALS} == ROUGH.keys()
    known = ROUGH[key] if isinstance(key, str) else RESIDUALS[key]
    for ends in (known.live, known.beside):
        assert len(ends) == len(CONFIDENCES)
        assert all(low <= 0 <= high for low, high in ends)
        assert all(later[0] <= one[0] and one[1] <= later[1] for one, later in pairwise(ends))
    steps = [0.5, 0.6, 0.9, 0.97, 0.99, 0.999, 0.99999]
    for part in (0, 1):
        found = [known.at(confidence)[part] for confidence in steps]
        assert all(later[0] <= one[0] and one[1] <= later[1] for one, later in pairwise(found))
    for confidence, *ends in zip(CONFIDENCES, known.live, known.beside, strict=True):
        for found, end in zip(known.at(confidence), ends, strict=True):
            assert found == pytest.approx(end)


HERE = Group("llama", "lora", "none", ADA.name, "torch=2.13.0")


def observed(live: float, beside: float, **fields) -> Observation:
    """live: what it took more, as a share of live bytes; beside: what more beside them, of the device's."""
    given = {
        "family": "llama",
        "method": "lora",
        "card": ADA.name,
        "card_bytes": 24 * GiB,
        "stack": {"torch": "2.13.0"},
        "projected_allocated_bytes": 10 * GiB,
        "projected_device_bytes": 12 * GiB,
        "measured_allocated_bytes": round(10 * GiB * (1 + live)),
        "measured_device_bytes": round(10 * GiB * (1 + live) + 2 * GiB + 12 * GiB * beside),
        "measured_step_s": 1.0,
    }
    return Observation(**given | fields)


def test_each_part_has_the_quantile_of_its_own_residuals_at_half_the_risk() -> None:
    seen = [observed(index / 1000, -index / 1000) for index in range(39)]
    margin = Calibration(seen).margin(HERE, 0.95, "expandable")
    assert (margin.high, margin.count) == (pytest.approx(0.038), 39)
    assert margin.beside == (pytest.approx(-0.038), 0.0)
    fewer = Calibration(seen[:38]).margin(HERE, 0.95, "expandable")  # 39 is what 97.5% takes
    assert fewer.group.startswith("prior, widened by ")
    assert fewer.beside[0] <= -0.037 + 1e-6 and fewer.high >= 0.037 - 1e-6
    assert half_the_risk(0.95) == pytest.approx(0.975)


@pytest.mark.parametrize("together", [1.0, 0.0, -1.0], ids=["alike", "apart", "against"])
def test_the_joined_bound_holds_however_the_two_parts_go_together(together: float) -> None:
    chance, inside, rounds = random.Random(5), 0, 300
    for _ in range(rounds):
        draws = []
        for _ in range(80):
            one, other = NormalDist().inv_cdf(chance.random()), NormalDist().inv_cdf(chance.random())
            shared = together * one + (1 - abs(together)) * other
            draws.append((0.01 * one, 0.02 * shared))
        margin = Calibration(observed(*each) for each in draws[:-1]).margin(HERE, 0.9, "expandable")
        live, beside = draws[-1]
        upper = margin.bytes_at(1, 10 * GiB, 12 * GiB, 12 * GiB)
        inside += 10 * GiB * (1 + live) + 2 * GiB + 12 * GiB * beside <= upper
    assert inside / rounds >= 0.9 - 0.04, "less than was asked for, by more than two standard errors"


def test_what_nobody_told_apart_and_what_ran_out_count_in_full() -> None:
    whole = observed(0, 0, measured_allocated_bytes=None, measured_device_bytes=15 * GiB)
    out = observed(0, 0, outcome="oom", measured_device_bytes=14 * GiB)  # it wanted a fifth more
    for one, least in ((whole, 15 / 12 - 1), (out, 16.8 / 12 - 1)):
        margin = Calibration([observed(0.001, 0.002), one]).margin(HERE, 0.95, "expandable")
        assert margin.beside[1] >= least - 1e-9
        assert margin.bytes_at(1, 10 * GiB, 12 * GiB, 12 * GiB) >= 12 * GiB * (1 + least) - 1


def test_each_part_says_whether_it_stayed_under_its_own_bound() -> None:
    bounds = {"projected_upper_bytes": 13 * GiB, "projected_live_upper_bytes": round(10.2 * GiB)}
    good, heavy, wasteful = (observed(*each, **bounds) for each in ((0.01, 0.02), (0.03, 0.02), (0.01, 0.1)))
    assert [one.covered_part("live") for one in (good, heavy, wasteful)] == [True, False, True]
    assert [one.covered_part("beside") for one in (good, heavy, wasteful)] == [True, True, False]
    assert observed(0.01, 0.02).covered_part("live") is None, "placed by an earlier version"
    assert observed(0, 0, outcome="oom", **bounds).covered_part("beside") is None, "nobody saw which it was"


def test_a_prior_at_more_confidence_is_wider_and_none_is_of_less_than_the_projection() -> None:
    for alike in (True, False):
        one, other = (prior("cuda", asked, "expandable", alike) for asked in (0.8, 0.99))
        assert other.low <= one.low <= 0 <= one.high <= other.high
        assert other.beside[0] <= one.beside[0] <= 0 <= one.beside[1] <= other.beside[1]
        assert 0 <= one.least == one.beside[1]
