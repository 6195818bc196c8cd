"""The pure parts of benchmarks/gpu/double.py: what is run, what is run again, and when the two sides agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.gpu import double, matrix
from benchmarks.gpu.matrix import METHODS, RUNGS, SHAPES

GIB = 2**30


def row(**changed: Any) -> dict[str, Any]:
    """A run of 10 GiB on both sides."""
    sizes = {f"{side}{name}": 10 * GIB for name in double.FIGURES.values() for side in ("", "double_")}
    made: dict[str, Any] = {
        **dict.fromkeys(double.COLUMNS, ""),
        **dict.fromkeys(("card_bytes", "context_bytes", "double_context_bytes"), GIB),
        **sizes,
        "shape": "1B",
        "method": "full",
        "rung": "off",
        "length": 512,
    }
    return {**made, "outcome": "ran", "double_outcome": "ran", **changed}


def test_forty_cases_have_some_of_every_kind() -> None:
    found = double.cases(40, tuple(SHAPES), METHODS)
    assert len({*found}) == 40
    for name, every in (("shape", SHAPES), ("method", METHODS), ("rung", RUNGS)):
        counts = [sum(getattr(case, name) == one for case in found) for one in every]
        assert min(counts) >= 8
    assert {*double.cases(1000, tuple(SHAPES), METHODS)} == {*matrix.cases()}
    for shapes in (
        ("0.5B",),
        ("0.5B", "8B"),
        ("0.5B", "1B", "3B"),
    ):  # whatever is left out, none is run twice
        assert len({*double.cases(1000, shapes, METHODS)}) == len(matrix.cases(shapes))


def test_equal_runs_meet_the_goals() -> None:
    said = double.sums(
        [row(), row(outcome="oom", double_outcome="oom", nvml_bytes=None, allocated_bytes=None)]
    )
    assert said["met"] and said["allocated"] == {"mean": 0.0, "worst": 0.0}
    assert said["ended_apart"] == 0


def test_what_is_no_agreement() -> None:
    """A figure that is off, a card that ran out where the double did not, and runs that failed alike."""
    assert not double.sums([row(double_reserved_bytes=11 * GIB)])["met"]
    assert not double.sums([row(), row(outcome="oom", allocated_bytes=None)])["met"]
    assert not double.sums([row(), row(outcome="failed", double_outcome="failed")])["met"]
    nothing = dict.fromkeys(double.FIGURES.values())
    assert double.sums([row(**nothing, outcome="oom", double_outcome="oom")])["met"] is None
    assert double.sums([])["met"] is None


def test_rows_of_earlier_runs_are_read_back_but_for_those_that_failed(tmp_path: Path) -> None:
    path, kept = tmp_path / "rows.csv", row(card="NVIDIA L4")
    matrix.append(path, [kept, row(outcome="failed")], double.COLUMNS)
    assert double.kept(path) == [kept]
    assert double.kept(tmp_path / "none.csv") == []
