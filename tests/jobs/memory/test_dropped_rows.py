"""Rows that are cut or left out: how it is said, when it is a warning, and when a job has nothing left."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.jobfile.spec import JobSpec, parse_spec
from jobs.memory.dropped_rows import nothing_left, told, warnings
from jobs.memory.sequence_lengths import Lengths


def spec(holdout: float = 0.0) -> JobSpec:
    data = {"path": "rows.jsonl", "holdout": holdout}
    return parse_spec({"model": "org/model", "data": data, "training": {"sequence_length": 32}})


def lengths(kept: int, dropped: int, truncated: int = 0, **more: Any) -> Lengths:
    rows = more.pop("rows", kept + dropped)
    return Lengths.counted(
        {20: kept}, rows=rows, truncated=truncated, dropped=dropped, longest_row=210, **more
    )


WITHIN = "no trained token is left within training.sequence_length 32 (longest row 210 tokens)"


@pytest.mark.parametrize(
    ("found", "says", "warned"),
    [
        (lengths(40, 0), "", False),
        (lengths(4, 36, 2), f"36 of 40 rows are left out: {WITHIN}; 2 more are cut", True),
        (lengths(39, 1, 1), f"1 of 40 rows is left out: {WITHIN}; 1 more is cut", False),
        (lengths(38, 2), f"2 of 40 rows are left out: {WITHIN}", False),
        (lengths(37, 3), f"3 of 40 rows are left out: {WITHIN}", True),
        (
            lengths(40, 0, 2),
            "2 of 40 rows are cut at training.sequence_length 32 (longest row 210 tokens)",
            False,
        ),
        (
            lengths(40, 0, 3),
            "3 of 40 rows are cut at training.sequence_length 32 (longest row 210 tokens)",
            True,
        ),
        (
            lengths(4, 36, rows=9000, sampled=True),
            f"36 of a sample of 40 rows are left out: {WITHIN}",
            True,
        ),
    ],
)
def test_what_is_said_and_what_is_warned_of(found: Lengths, says: str, warned: bool) -> None:
    assert told(found, spec()) == says
    assert warnings(found, spec()) == ([says] if warned else [])


def test_warnings_of_the_scan_come_first() -> None:
    found = lengths(4, 36, warnings=["Two beginnings of text in a row."])
    assert (
        warnings(found, spec())[0] == "Two beginnings of text in a row." and len(warnings(found, spec())) == 2
    )


def test_nothing_to_train_on_is_refused_with_the_length_that_would_do() -> None:
    fault = nothing_left(lengths(0, 12), spec())
    assert fault is not None and fault.path == "training.sequence_length"
    assert "all 12 rows are left out" in fault.problem
    assert "raise training.sequence_length to 210" in fault.fix


@pytest.mark.parametrize(
    ("positions", "fix"),
    [
        (None, "raise training.sequence_length to 210, the longest row, or shorten the prompts"),
        (210, "raise training.sequence_length to 210, the longest row, or shorten the prompts"),
        (
            64,
            "raise training.sequence_length (at most 64, the model's positions; the longest row has 210 tokens), "
            "or shorten the prompts",
        ),
        (32, "shorten the prompts: the model has 32 positions"),
    ],
)
def test_no_more_positions_are_advised_than_the_model_has(positions: int | None, fix: str) -> None:
    fault = nothing_left(lengths(0, 12), spec(), positions)
    assert fault is not None and fault.fix == fix


def test_rows_that_fit_and_have_nothing_to_learn_are_not_told_to_be_longer() -> None:
    found = Lengths.counted({}, rows=3, dropped=3, longest_row=1)
    fault = nothing_left(found, spec())
    assert fault is not None and "sequence_length" not in fault.problem + fault.fix
    assert told(found, spec()) == "3 of 3 rows are left out: no trained token is left (longest row 1 token)"


def test_nothing_to_hold_out_is_refused() -> None:
    fault = nothing_left(lengths(1, 39), spec(holdout=0.1))
    assert (
        fault is not None and fault.path == "data.holdout" and "39 of 40 rows are left out" in fault.problem
    )
    assert "leave data.holdout out" in fault.fix
    assert nothing_left(lengths(1, 39), spec()) is None


@given(kept=st.integers(0, 3), dropped=st.integers(0, 3), holdout=st.sampled_from([0.0, 0.1, 0.5]))
def test_a_sample_or_data_without_long_rows_is_never_refused(kept: int, dropped: int, holdout: float) -> None:
    assert nothing_left(lengths(kept, dropped, rows=99, sampled=True), spec(holdout)) is None
    if kept != 1 or not holdout:
        assert nothing_left(lengths(kept, 0), spec(holdout)) is None
    refused = nothing_left(lengths(kept, dropped), spec(holdout)) is not None
    assert refused == (kept + dropped > 0 and kept < (2 if holdout else 1))


def test_a_longest_row_survives_storage_and_older_lengths_have_none() -> None:
    stored = lengths(4, 36).as_dict()
    assert Lengths.from_dict(stored).longest_row == 210
    del stored["longest_row"]
    assert told(Lengths.from_dict(stored), spec()).endswith("training.sequence_length 32")


def test_one_row_can_not_be_held_out() -> None:
    """The split would leave nothing: the trainer refuses it."""
    fault = nothing_left(lengths(1, 0), spec(0.1))
    assert (
        fault is not None and fault.path == "data.holdout" and "the only row of rows.jsonl" in fault.problem
    )
    assert nothing_left(lengths(1, 0), spec()) is None
    assert nothing_left(lengths(2, 0), spec(0.1)) is None
    assert nothing_left(lengths(1, 0, rows=900, sampled=True), spec(0.1)) is None
