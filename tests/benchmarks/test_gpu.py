"""benchmarks/gpu: the matrix, the rows of its file, the budget, and what it says of them."""

from __future__ import annotations

import csv
from itertools import product

import pytest

from benchmarks.gpu import job, matrix, speed
from benchmarks.gpu.matrix import LENGTHS, METHODS, RUNGS, SHAPES, Budget, Case
from jobs.cards import find_card
from jobs.units import GiB
from tests.profiles import small_profile


def row(**values):
    """A row that ran and was projected right."""
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


def run(way, tokens_per_s, **values):
    """A row of the speed benchmark that ran as it was projected."""
    job = {"shape": "1B", "method": "lora", "length": 512, "global_batch": 8, "limit_gib": 24}
    times = {"step_s": 1.0, "projected_step_s": 1.1}
    return {**job, **times, "outcome": "ran", "ways": way, "tokens_per_s": tokens_per_s, **values}


def raced(*rows):
    """These rows beside those of five other jobs in which the choice is a tenth quicker."""
    others = [
        run(way, speed, length=1024 + index)
        for index in range(5)
        for way, speed in (("choice never", 110), ("always", 100))
    ]
    return speed.sums([*others, *rows])


def test_every_job_of_the_speed_benchmark_comes_once_on_each_card():
    made = list(speed.works(METHODS, 80 * GiB))
    assert len(set(made)) == len(made) == 3 * len(speed.MIX)
    assert {work.limit_gib for work in speed.works(["full"], 24 * GiB)} == {0}
    assert {work.spec(way).memory.checkpointing for work in made for way in speed.WAYS} >= {"auto", "off"}


def test_ways_that_come_to_the_same_rung_are_run_once():
    work = speed.Work("0.5B", "lora", 512, 8)
    found = speed.rungs(work, small_profile(), find_card("h100"))
    assert sorted(way for ways, _ in found.values() for way in ways) == ["always", "choice", "never"]
    assert len(found) == 2  # off is what is chosen where memory is abundant


def test_the_choice_that_is_never_slower_meets_the_goal():
    found = raced(run("choice", 120), run("always", 100), run("never", 119))
    assert (found["jobs"], found["met"]) == (6, True)
    assert found["against_always"]["most"] == 1.2
    assert found["step_time_error_median"] == 0.1


@pytest.mark.parametrize(
    "rows",
    [
        [run("choice", 90), run("always", 100)],
        [run("choice", 110), run("always", 100), run("never", 100, outcome="oom")],
        [run("choice", 110)],
    ],
    ids=["slower", "ran out", "too few compared"],
)
def test_each_goal_of_the_speed_benchmark_can_be_missed(rows):
    assert raced(*rows)["met"] is False


def ended(way, tokens_per_s, **values):
    """A row of the end-to-end benchmark that ended well."""
    sizes = {"allocated_bytes": 80, "device_bytes": 100, "projected_upper_bytes": 110}
    seen = {"samples": 9, "sampled_bytes": 100}
    return {
        "method": "lora",
        "way": way,
        "tokens_per_s": tokens_per_s,
        "state": "succeeded",
        "attempts": 1,
        **sizes,
        **seen,
        **values,
    }


def test_jobs_that_end_well_meet_the_goal():
    found = job.sums([ended("choice", 120), ended("always", 100)])
    assert (found["against_always"], found["met"]) == ({"lora": 1.2}, True)


@pytest.mark.parametrize(
    "bad",
    [
        ended("always", 100, state="failed"),
        ended("always", 100, attempts=2),
        ended("always", 100, device_bytes=111),
        ended("always", 100, samples=0),
        ended("always", 130),
    ],
    ids=["failed", "at the second attempt", "over its bound", "not sampled", "quicker than the choice"],
)
def test_each_goal_of_the_whole_way_can_be_missed(bad):
    assert job.sums([ended("choice", 120), bad])["met"] is False
