"""jobs/memory.py: the closed form on made-up profiles, where the right answer can be counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import ProfileError
from jobs.memory import DEVIATION, PARTS, PHASES, Projection, Rung, project, upper
from jobs.profile import Line, Segment
from jobs.units import MiB
from tests.step_profiles import BOUNDARY, KEPT, LAYER_GRADIENTS, card, profile

LENGTH = 512


def _project(rung: Rung, layers: int = 8, length: int = LENGTH, **changed: object) -> Projection:
    return project(profile(layers, **changed), rung, sequence_length=length, card=card())


def test_a_step_without_checkpointing_counted_by_hand() -> None:
    """One sequence: embedding, eight layers kept, and the loss backward on top of the loss."""
    found = _project(Rung(0, 1))
    resting = (8 * 2 + 16) * MiB + 2 * (8 * LAYER_GRADIENTS + 16 * MiB)
    live = (8_000 + 8 * KEPT + 4_000 + 120_000) * LENGTH + 8 * MiB
    assert found.allocated_bytes == resting + live
    assert found.phase == "loss"
    assert found.parts["activations"] == (8_000 + 8 * KEPT) * LENGTH


@pytest.mark.parametrize(("every_n", "boundaries"), [(1, 8), (2, 4), (3, 3), (7, 2), (8, 1), (100, 1)])
def test_every_n_counts_layers_from_the_first(every_n: int, boundaries: int) -> None:
    found = _project(Rung(every_n, 1))
    assert found.parts["boundaries"] == boundaries * BOUNDARY * LENGTH
    assert found.parts["activations"] == (8_000 + (8 - boundaries) * KEPT) * LENGTH


def test_a_micro_batch_of_two_has_a_mask() -> None:
    one, two = _project(Rung(0, 1)), _project(Rung(0, 2))
    more = two.allocated_bytes - one.allocated_bytes
    live = (8_000 + 8 * KEPT + 4_000 + 120_000) * LENGTH
    assert more == live, "the mask is gone before the loss backward when no layer keeps it"
    checkpointed = [_project(Rung(1, size)).allocated_bytes for size in (1, 2)]
    live = (8_000 + 8 * BOUNDARY + 4_000 + 120_000) * LENGTH
    assert checkpointed[1] - checkpointed[0] == live + 2 * LENGTH**2


def test_a_long_sequence_meets_the_sliding_window() -> None:
    short = _project(Rung(1, 1), mask_from_length=LENGTH + 1)
    long = _project(Rung(1, 1), mask_from_length=LENGTH)
    assert long.allocated_bytes == short.allocated_bytes + LENGTH**2


def test_packed_rows_are_one_row() -> None:
    packed = project(profile(packed=True), Rung(1, 4), sequence_length=LENGTH, card=card())
    apart = _project(Rung(1, 4))
    assert packed.allocated_bytes - apart.allocated_bytes == (4 * LENGTH) ** 2 - 4 * LENGTH**2


def test_the_gradients_of_earlier_micro_batches_stay() -> None:
    once, often = _project(Rung(0, 1, 1)), _project(Rung(0, 1, 8))
    assert often.allocated_bytes - once.allocated_bytes == profile().trained_bytes
    assert often.parts["gradients"] == profile().trained_bytes


def test_weights_gradients_and_optimizer_bind_where_activations_are_small() -> None:
    made = profile()
    still = {
        name: replace(found["after"], peaks=()) for name, found in made.passes.items() if "loss." not in name
    }
    passes = {
        name: replace(found, segments={**found.segments, "after": still.get(name, Segment(Line()))})
        for name, found in made.passes.items()
    }
    found = _project(Rung(0, 1), length=8, passes=passes)
    assert found.phase == "optimizer step"
    assert found.allocated_bytes == made.weight_bytes + made.optimizer_bytes + made.trained_bytes


def test_the_last_layers_backward_binds_where_checkpointing_leaves_little() -> None:
    body = profile().passes
    quiet = {
        name: replace(
            found, segments={**found.segments, "loss_backward": replace(found["loss_backward"], peaks=())}
        )
        for name, found in body.items()
    }
    quiet = {
        name: replace(found, segments={**found.segments, "loss": replace(found["loss"], peaks=())})
        for name, found in quiet.items()
    }
    assert _project(Rung(1, 8), passes=quiet).phase == "backward"


def test_the_loss_stops_growing_with_its_chunk() -> None:
    within, beyond = _project(Rung(1, 8)), _project(Rung(1, 16))
    grown = beyond.parts["logits_and_loss"] - 2 * within.parts["logits_and_loss"]
    assert grown < 0
    assert beyond.parts["logits_and_loss"] == 500 * MiB + 4_000 * 16 * LENGTH + 4_000 * 16 * LENGTH


def test_offload_keeps_boundaries_off_the_card() -> None:
    here, away = _project(Rung(1, 4)), _project(Rung(1, 4, offload=True))
    assert away.allocated_bytes < here.allocated_bytes
    assert away.parts["boundaries"] == 0
    assert away.step_s > here.step_s


def test_data_parallel_ranks_have_buckets_and_a_larger_context() -> None:
    made, on = profile(), card(distributed_bytes=1000 * MiB)
    one = project(made, Rung(0, 1), sequence_length=LENGTH, card=on)
    two = project(made, Rung(0, 1), sequence_length=LENGTH, world_size=2, card=on)
    assert two.parts["ddp_buffers"] == made.trained_bytes
    assert two.device_bytes - one.device_bytes == made.trained_bytes + 1000 * MiB


def test_the_allocators_reserve_stands_beside_what_is_allocated() -> None:
    found = project(profile(64), Rung(1, 1), sequence_length=LENGTH, card=card(reserve_share=0.5))
    bare = project(profile(64), Rung(1, 1), sequence_length=LENGTH, card=card())
    assert found.allocated_bytes == bare.allocated_bytes
    assert found.parts["allocator"] > 0


def test_checkpointing_costs_time() -> None:
    off, every, second = (_project(Rung(n, 4)).step_s for n in (0, 1, 2))
    assert off < second < every < 1.5 * off


@pytest.mark.parametrize("rung", [Rung(0, 0), Rung(-1, 1), Rung(0, 1, 0)])
def test_an_impossible_rung_is_refused(rung: Rung) -> None:
    with pytest.raises(ProfileError):
        _project(rung)


def test_a_projection_survives_its_mapping() -> None:
    found = _project(Rung(2, 4, 2, offload=True))
    assert Projection.from_dict(found.as_dict()) == found
    assert found.as_dict()["rung"]["label"] == "every 2 layers + offload, 4×2"


RUNGS = st.builds(Rung, st.integers(0, 12), st.integers(1, 32), st.integers(1, 8), st.booleans())


@given(RUNGS, st.integers(1, 30), st.integers(8, 8192), st.integers(1, 4), st.sampled_from(["cuda", "cpu"]))
def test_parts_add_up_and_none_is_negative(
    rung: Rung, layers: int, length: int, ranks: int, kind: str
) -> None:
    on = card(context_bytes=300 * MiB, reserve_bytes=7, reserve_share=0.03, kind=kind)
    found = project(profile(layers), rung, sequence_length=length, world_size=ranks, card=on)
    assert set(found.parts) == set(PARTS)
    assert sum(found.parts.values()) == found.device_bytes
    assert min(found.parts.values()) >= 0
    assert found.allocated_bytes <= found.reserved_bytes <= found.device_bytes <= found.upper_bytes
    assert found.phase in PHASES
    assert found.step_s > 0


@given(RUNGS, st.integers(2, 30), st.integers(8, 4096))
def test_more_tokens_never_take_less(rung: Rung, layers: int, length: int) -> None:
    here = _project(rung, layers, length)
    assert _project(rung, layers, length + 8).allocated_bytes >= here.allocated_bytes
    wider = replace(rung, micro_batch=rung.micro_batch + 1)
    assert _project(wider, layers, length).allocated_bytes >= here.allocated_bytes


@given(st.integers(1, 12), st.integers(1, 8), st.integers(2, 30), st.integers(8, 4096))
def test_checkpointing_never_raises_activations(every_n: int, size: int, layers: int, length: int) -> None:
    """Save for the attention mask, which checkpoints keep for the second forward pass."""
    off, on = (_project(Rung(n, size), layers, length) for n in (0, every_n))
    mask = size * length**2 if size > 1 else 0
    if off.phase == on.phase:
        assert on.parts["activations"] <= off.parts["activations"] + mask
        assert on.parts["activations"] + on.parts["boundaries"] <= off.parts["activations"] + mask


@given(st.floats(0.5, 0.999), st.floats(0.5, 0.999), st.sampled_from(sorted(DEVIATION)))
def test_more_confidence_never_means_a_smaller_margin(one: float, other: float, kind: str) -> None:
    low, high = sorted((one, other))
    assert 10**9 <= upper(10**9, low, kind) <= upper(10**9, high, kind)
