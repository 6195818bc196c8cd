"""jobs/memory/project.py: the closed form on made-up profiles, where the right answer can be counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cards import card_for
from jobs.errors import ProfileError
from jobs.memory.profile import Line, MemoryProfile, Pass, Segment
from jobs.memory.project import DEVIATION, PARTS, PHASES, Margin, Projection, Rung, prior, project
from jobs.units import GiB, MiB
from tests.random_profiles import RUNGS
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
    assert two.parts["nccl"] == 1000 * MiB
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
    """Except for the attention mask, which checkpoints keep for the second forward pass."""
    off, on = (_project(Rung(n, size), layers, length) for n in (0, every_n))
    mask = size * length**2 if size > 1 else 0
    if off.phase == on.phase:
        assert on.parts["activations"] <= off.parts["activations"] + mask
        assert on.parts["activations"] + on.parts["boundaries"] <= off.parts["activations"] + mask


@given(st.floats(0.5, 0.999), st.floats(0.5, 0.999), st.sampled_from(sorted(DEVIATION)))
def test_more_confidence_never_means_a_smaller_margin(one: float, other: float, kind: str) -> None:
    low, high = (prior(kind, confidence) for confidence in sorted((one, other)))
    assert 0 <= low.high <= high.high
    assert high.low <= low.low <= 0


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, -1.0])
def test_an_impossible_confidence_is_refused(confidence: float) -> None:
    with pytest.raises(ProfileError, match="between 0 and 1"):
        project(profile(), Rung(0, 1), sequence_length=LENGTH, card=card(), confidence=confidence)


def test_a_measured_margin_sets_all_three_intervals() -> None:
    margin = Margin(-0.04, 0.03, 12, "qwen3 lora")
    on = card(context_bytes=300 * MiB, reserve_bytes=7)
    found = project(profile(), Rung(0, 1), sequence_length=LENGTH, card=on, margin=margin)
    three = (found.allocated_bytes, found.reserved_bytes, found.device_bytes)
    assert list(found.intervals) == ["allocated", "reserved", "device"]
    for count, (low, high) in zip(three, found.intervals.values(), strict=True):
        assert (low, high) == (round(count * 0.96), round(count * 1.03))
    assert found.upper_bytes == found.intervals["device"][1]
    assert found.margin == margin


def _mapped(found: Projection) -> Projection:
    return Projection.from_dict(json.loads(json.dumps(found.as_dict())))


def test_a_projection_survives_json() -> None:
    found = _project(Rung(2, 4, 2, offload=True))
    assert _mapped(found) == found
    assert found.as_dict()["rung"]["label"] == "every 2 layers + offload, 4×2"
    assert vars(found).keys() == Projection.__dataclass_fields__.keys()


def test_a_projection_of_an_earlier_version_is_readable() -> None:
    """What the first version stored has none of the later fields."""
    later = ("margin", "phases", "checkpointing_helps", "notes", "intervals")
    stored = {name: value for name, value in _project(Rung(1, 1)).as_dict().items() if name not in later}
    found = Projection.from_dict(stored)
    assert found.phases == {}
    assert found.notes == ()
    assert found.intervals["device"] == (found.device_bytes, found.device_bytes)


def test_the_highest_of_each_phase() -> None:
    made = profile(load_bytes=5 * MiB, save_bytes=MiB, optimizer_transient_bytes=3 * MiB)
    found = project(made, Rung(0, 1), sequence_length=LENGTH, card=card())
    resting = made.weight_bytes + made.optimizer_bytes
    forward, loss = (8_000 + 8 * KEPT + 5_000) * LENGTH, (8_000 + 8 * KEPT + 4_000 + 120_000) * LENGTH
    assert list(found.phases) == ["load", "forward end", "loss", "backward", "optimizer step", "save"]
    assert found.phases["load"] == made.weight_bytes + 5 * MiB
    assert found.phases["forward end"] == resting + forward
    assert found.phases["loss"] == resting + loss + 8 * MiB == found.allocated_bytes
    assert found.phases["optimizer step"] == resting + made.trained_bytes + 3 * MiB
    assert found.phases["save"] == resting + MiB


def test_loading_binds_where_it_takes_more_than_a_step() -> None:
    """As a model that is read in float32 and cast does; there is no optimizer and no bucket by then."""
    found = project(
        profile(load_bytes=4 * GiB), Rung(0, 1), sequence_length=LENGTH, world_size=2, card=card()
    )
    assert found.phase == "load"
    assert found.parts["transients"] == 4 * GiB
    assert (found.parts["optimizer"], found.parts["ddp_buffers"], found.parts["gradients"]) == (0, 0, 0)
    assert sum(found.parts.values()) == found.device_bytes
    assert not found.checkpointing_helps


def _evaluated(logits: float) -> MemoryProfile:
    """With an evaluation that keeps `logits` bytes a token at its loss."""
    made = profile()
    layer = Segment(Line(), (Line(0, 9_000),))
    forward = dict.fromkeys(("first", "layer", "last"), layer)
    found = Pass({"before": Segment(Line(0, 8_000)), **forward, "loss": Segment(Line(), (Line(0, logits),))})
    return profile(passes={**made.passes, "cuda.eval": found})


def test_an_evaluation_that_keeps_its_logits_can_bind() -> None:
    found = project(_evaluated(1e6), Rung(1, 1), sequence_length=LENGTH, card=card())
    assert found.phase == "evaluation"
    assert found.parts["logits_and_loss"] == 1_000_000 * LENGTH
    assert found.parts["gradients"] == 0
    assert not found.checkpointing_helps
    lean = project(_evaluated(0), Rung(1, 1), sequence_length=LENGTH, card=card())
    resting = profile().weight_bytes + profile().optimizer_bytes
    assert lean.phases["evaluation"] == resting + (8_000 + 9_000) * LENGTH
    assert lean.phase != "evaluation"


def test_checkpointing_helps_until_every_layer_is_checkpointed_or_another_phase_binds() -> None:
    assert _project(Rung(0, 1)).checkpointing_helps
    assert _project(Rung(2, 1)).checkpointing_helps
    assert not _project(Rung(1, 1)).checkpointing_helps
    bound = _project(Rung(0, 1), optimizer_transient_bytes=GiB)
    assert bound.phase == "optimizer step"
    assert not bound.checkpointing_helps


def test_offload_moves_what_grows_with_the_tokens_and_leaves_the_copies_of_weights() -> None:
    """Autocast's copies are kept by each layer until the loss, offloaded or not."""
    made = profile()
    copies = {
        name: replace(
            found,
            segments={
                **found.segments,
                **{n: replace(found[n], delta=Line(MiB, BOUNDARY)) for n in ("first", "layer", "last")},
                "loss": replace(
                    found["loss"], of_layers=dict.fromkeys(("first", "layer", "last"), Line(-MiB))
                ),
            },
        )
        if name == "cuda.plain.every"
        else found
        for name, found in made.passes.items()
    }
    here, away = (_project(Rung(1, 1, 1, o), passes=copies) for o in (False, True))
    assert here.phases["forward end"] - away.phases["forward end"] == 7 * BOUNDARY * LENGTH
    assert away.parts["boundaries"] == 0, "the peak is in the loss backward: the copies are gone"
    assert here.step_s < away.step_s


