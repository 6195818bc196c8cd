"""jobs/memory/sequence_lengths.py: the histogram, and what follows from it, against brute force."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import ProfileError
from jobs.jobfile.spec import JobSpec, parse_spec
from jobs.memory import sequence_lengths
from jobs.memory.ladder import Choice, NoFit, choose
from jobs.memory.sequence_lengths import PER_OCTAVE, SAMPLE, Lengths, data_key
from tests.step_profiles import card, profile

some_lengths = st.lists(st.integers(1, 100_000), min_size=1, max_size=300)
few_short = st.lists(st.integers(1, 2 * PER_OCTAVE - 1), min_size=1, max_size=8)


def of(found: list[int], **values: Any) -> Lengths:
    return Lengths.counted(Counter(found), **{"rows": len(found), **values})


def a_spec(length: int = 4096, batch: int = 8, **sections: Any) -> JobSpec:
    training = {"sequence_length": length, "global_batch": batch, **sections.pop("training", {})}
    return JobSpec.model_validate(
        {"model": "org/model", "data": "org/data", "method": "full", "training": training, **sections}
    )


@given(some_lengths)
def test_figures_are_exact_whatever_the_bins(lengths: list[int]) -> None:
    found, ordered = of(lengths), sorted(lengths)
    assert (found.count, found.tokens, found.longest) == (len(lengths), sum(lengths), max(lengths))
    assert found.mean_tokens == pytest.approx(sum(lengths) / len(lengths))
    for share, quantile in ((0.5, found.p50), (0.9, found.p90), (0.99, found.p99)):
        assert quantile == ordered[max(0, math.ceil(share * len(lengths) - 1e-9) - 1)]


@given(some_lengths)
def test_bins_hold_every_sequence_and_are_narrow(lengths: list[int]) -> None:
    bins = of(lengths).bins
    assert (sum(b.count for b in bins), sum(b.tokens for b in bins)) == (len(lengths), sum(lengths))
    edges = [b.longest for b in bins]
    assert edges == sorted(set(edges)) and edges[-1] == max(lengths)
    for before, one in zip([0, *edges], bins, strict=False):
        assert before < one.tokens / one.count <= one.longest
        inside = [length for length in lengths if before < length <= one.longest]
        assert one.count == len(inside)
        assert max(inside) - min(inside) <= one.longest / PER_OCTAVE


@given(few_short, st.integers(1, 8))
def test_the_batch_length_is_the_mean_over_every_batch(lengths: list[int], size: int) -> None:
    """Exact where a bin holds one length."""
    drawn = min(size, len(lengths))
    batches = list(combinations(lengths, drawn))
    expected = sum(max(batch) for batch in batches) / len(batches)
    assert of(lengths).batch_length(size) == pytest.approx(expected)
    slots = sum(drawn * max(batch) for batch in batches)
    padding = slots - sum(sum(batch) for batch in batches)
    assert of(lengths).padding_waste(size) == pytest.approx(padding / slots, abs=1e-9)


@given(st.lists(st.integers(1, 100_000), min_size=1, max_size=9), st.integers(1, 9))
def test_bins_cost_the_batch_length_little(lengths: list[int], size: int) -> None:
    batches = list(combinations(lengths, min(size, len(lengths))))
    expected = sum(map(max, batches)) / len(batches)
    assert of(lengths).batch_length(size) == pytest.approx(expected, rel=1 / PER_OCTAVE)


@given(some_lengths, st.integers(1, 64))
def test_a_larger_batch_wastes_no_less(lengths: list[int], size: int) -> None:
    found = of(lengths)
    assert 0 <= found.padding_waste(size) <= found.padding_waste(size + 1) + 1e-9 < 1
    assert found.padding_waste(1) == pytest.approx(0, abs=1e-9)


@given(some_lengths, st.booleans())
def test_it_comes_back_from_json(lengths: list[int], sampled: bool) -> None:
    found = of(lengths, sampled=sampled, truncated=1, dropped=2, warnings=["Rows 1 and 2 are alike."])
    assert Lengths.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_rows_of_one_length_are_known_to_be_so() -> None:
    assert Lengths.counted({2048: 4}, rows=4).equal_rows
    assert not Lengths.counted({2048: 4, 2047: 1}, rows=5).equal_rows
    assert not Lengths.counted({2048: 4}, rows=400, sampled=True).equal_rows
    assert not Lengths.counted({}, rows=0).equal_rows


def test_what_was_stored_before_there_were_warnings_has_none() -> None:
    stored = {name: value for name, value in of([3, 4]).as_dict().items() if name != "warnings"}
    assert Lengths.from_dict(stored) == of([3, 4])


@pytest.mark.parametrize(
    "value",
    [
        {},
        {**of([3, 4]).as_dict(), "format": 99},
        {**of([3, 4]).as_dict(), "bins": [[1]]},
        {**of([3, 4]).as_dict(), "colour": 1},
    ],
)
def test_what_is_not_lengths_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(ProfileError):
        Lengths.from_dict(value)


def test_what_was_stored_in_an_older_format_is_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning that is looked for now was not when it was stored: neither its key nor its content is taken."""
    key = data_key(a_spec())
    with pytest.raises(ProfileError, match="of format 1"):
        Lengths.from_dict({**of([3, 4]).as_dict(), "format": 1})
    monkeypatch.setattr(sequence_lengths, "FORMAT", 1)
    assert data_key(a_spec()) != key


