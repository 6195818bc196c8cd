"""benchmarks/gpu: the matrix, the rows of its file, the budget, and what it says of them."""

from __future__ import annotations

import csv
from itertools import product

import pytest

from benchmarks.gpu import matrix
from benchmarks.gpu.matrix import LENGTHS, METHODS, RUNGS, SHAPES, Budget, Case
from jobs.units import GiB


def row(**values):
    """A row that ran and was foretold right."""
    return {
        "outcome": "ran",
        "limit_gib": 0,
        "card_bytes": 80 * GiB,
        "allocated_bytes": 100,
        "nvml_bytes": 110,
        "projected_allocated_bytes": 100,
        "projected_upper_bytes": 115,
        **values,
    }


def edge(said, ran):
    return row(limit_gib=24, fits_up_to_tokens=said, runs_up_to_tokens=ran)


def test_the_matrix_has_every_case_once():
    made = matrix.cases()
    wanted = {Case(*each) for each in product(SHAPES, METHODS, RUNGS, LENGTHS)}
    assert len(made) == len(wanted) and set(made) == wanted


def test_any_beginning_has_all_rungs_and_the_edges_come_in_between():
    made = matrix.taken_in_turn(matrix.cases(), matrix.edges())
    assert {case.rung for case in made[:6]} >= {"off", "every 2nd", "every layer", "offload"}
    assert any(case.limit_gib for case in made[:6])
    assert sorted(map(repr, made)) == sorted(map(repr, [*matrix.cases(), *matrix.edges()]))


def test_each_case_is_a_job_of_its_length():
    for case in matrix.cases():
        spec = case.spec()
        assert (spec.training.sequence_length, spec.method.kind) == (case.length, case.method)
    assert matrix.edges()[0].spec(768).training.sequence_length == 768


def test_the_budget_starts_nothing_that_would_not_end_in_time():
    budget = Budget(480)
    assert budget.allows(0)
    budget.took(30)
    budget.took(10)
    assert budget.allows(449)
    assert not budget.allows(451)


def test_rows_are_appended_under_one_header(tmp_path):
    file = tmp_path / "memory.csv"
    matrix.append(file, [{"card": "A", "length": 512}])
    matrix.append(file, [{"card": "B", "error": "one, two"}])
    with file.open(newline="") as lines:
        found = list(csv.DictReader(lines))
    assert [(one["card"], one["length"], one["error"]) for one in found] == [
        ("A", "512", ""),
        ("B", "", "one, two"),
    ]
    with pytest.raises(ValueError, match="tokens_per_s"):
        matrix.append(file, [{"tokens_per_s": 1}])


def test_good_rows_meet_the_goals():
    found = matrix.sums([row(), row(projected_allocated_bytes=102), edge(2048, 2304)])
    assert (found["compared"], found["edges"], found["false_fits"], found["met"]) == (2, 1, 0, True)
    assert found["worst"] == 0.02


@pytest.mark.parametrize(
    "bad",
    [
        row(projected_allocated_bytes=120),
        row(projected_upper_bytes=130),
        row(outcome="oom", projected_upper_bytes=79 * GiB, allocated_bytes=None),
        edge(2560, 2304),
    ],
    ids=["far off", "slack", "said to fit the whole card", "said to fit the emulated card"],
)
def test_each_goal_can_be_missed(bad):
    assert matrix.sums([row(), bad])["met"] is False


def test_running_out_where_it_was_not_said_to_fit_is_no_false_fit():
    assert matrix.sums([row(), row(outcome="oom", projected_upper_bytes=90 * GiB)])["false_fits"] == 0


def test_nothing_measured_meets_nothing():
    assert matrix.sums([row(outcome="failed")])["met"] is None


def test_an_emulated_card_leaves_the_allocator_what_the_context_does_not_take():
    assert matrix.limit_share(24, GiB, 80 * GiB) == pytest.approx(23 / 80)
    with pytest.raises(ValueError, match="48 GiB can't be made of one of 40 GiB"):
        matrix.limit_share(48, GiB, 40 * GiB)
