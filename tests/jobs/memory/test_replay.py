"""jobs/memory/allocator/replay.py on profiles made by hand, and what the ladder does with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.cards import find_card
from jobs.memory.allocator.events import ABOVE, HOME, NEXT, NOBODY, OWN
from jobs.memory.allocator.replay import drawn, of_batches
from jobs.memory.ladder import Choice, choose
from jobs.memory.profile import Event, MemoryProfile, Pass, Resting
from jobs.memory.project import Rung, project, project_many
from jobs.units import MiB
from tests.fleets import spec
from tests.step_profiles import profile

LAYERS = 8
SIZE = 30 * MiB  # of everything here: each has a segment of its own
FIXED = replace(find_card("rtx4090"), expandable=False)


def made(**events: tuple[Event, ...]) -> MemoryProfile:
    """A profile whose segments of these names have these events."""
    base = profile(LAYERS, tensors={"layer": (Resting(SIZE, 0, ()),)})
    passes = {
        name: Pass({key: replace(one, events=events.get(key, ())) for key, one in found.segments.items()})
        for name, found in base.passes.items()
    }
    return replace(base, passes=passes)


def most(found: MemoryProfile, rung: Rung, steps: int = 1) -> int:
    """Most that is asked for beside weights, inputs and cuBLAS."""
    batches = [[[64] * rung.micro_batch] * rung.accumulation] * steps
    with_all = of_batches(found, rung, batches, workspace_bytes=MiB)
    without = of_batches(made(), rung, batches, workspace_bytes=MiB)
    return with_all.asked - without.asked


def taken(kind: int) -> tuple[float, ...]:
    return (kind, SIZE, 0, 0)


def freed(kind: int) -> tuple[float, ...]:
    return (-1 - kind, 0)


def test_what_a_layer_keeps_for_its_backward_adds_up_over_layers() -> None:
    keeps = made(layer=(taken(OWN),), layer_backward=(freed(OWN),))
    assert most(keeps, Rung(0, 1)) == (LAYERS - 2) * SIZE, "first and last have none"


def test_what_runs_on_to_the_next_layer_does_not() -> None:
    assert most(made(layer=(taken(NEXT),), last=(freed(NEXT),)), Rung(0, 1)) == 2 * SIZE
    assert most(made(layer=(taken(HOME), freed(HOME))), Rung(0, 1)) == SIZE


def test_a_checkpointed_layer_keeps_its_input_and_offload_takes_it_away() -> None:
    output = made(layer=(taken(ABOVE),), layer_backward=(freed(ABOVE),))
    kept = most(output, Rung(1, 1))
    assert kept == (LAYERS - 2) * SIZE
    assert most(output, Rung(1, 1, 1, offload=True)) <= 3 * SIZE


@pytest.mark.parametrize(("accumulation", "more"), [(1, 0), (2, 1)])
def test_gradients_of_a_second_micro_batch_are_added_and_freed(accumulation: int, more: int) -> None:
    learns = made(layer_backward=(taken(NOBODY),))
    assert most(learns, Rung(0, 1, accumulation)) == (LAYERS - 2 + more) * SIZE


def test_state_comes_with_the_first_update_in_segments_of_its_own() -> None:
    with_state = replace(made(), tensors={"layer": (Resting(SIZE, 0, (MiB, SIZE)),)})
    with_state, without = (
        of_batches(one, Rung(0, 1), [[[64]]], workspace_bytes=MiB) for one in (with_state, made())
    )
    state = (LAYERS - 2) * (SIZE + MiB)
    assert with_state.asked - without.asked == pytest.approx(state, abs=4096)  # inputs are gone by then
    small = 2 * MiB * -(-(LAYERS - 2) // 2)  # two of 1 MiB to a segment
    assert with_state.reserved - without.reserved == (LAYERS - 2) * SIZE + small


def test_the_longest_row_comes_first_and_once_more() -> None:
    rung = Rung(0, 4, 8)
    steps = drawn(rung, 1000, alike=False)
    assert steps == drawn(rung, 1000, alike=False)
    assert steps[0][0][0] == 1000 == max(max(rows) for step in steps for rows in step)
    assert sum(row == 1000 for step in steps for rows in step for row in rows) >= 2
    assert {row for step in drawn(rung, 1000, alike=True) for rows in step for row in rows} == {1000}
    assert drawn(rung, 1000, alike=True, packed=True)[0][0] == [4000]


def test_rows_are_as_long_as_those_of_the_data_where_they_were_counted() -> None:
    rung, sample = Rung(0, 4, 2), (10, 20, 30, 40, 50, 60, 70, 2000)
    steps = drawn(rung, 1000, False, sample=sample)
    rows = [row for step in steps for batch in step for row in batch]
    assert len(rows) == 40 and set(rows) <= {*sample[:-1], 1000}, "none is longer than what is trained"
    assert rows[0] == 1000
    for start in (8, 16, 32):  # each comes once before one comes again; the longest is put in twice
        assert sorted(rows[start : start + 8]) == [*sample[:-1], 1000]


def test_the_reserve_of_a_default_allocator_goes_by_the_lengths_of_the_data() -> None:
    """Three rows stand beside the longest in the first batch, and what goes by tokens to learn from goes by theirs."""
    token = (OWN, 0, 0, 0, 0, 0, 0, SIZE / 64)
    keeps = made(layer=(token,), layer_backward=(freed(OWN),))
    job = spec(training={"sequence_length": 512, "global_batch": 4}, memory={"micro_batch": 4})
    reserved = []
    for sample in ((16,) * 8, (500, 505, 508, 510)):
        rung = Rung(0, 4)
        found = of_batches(keeps, rung, drawn(rung, 512, False, sample=sample), FIXED.workspace_bytes)
        said = project(keeps, rung, sequence_length=512, card=FIXED, sample=sample)
        assert said.reserved_bytes - said.allocated_bytes == found.reserved - found.allocated
        chosen = choose(keeps, job, FIXED, length=512, sample=sample)
        (tried,) = [one for one in chosen.tried if one.rung == rung and one.projection.margin == said.margin]
        assert tried.projection.reserved_bytes == said.reserved_bytes
        reserved.append(found.reserved)
    assert reserved[1] > 3 * reserved[0]


def test_the_reserve_of_a_default_allocator_is_simulated_where_tensors_are_known() -> None:
    known, unknown = made(), replace(made(), tensors={})
    rung = Rung(0, 4)
    found = of_batches(known, rung, drawn(rung, 512, alike=True), FIXED.workspace_bytes)
    said = project(known, rung, sequence_length=512, card=FIXED, equal_rows=True)
    assert said.reserved_bytes - said.allocated_bytes == found.reserved - found.allocated
    rough = project(unknown, rung, sequence_length=512, card=FIXED, equal_rows=True)
    (asked,) = project_many(known, [rung], sequence_length=512, card=FIXED, equal_rows=True, simulate=False)
    assert asked.upper_bytes == rough.upper_bytes
    assert rough.margin is not None and said.margin is not None
    assert rough.margin.beside[1] > said.margin.beside[1], "what is not simulated is less certain"


def test_the_ladder_simulates_until_a_rung_fits() -> None:
    job = spec(training={"sequence_length": 1024, "global_batch": 8})
    found = choose(made(), job, FIXED, length=1024)
    assert isinstance(found, Choice)
    exact = project(made(), found.rung, sequence_length=1024, card=FIXED)
    assert found.projection.upper_bytes == exact.upper_bytes
    margins = [one.projection.margin.beside for one in found.tried]
    assert margins[0] == exact.margin.beside != margins[-1]
    short = replace(FIXED, memory_bytes=exact.upper_bytes - 1)
    other = choose(made(), job, short, length=1024)
    assert not isinstance(other, Choice) or other.rung != found.rung