def test_the_longest_that_can_occur() -> None:
    short = of([20, 300])
    assert short.longest_batch_tokens(4096, packing=False) == 300
    assert short.longest_batch_tokens(256, packing=False) == 256
    assert short.longest_batch_tokens(4096, packing=True) == 320  # all there is in one sequence
    assert of([300] * 100).longest_batch_tokens(4096, packing=True) == 4096


def test_a_sample_or_nothing_at_all_bounds_no_length() -> None:
    assert of([300], sampled=True).longest_batch_tokens(4096, packing=False) == 4096
    nothing = of([])
    assert nothing.longest_batch_tokens(4096, packing=False) == 4096
    assert (nothing.mean_tokens, nothing.padding_waste(4), nothing.batch_length(4)) == (0, 0, 0)
    assert nothing.suggestion(a_spec()) is None


def test_packing_is_suggested_where_padding_wastes_over_30_percent() -> None:
    uneven = of([10] * 90 + [1000] * 10)
    assert uneven.padding_waste(8) > 0.3
    text = uneven.suggestion(a_spec())
    assert text is not None
    assert f"{uneven.padding_waste(8):.0%}" in text and "training.packing: true" in text
    assert uneven.suggestion(a_spec(), micro_batch=1) is None  # nothing beside it to pad to
    assert uneven.suggestion(a_spec(memory={"micro_batch": 1})) is None
    assert uneven.suggestion(a_spec(training={"packing": True})) is None
    assert of([100, 110] * 50).suggestion(a_spec()) is None


@pytest.mark.parametrize(
    ("training", "steps"),
    [({"steps": 7}, 7), ({"epochs": 1}, 13), ({"epochs": 2.5}, 33), ({}, 13)],
)
def test_steps_of_the_whole_job(training: dict[str, Any], steps: int) -> None:
    assert of([50] * 100).steps(a_spec(training=training)) == steps


def test_steps_of_packed_sampled_and_dropped_rows() -> None:
    packed = a_spec(length=100, batch=5, training={"packing": True})
    assert of([50] * 100).steps(packed) == 10
    assert of([50] * 100).step_tokens(packed) == 500
    assert of([50] * 100).step_tokens(a_spec()) == 400
    sample = of([50] * 60, rows=1000, dropped=40, sampled=True)
    assert sample.trained_rows == 600
    assert sample.steps(a_spec()) == 75


def test_rows_that_are_held_out_are_no_steps() -> None:
    """Of the rows that are not left out: what is rounded is rounded as the trainer does it, one row at least."""
    half = {"path": "org/data", "holdout": 0.5}
    assert of([50] * 60, rows=100, dropped=40).steps(a_spec(data=half)) == 4
    assert of([50] * 9).steps(a_spec(batch=1, data={**half, "holdout": 0.01})) == 8
    packed = a_spec(length=100, batch=5, data=half, training={"packing": True})
    assert of([50] * 100).steps(packed) == 5
    assert of([50]).steps(a_spec(data=half)) == 1
    assert of([50] * 100).steps(a_spec(data=half, training={"steps": 40})) == 40


