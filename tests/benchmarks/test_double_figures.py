"""What `make bench-memory ARGS='--double'` says of runs: its table, and where the rows of a case stand."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.memory.double import judge
from benchmarks.memory.double.cases import Case

CASE = Case(
    shape="gpt2",
    layers=6,
    method="lora",
    dtype="bfloat16",
    optimizer="adamw",
    rung="off",
    micro_batch=2,
    accumulation=1,
    length=1024,
    varied=True,
    card="rtx4090",
    allocator="expandable",
    steps=4,
    seed=5,
)


def test_each_way_of_running_stands_beside_the_goals() -> None:
    errors = {"mean": 0.0012, "worst": 0.0256}
    bound = {"count": 34, "exceeded": 0.029, "slack": 0.041}
    groups = dict.fromkeys(("expandable alike", "default varied", "all"), errors)
    lines = judge.table(groups, groups, dict.fromkeys(groups, bound))
    goal, *rows = (line.split() for line in lines[2:])
    assert goal == ["goal", "1.00%", "3.00%", "3.00%", "8.00%", "5.0%", "8.0%"]
    assert [" ".join(row[:-7]) for row in rows] == [
        "segments that expand, rows of one length",
        "torch's default, rows of all lengths",
        "all",
    ]
    assert all(row[-7:] == ["34", "0.12%", "2.56%", "0.12%", "2.56%", "2.9%", "4.1%"] for row in rows)
    assert len({len(line) for line in lines}) == 1, "columns stand below each other"


def test_nothing_run_is_no_line_beside_the_goals() -> None:
    assert len(judge.table({}, {}, {"all": {"count": 0}})) == 3


def test_with_fixed_segments_there_are_two_of_the_longest_rows_for_one_is_trained_first() -> None:
    for allocator, count in (("expandable", 1), ("default", 2)):
        rows = replace(CASE, allocator=allocator).rows
        assert rows.count(CASE.length) == count
        assert CASE.length not in rows[: CASE.micro_batch], "the first step has no optimizer state"
