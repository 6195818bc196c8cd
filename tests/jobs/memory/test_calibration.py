"""Measured against projected: intervals that cover, and misses that count at once."""

from __future__ import annotations

import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.memory.calibration.interval import Calibration, conformal
from jobs.memory.calibration.observations import Group, Observation, family_of, quantisation_of
from jobs.memory.calibration.residuals import OUTLIER
from jobs.memory.projection import prior
from jobs.units import GiB, MiB
from tests.fleets import spec

A10G = "NVIDIA A10G"
STACK = {"torch": "2.13.0"}
HERE = Group("llama", "lora", "none", A10G, "torch=2.13.0")
PROJECTED = 20 * GiB


def seen(error: float = 0.0, **fields) -> Observation:
    """An attempt that took `error` more than projected."""
    given = {
        "family": "llama",
        "method": "lora",
        "card": A10G,
        "card_bytes": 24 * GiB,
        "stack": STACK,
        "projected_device_bytes": PROJECTED,
        "projected_upper_bytes": round(PROJECTED * 1.04),
        "measured_device_bytes": round(PROJECTED * (1 + error)),
        "projected_step_s": 1.0,
        "measured_step_s": 1.5,
    }
    return Observation(**given | fields)


def ran_out(**fields) -> Observation:
    return seen(outcome="oom", measured_device_bytes=19 * GiB, **fields)


@given(
    st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=60, unique=True),
    st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]),
)
def test_of_exchangeable_residuals_at_least_the_asked_share_is_inside(residuals, confidence):
    """The theorem itself: each of n + 1 in turn is the new one, which under exchangeability are equally likely."""
    above = below = judged = 0
    for index, new in enumerate(residuals):
        found = conformal(residuals[:index] + residuals[index + 1 :], confidence)
        if found is None:
            continue
        judged += 1
        below += new >= found[0]
        above += new <= found[1]
    assert judged in (0, len(residuals))
    assert above >= confidence * judged - 1e-9 and below >= confidence * judged - 1e-9


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_margin_covers_draws_from_a_skewed_distribution_it_was_not_made_for(confidence):
    chance = random.Random(4)
    covered = []
    for _ in range(400):
        errors = [chance.lognormvariate(-3, 0.8) - 0.03 for _ in range(41)]
        margin = Calibration(map(seen, errors[:-1])).margin(HERE, confidence)
        covered.append(errors[-1] <= margin.high)
    assert fmean(covered) >= confidence - 0.03  # three standard errors of 400 draws at 0.95


@given(
    st.lists(st.floats(-0.3, 0.3), max_size=60),
    st.lists(st.booleans(), max_size=60),
    st.lists(st.sampled_from(["llama", "qwen3", "mistral"]), min_size=60, max_size=60),
    st.floats(0.5, 0.99),
    st.floats(0.0, 0.3),
)
def test_more_confidence_never_narrows_the_interval_and_it_always_holds_the_projection(
    errors, oom, families, confidence, more
):
    observed = [
        ran_out(family=family) if out else seen(error, family=family)
        for error, out, family in zip(errors, oom, families, strict=False)
    ]
    calibration = Calibration(observed)
    one, two = (calibration.margin(HERE, asked) for asked in (confidence, min(0.999, confidence + more)))
    assert (one is None) == (two is None)
    if one and two:
        assert two.low <= one.low <= 0 <= one.high <= two.high


@given(st.lists(st.floats(-0.3, 0.3), min_size=1, max_size=80), st.floats(0.5, 0.99), st.floats(0.0, 0.4))
def test_within_a_group_that_is_large_enough_confidence_only_widens(errors, confidence, more):
    higher = conformal(errors, min(0.999, confidence + more))
    lower = conformal(errors, confidence)
    if higher is not None:
        assert lower is not None and higher[0] <= lower[0] and lower[1] <= higher[1]


def test_nineteen_are_enough_for_ninety_five_percent_and_eighteen_are_not():
    errors = [index / 1000 for index in range(19)]
    assert conformal(errors[:18], 0.95) is None
    assert conformal(errors, 0.95) == (0.0, 0.018)


def test_without_data_the_prior_stands():
    assert Calibration().margin(HERE, 0.95) is None
    assert Calibration([seen(family="qwen3")]).margin(HERE, 0.95) is None
    assert Calibration().speed(HERE) == 1.0
    assert prior("cuda", 0.95).high == pytest.approx(0.041, abs=0.001)
    assert prior("cpu", 0.5).high == 0