def test_the_key_follows_what_lengths_depend_on_and_nothing_else() -> None:
    base = data_key(a_spec(), [1, 2])
    assert base == data_key(a_spec(batch=16, method="lora", name="other"), [1, 2])
    others = [
        data_key(a_spec(), [1, 3]),
        data_key(a_spec(), [1, 2], tokenizer=[5]),
        data_key(a_spec(length=512), [1, 2]),
        data_key(a_spec(data="org/other"), [1, 2]),
        data_key(a_spec(model="org/other"), [1, 2]),
        data_key(a_spec(training={"packing": True}), [1, 2]),
    ]
    assert len({base, *others}) == len(others) + 1


def test_short_data_is_projected_at_its_longest_row() -> None:
    """300-token rows under a sequence length of 4096 fit a card that 4096 tokens would not."""
    spec = a_spec(memory={"checkpointing": "off", "micro_batch": 8})
    longest = of([120, 300, 80] * 40).longest_batch_tokens(spec.training.sequence_length, packing=False)
    short = choose(profile(), spec, card(2**40), length=longest)
    assert isinstance(short, Choice)
    small = card(short.projection.upper_bytes)
    assert isinstance(choose(profile(), spec, small), NoFit)
    found = choose(profile(), spec, small, length=longest)
    assert isinstance(found, Choice)
    assert found.projection == short.projection


def test_each_micro_batch_has_the_mean_length_that_its_rows_are_padded_to():
    """Of 100 and 300 tokens, half each: one row is 200 on average, two are 300 but where both are short."""
    found = Lengths.counted({100: 50, 300: 50}, rows=100)
    training = {"sequence_length": 512, "global_batch": 4}
    spec = parse_spec({"model": "org/m", "data": "d", "training": training})
    both_short = 50 / 100 * 49 / 99
    means = dict(found.batch_lengths(spec))
    assert list(means) == [1, 2, 4]
    assert means[1] == 200
    assert means[2] == round(300 - 200 * both_short)
    assert means[4] > means[2]
    assert (
        found.batch_lengths(
            parse_spec({"model": "org/m", "data": "d", "training": {**training, "packing": True}})
        )
        == ()
    )


@given(st.dictionaries(st.integers(1, 3000), st.integers(1, 5), min_size=1, max_size=30), st.integers(1, 40))
def test_the_fullest_batch_has_the_longest_rows_and_is_never_taken_for_less(
    counts: dict[int, int], micro_batch: int
) -> None:
    found = Lengths.counted(counts, rows=sum(counts.values()))
    rows = sorted((length for length, times in counts.items() for _ in range(times)), reverse=True)
    most = found.most_valid(micro_batch)
    if micro_batch > len(rows):
        assert most == micro_batch * rows[0]
    else:
        assert sum(rows[:micro_batch]) <= most <= sum(rows[:micro_batch]) * (1 + 1 / PER_OCTAVE)
        assert most <= micro_batch * rows[0]


def test_a_sample_of_rows_has_the_middles_of_equal_parts():
    assert Lengths.counted({10: 2, 30: 1}, rows=3).sample() == (10, 10, 30), "few rows stand for themselves"
    many = Lengths.counted({100: 9000, 1000: 900, 4000: 100}, rows=10000).sample()
    assert len(many) == SAMPLE and list(many) == sorted(many)
    assert [many.count(length) for length in (100, 1000, 4000)] == [58, 5, 1]
    assert Lengths.counted({512: 8}, rows=8).sample() == () == Lengths.counted({}, rows=0).sample()


@given(st.dictionaries(st.integers(1, 3000), st.integers(1, 500), min_size=2, max_size=40))
def test_a_sample_is_as_long_in_the_mean_as_all_rows(counts: dict[int, int]) -> None:
    found = Lengths.counted(counts, rows=sum(counts.values()))
    sample = found.sample()
    assert len(sample) == min(found.count, SAMPLE)
    assert abs(sum(sample) / len(sample) - found.mean_tokens) <= found.longest / len(sample) * 2 + 1


def test_padding_is_known_only_where_every_row_was_counted_and_none_are_packed():
    """One long row among short ones: two micro-batches of four differ by the three short ones beside it."""
    spec = parse_spec(
        {"model": "org/m", "data": "d", "training": {"sequence_length": 2048, "global_batch": 4}}
    )
    skewed = Lengths.counted({2048: 1, 100: 99}, rows=100)
    assert skewed.fullest_batches(spec) == ((1, 2048), (2, 2148), (4, 2348))
    packed = spec.model_copy(update={"training": spec.training.model_copy(update={"packing": True})})
    assert skewed.fullest_batches(packed) == ()
    assert replace(skewed, sampled=True).fullest_batches(spec) == ()
