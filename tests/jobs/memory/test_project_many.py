"""jobs/memory/project.py: many projections at once are those made one by one, and those that a walk through the
step finds.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.memory.speed import per_second
from jobs.cards import Card
from jobs.errors import ProfileError
from jobs.memory.kernel_launches import launches_of
from jobs.memory.project import Margin, Projection, Rung, project, project_many
from jobs.units import MiB
from tests.random_profiles import RUNGS, SEEDS, random_profile
from tests.step_profiles import card, profile
from tests.walked import BACKWARD, FORWARD, LOSS, UPDATE, Moment, Walk

ON = card(
    layer_s=1e-3,
    batch_s=2e-3,
    step_s=1e-3,
    launch_s=1e-5,
    context_bytes=300 * MiB,
    distributed_bytes=50,
    reserve_bytes=7,
    reserve_share=0.03,
)
many = settings(deadline=None, max_examples=200)


@many
@given(SEEDS, st.lists(st.tuples(RUNGS, st.integers(1, 700)), min_size=1, max_size=12), st.integers(1, 2))
def test_many_at_once_are_those_made_one_by_one(
    seed: int, shapes: list[tuple[Rung, int]], ranks: int
) -> None:
    made, margin = random_profile(seed, whole=False), Margin(-0.04, 0.03, 12, "qwen3 lora")
    rungs, lengths = [rung for rung, _ in shapes], [length for _, length in shapes]

    def one(rung: Rung, length: int) -> Projection:
        return project(made, rung, sequence_length=length, world_size=ranks, card=ON, margin=margin)

    together = project_many(made, rungs, sequence_length=lengths, world_size=ranks, card=ON, margin=margin)
    assert together == [one(*shape) for shape in shapes]
    alike = project_many(made, rungs, sequence_length=lengths[0], world_size=ranks, card=ON, margin=margin)
    assert alike == [one(rung, lengths[0]) for rung in rungs]


def test_a_length_for_each_rung() -> None:
    with pytest.raises(ProfileError, match="2 rungs can't have 1 sequence lengths"):
        project_many(profile(), [Rung(0, 1), Rung(1, 1)], sequence_length=[512], card=ON)
    with pytest.raises(ProfileError, match="2 rungs can't have 1 numbers of valid tokens"):
        project_many(profile(), [Rung(0, 1), Rung(1, 1)], sequence_length=512, card=ON, valid=[512])


@many
@given(
    SEEDS,
    RUNGS,
    st.integers(1, 700),
    st.sampled_from(["cuda", "cpu"]),
    st.one_of(st.none(), st.integers(1, 9000)),
)
def test_the_closed_form_is_what_a_walk_through_the_step_finds(
    seed: int, rung: Rung, length: int, kind: str, valid: int | None
) -> None:
    made, on = random_profile(seed), replace(ON, kind=kind)
    found = project(made, rung, sequence_length=length, card=on, valid=valid)
    walk = Walk(made, rung, length, on.kind, valid)
    moments = list(walk.moments())
    resting = made.weight_bytes + made.adapter_bytes + made.optimizer_bytes
    for phase in (FORWARD, LOSS, BACKWARD):
        assert found.phases[phase] == resting + max(m.live for m in moments if m.phase == phase)
    trained = made.trained_bytes
    assert found.phases[UPDATE] == resting + trained + made.optimizer_transient_bytes
    moving = max(*(m.live - m.loss for m in moments), trained + made.optimizer_transient_bytes)
    assert found.parts["allocator"] == on.reserve(moving, made.adapter_bytes > 0)
    if found.phase in (FORWARD, LOSS, BACKWARD):
        _same_parts(found, next(m for m in moments if m.phase == found.phase and _is_peak(m, found, resting)))
    assert found.step_s == pytest.approx(_seconds(walk, on), rel=1e-9)


def _is_peak(moment: Moment, found: Projection, resting: int) -> bool:
    return resting + moment.live == found.allocated_bytes


def _same_parts(found: Projection, moment: Moment) -> None:
    """Where nothing is negative, which made-up segments can be, each part is what the walk holds there."""
    held = (moment.gradients, moment.activations, moment.boundaries, moment.loss)
    if min(held) >= 0 and sum(held) <= moment.live:
        names = ("gradients", "activations", "boundaries", "logits_and_loss")
        assert tuple(found.parts[name] for name in names) == held


def _seconds(walk: Walk, on: Card) -> float:
    made = walk.profile
    micro = max(walk.flops() / on.flops, walk.touched_bytes() / on.bandwidth_bytes_s)
    passes = 2 * made.layers + (-(-made.layers // walk.rung.every_n) if walk.rung.every_n else 0)
    launched = launches_of(made).micro_batch(made.layers, walk.rung) * on.launch_s
    micro = max(micro, passes * on.layer_s + launched) + on.batch_s
    micro += 2 * walk.offloaded_bytes() / 12e9
    moved_s = 3 * (made.optimizer_bytes + made.trained_bytes) / on.bandwidth_bytes_s
    update = on.step_s + max(moved_s, launches_of(made).step * on.launch_s)
    return micro * walk.rung.accumulation + update


def test_no_rungs_are_no_projections() -> None:
    assert project_many(profile(), [], sequence_length=512, card=ON) == []


def test_many_at_once_are_quick() -> None:
    """About 100,000 a second on an idle core of 2.3 GHz; a busy or slow one is given five times as long."""
    assert max(per_second(profile(32)) for _ in range(5)) > 20_000


def test_numpy_is_imported_by_the_first_projection_only() -> None:
    seen = "import sys; import jobs.memory.project, jobs.memory.ladder; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", seen], check=True)