@pytest.mark.parametrize(
    ("other", "level"),
    [
        ({}, 0),
        ({"stack": {"torch": "2.12.0"}}, 1),
        ({"family": "qwen3"}, 2),
        ({"family": "qwen3", "quantisation": "nf4"}, 3),
        ({"family": "qwen3", "method": "full"}, 4),
        ({"card": "NVIDIA L4"}, 5),
    ],
    ids=str,
)
def test_where_data_is_thin_a_wider_group_sets_the_interval(other, level):
    calibration = Calibration([seen(0.1, **other) for _ in range(19)])
    margin = calibration.margin(HERE, 0.95)
    assert (margin.high, margin.count, margin.group) == (pytest.approx(0.1), 19, HERE.label(level))
    surer = calibration.margin(HERE, 0.99)  # 19 are too few for that
    assert surer.group.startswith("prior") and surer.high == pytest.approx(0.1)


def test_a_cpu_card_says_nothing_of_cuda():
    assert Calibration([seen(0.1, card="cpu") for _ in range(40)]).margin(HERE, 0.95) is None


def test_one_miss_counts_in_the_next_plan_of_a_job_like_it_and_of_no_other():
    others = [seen(0.001 * index, family="qwen3") for index in range(39)]
    calibration = Calibration([*others, seen(0.2)])
    own = calibration.margin(HERE, 0.95)
    assert own.high == pytest.approx(0.2) and "widened by llama" in own.group
    assert Calibration([seen(0.2)]).margin(HERE, 0.95).high == pytest.approx(0.2)
    stranger = calibration.margin(Group("mistral", "lora", "none", A10G, "torch=2.13.0"), 0.95)
    assert stranger.high == pytest.approx(0.038)


def test_running_out_of_memory_counts_as_more_than_the_card_has():
    calibration = Calibration([ran_out()])
    margin = calibration.margin(HERE, 0.95)
    assert PROJECTED * (1 + margin.high) > 24 * GiB, "the same rung must not fit that card again"
    assert ran_out().residual() == pytest.approx(0.2) and ran_out().covered is False
    assert PROJECTED * (1 + calibration.margin(HERE, 0.5).high) >= 24 * GiB
    more = ran_out(card_bytes=None, projected_upper_bytes=21 * GiB)
    assert more.residual() == pytest.approx(0.05)


def test_an_attempt_that_did_not_get_to_its_peak_says_nothing():
    early = seen(-0.9, measured_step_s=None, outcome="lost")
    assert early.residual() is None and early.covered is None and not early.counts
    assert Calibration([early] * 30).margin(HERE, 0.95) is None


def test_residuals_of_allocated_and_reserved_bytes():
    one = seen(projected_allocated_bytes=100, measured_allocated_bytes=110, projected_reserved_bytes=100)
    assert one.residual("allocated") == pytest.approx(0.1)
    assert one.residual("reserved") is None


def test_the_projection_is_never_corrected_only_its_interval():
    """Every measurement 30 % under: the upper bound comes down to the projection, and not below."""
    margin = Calibration([seen(-0.3) for _ in range(40)]).margin(HERE, 0.95)
    assert (margin.low, margin.high) == (pytest.approx(-0.3), 0.0)


def test_speed_is_the_median_of_the_narrowest_group_with_three():
    mine = [seen(measured_step_s=paced) for paced in (1.2, 1.4)]
    others = [seen(family="qwen3", measured_step_s=paced) for paced in (2.0, 3.0, 4.0)]
    assert Calibration(mine).speed(HERE) == pytest.approx(1.3)
    assert Calibration(mine + others).speed(HERE) == pytest.approx(2.0)
    assert Calibration([*mine, seen(measured_step_s=9.0), *others]).speed(HERE) == pytest.approx(1.4)


def test_the_family_is_the_model_type_where_anybody_can_tell():
    random_weights = spec(model={"config": {"model_type": "qwen3"}, "tokenizer": "org/t"})
    assert family_of(random_weights) == "qwen3"
    assert family_of(spec(), {"model_type": "llama"}) == "llama"
    assert family_of(spec()) == "org/model"