def test_offload_holds_one_boundary_at_a_time() -> None:
    """The input of the layer that runs; transformers copies it on the compute stream, one layer at a time."""
    here, away = (_project(Rung(1, 4, 1, o)) for o in (False, True))
    assert here.phases["loss"] - away.phases["loss"] == 8 * BOUNDARY * 4 * LENGTH
    assert here.phases["forward end"] - away.phases["forward end"] == 7 * BOUNDARY * 4 * LENGTH


def test_unlike_layers_each_bring_their_own_segments() -> None:
    """A model of four plain layers and four that keep twice as much, in any order."""
    wide = Segment(Line(0, 2 * KEPT), (Line(0, 2 * KEPT),))
    passes = {
        name: Pass(
            {
                **found.segments,
                "layer.b": wide,
                "layer.b_backward": found.segments.get("layer_backward", wide),
            }
        )
        for name, found in profile().passes.items()
    }
    order = ("first", "layer.b", "layer", "layer.b", "layer", "layer.b", "layer.b", "last")
    found = _project(Rung(0, 1), passes=passes, order=order)
    assert found.parts["activations"] == (8_000 + 4 * KEPT + 4 * 2 * KEPT) * LENGTH
    second = _project(Rung(2, 1), passes=passes, order=order)  # layers 0, 2, 4 and 6
    assert second.parts["activations"] == (8_000 + KEPT + 3 * 2 * KEPT) * LENGTH


