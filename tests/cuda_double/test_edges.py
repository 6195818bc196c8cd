"""The longest sequence that is said to fit a card trains there: torch's real allocator, no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.memory.double import rows
from benchmarks.memory.double.cases import Case
from benchmarks.memory.double.edges import at_the_edge
from benchmarks.memory.double.rows import projection_of
from benchmarks.memory.double.sweep import Runner, running
from jobs.units import GiB

# A trace and a run each, on however busy a machine.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BASE = Case(
    shape="Qwen2.5-0.5B",
    layers=6,
    method="lora",
    dtype="bfloat16",
    optimizer="adamw",
    rung="every",
    micro_batch=1,
    accumulation=1,
    length=64,
    varied=False,
    card="rtx4090",
    allocator="expandable",
    steps=3,
    seed=1,
    limit_gib=4,
)


@pytest.fixture(scope="module")
def runner(cuda_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with pytest.MonkeyPatch.context() as patch, running() as made:
        patch.setattr(rows, "KEPT", Path(tmp_path_factory.mktemp("profiles")))
        yield made


@pytest.mark.parametrize(
    "one",
    [
        replace(BASE, method="full"),
        replace(BASE, method="lora", rung="off", varied=True),
        replace(BASE, method="qlora", allocator="default"),
    ],
    ids=lambda one: f"{one.method}, {one.allocator}",
)
def test_the_longest_sequence_that_is_said_to_fit_trains(runner: Runner, one: Case) -> None:
    edge = at_the_edge(one)
    assert edge is not None
    found = runner.ask(edge)
    assert found["outcome"] == "ran", found
    said = projection_of(edge)
    assert said.upper_bytes <= edge.limit_gib * GiB
    assert found["allocated_bytes"] == pytest.approx(said.allocated_bytes, rel=0.02)


def test_a_card_that_is_too_small_runs_out(runner: Runner) -> None:
    edge = at_the_edge(replace(BASE, rung="off"))
    assert edge is not None
    found = runner.ask(replace(edge, length=2 * edge.length))
    assert found["outcome"] == "oom" and "out of memory" in found["error"]


@pytest.mark.parametrize("rung", ["every", "offload"])
def test_the_bound_holds_where_the_loss_is_most_of_a_small_job(runner: Runner, rung: str) -> None:
    """31 million weights: a workspace of cuBLAS behind the loss's largest tensor cost it that tensor's place again."""
    case = replace(BASE, shape="Llama-31M", layers=0, rung=rung, micro_batch=16, length=256, limit_gib=0)
    found = runner.ask(case)
    assert found["outcome"] == "ran", found
    assert found["reserved_bytes"] + found["outside_bytes"] <= projection_of(case).upper_bytes
    assert found["reserved_bytes"] < 1.2 * found["allocated_bytes"]


def test_batches_of_all_lengths_are_cut_from_the_segments_of_the_longest(runner: Runner) -> None:
    """With segments that don't expand each longer batch than before took new ones: 1.36 times the live bytes."""
    case = replace(
        BASE, rung="off", length=8192, varied=True, allocator="default", steps=8, seed=2, limit_gib=0
    )
    found = runner.ask(case)
    assert found["outcome"] == "ran", found
    assert found["reserved_bytes"] < 1.15 * found["allocated_bytes"]