@pytest.mark.parametrize(
    ("method", "said", "packing"),
    [
        ("lora", None, "none"),
        ("qlora", None, "nf4"),
        ("lora", {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4"),
        ("qlora", {"load_in_4bit": True}, "fp4"),  # what the folder says goes first
        ("lora", {"load_in_8bit": True, "quant_method": "bitsandbytes"}, "int8"),
        ("lora", {"quant_method": "gptq", "bits": 4}, "gptq"),
        ("lora", 3, "none"),
    ],
)
def test_a_base_that_was_packed_before_is_no_unpacked_one(method, said, packing):
    assert quantisation_of(method, {"quantization_config": said}) == packing


@pytest.mark.parametrize(
    ("card", "card_bytes", "counts"), [("cpu", 3, True), ("cpu", 8, False), (A10G, 8, True)]
)
def test_what_malloc_keeps_on_a_roomy_cpu_card_is_no_measurement(
    card: str, card_bytes: int, counts: bool
) -> None:
    """Of 8 GiB it was to stay under 2.1: there was room to keep what was freed."""
    figures = {"projected_device_bytes": 2 * GiB, "projected_upper_bytes": round(2.1 * GiB)}
    took = seen(card=card, card_bytes=card_bytes * GiB, measured_device_bytes=3 * GiB, **figures)
    assert took.counts is counts
    assert (took.residual(), took.covered) == ((pytest.approx(0.5), False) if counts else (None, None))
    assert took.pace == 1.5


CPU = {"card": "cpu", "card_bytes": round(2.1 * GiB), "projected_allocated_bytes": None}


def on_cpu(measured: int, **fields) -> Observation:
    """As it was seen: jobs of 63 to 121 MiB beside a card of 2.1 GiB."""
    projected = {"projected_device_bytes": 100 * MiB, "projected_upper_bytes": 1100 * MiB}
    return seen(**{**CPU, **projected, "measured_device_bytes": measured * MiB, **fields})


def test_two_jobs_that_ran_out_for_reasons_of_their_own_do_not_close_the_cards_to_their_kind():
    """An endless chat template: jobs that had measured 63 to 121 MiB were to need 2.14 GiB from then on."""
    here = Group("llama", "lora", "none", "cpu", "torch=2.13.0")
    well = [on_cpu(size, job_id=10 + size) for size in (63, 80, 99, 121)]
    endless = [on_cpu(90, outcome="oom", job_id=job, attempt_id=job) for job in (1, 2)]
    before = Calibration(well).margin(here, 0.95)
    after = Calibration([*well, *endless])
    margin = after.margin(here, 0.95)
    assert 100 * (1 + before.high) < 130
    assert 200 <= 100 * (1 + margin.high) < 250, "a miss counts, and no more than a bound"
    assert after.outliers == {1, 2}
    assert Calibration(endless[:1]).margin(here, 0.95).high < 1.5, "nor where nothing else was measured yet"
    recovered = Calibration([*well, *(on_cpu(100, job_id=100 + job) for job in range(60)), *endless])
    assert recovered.margin(here, 0.95).high < 0.25, "two of 66 are fewer than what 95 % leaves out"


def test_what_most_jobs_say_is_no_outlier():
    """The projection of a new architecture may be wrong by any factor: three jobs prove it."""
    here = Group("llama", "lora", "none", "cpu", "torch=2.13.0")
    jobs = [on_cpu(400, job_id=job, attempt_id=job) for job in (1, 2, 3)]
    assert Calibration(jobs[:2]).margin(here, 0.95).high == pytest.approx(OUTLIER["cpu"])
    found = Calibration(jobs)
    assert found.margin(here, 0.95).high == pytest.approx(3.0) and not found.outliers


def test_one_job_is_one_voice_however_often_it_was_tried():
    many = [seen(0.1, job_id=7) for _ in range(40)]
    assert Calibration(many).margin(HERE, 0.95).group.startswith("prior, widened by")
    worst = Calibration([seen(0.02, job_id=7), seen(0.3, job_id=7), seen(0.0, job_id=7)]).margin(HERE, 0.95)
    assert (worst.count, worst.high) == (1, pytest.approx(0.3)), "the worst of what it says"
    slow = [seen(job_id=7, measured_step_s=9.0) for _ in range(10)]
    others = [seen(job_id=job, measured_step_s=1.0) for job in (8, 9)]
    assert Calibration([*slow, *others]).speed(HERE) == 1.0