def test_a_paged_optimizer_leaves_a_card_that_is_too_short_for_it() -> None:
    made = profile(paged_optimizer=True)
    asked = {"sequence_length": LENGTH, "world_size": 1}
    roomy = project(made, Rung(0, 1), card=card(), **asked)
    assert roomy.parts["optimizer"] == made.optimizer_bytes
    assert roomy.notes == ()
    short = project(made, Rung(0, 1), card=card(roomy.upper_bytes - 1), **asked)
    assert short.parts["optimizer"] == 0
    assert short.allocated_bytes == roomy.allocated_bytes - made.optimizer_bytes
    assert "paged to the host" in short.notes[0]
    assert short.step_s > roomy.step_s


@pytest.mark.parametrize(("kind", "adapter_bytes"), [("cpu", 0), ("cuda", MiB)])
def test_state_that_can_not_be_paged_stays_on_a_card_that_is_too_short(kind: str, adapter_bytes: int) -> None:
    """A CPU card's memory is the host's; and the state of small tensors, as adapters are, is never paged."""
    made = profile(paged_optimizer=True, adapter_bytes=adapter_bytes)
    found = project(made, Rung(0, 1), sequence_length=LENGTH, card=card(MiB, kind=kind))
    assert found.parts["optimizer"] == made.optimizer_bytes
    assert found.notes == ()


def test_the_arithmetic_of_the_loss_goes_with_the_tokens() -> None:
    """A trace of several chunks has it as a fixed sum, of the tokens that it happened to have."""
    found = profile().passes
    long = {name: replace(one, flops=Line(1e15)) for name, one in found["cuda.loss.long"].segments.items()}
    traced = profile(passes={**found, "cuda.loss.long": Pass(long)})
    step_s = [
        project(traced, Rung(0, size), sequence_length=LENGTH, card=card(flops=1e9)).step_s
        for size in (8, 16, 32)
    ]
    assert step_s[2] - step_s[1] == pytest.approx(2 * (step_s[1] - step_s[0]))


def test_packed_weights_are_unpacked_each_time_that_they_are_used() -> None:
    plain, packed = (
        project(profile(quantised=kind), Rung(0, 1), sequence_length=LENGTH, card=card(bandwidth_bytes_s=1e9))
        for kind in ("", "nf4")
    )
    assert packed.step_s > plain.step_s
    assert packed.parts == plain.parts


@pytest.mark.parametrize("layers", [1, 8])
def test_no_step_on_a_cpu_card_is_faster_than_what_it_launches(layers: int) -> None:
    """Rows of few tokens of a tiny model: what the host does around the arithmetic, for each layer, batch and step."""
    on = replace(card_for("cpu", "cpu", 2 * GiB), flops=1e18, bandwidth_bytes_s=1e15)
    tiny = profile(layers)

    def step_s(accumulation: int) -> float:
        return project(tiny, Rung(0, 1, accumulation), sequence_length=1, card=on).step_s

    batch = 2 * layers * on.layer_s + on.batch_s
    assert step_s(1) == pytest.approx(batch + on.step_s, rel=1e-3)
    assert step_s(4) == pytest.approx(4 * batch + on.step_s, rel=1e-3)
    assert step_s(1) > 3e-3
