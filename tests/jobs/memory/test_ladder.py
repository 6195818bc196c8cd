"""jobs/memory/ladder.py: the fastest rung that fits, and the numbers when none does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.cards import Card, card_for
from jobs.jobfile.fields import Policy
from jobs.jobfile.sections.model import ModelSpec
from jobs.jobfile.spec import JobSpec
from jobs.memory.ladder import Choice, NoFit, choose, preference, rungs, useful_n
from jobs.memory.profile import LOSS, Line, Pass
from jobs.memory.project import Rung, project
from jobs.state import Code
from jobs.units import GiB, MiB
from tests.step_profiles import card, profile


def _spec(batch: int = 8, gpus: int = 1, length: int = 512, **memory: Any) -> JobSpec:
    return JobSpec.model_validate(
        {
            "model": "org/model",
            "data": "org/data",
            "method": "full",
            "training": {"global_batch": batch, "sequence_length": length},
            "resources": {"gpus": gpus},
            "memory": memory,
        }
    )


def test_plenty_of_memory_means_no_checkpointing() -> None:
    found = choose(profile(), _spec(), card(80 * GiB))
    assert isinstance(found, Choice)
    assert found.rung.every_n == 0
    assert found.slowdown == 0


def test_of_equally_fast_rungs_the_one_with_less_memory_is_taken() -> None:
    """Arithmetic takes as long however the batch is cut, launching layers does not."""
    busy = choose(profile(), _spec(), card(80 * GiB))
    assert isinstance(busy, Choice)
    equal = [one for one in busy.tried if abs(one.relative_time - busy.slowdown - 1) < 5e-4]
    assert len(equal) > 1
    assert busy.projection.upper_bytes == min(one.projection.upper_bytes for one in equal)
    slow = choose(profile(), _spec(), replace(card(80 * GiB), layer_s=1.0))
    assert isinstance(slow, Choice)
    assert slow.rung == Rung(0, 8, 1)


def test_rows_of_one_length_are_charged_no_mask() -> None:
    """Of tests/profiles.py's passes the padded ones are made dearer here."""
    plain = profile()
    dear = {
        name: Pass({key: replace(one, peaks=(Line(token=1e6),)) for key, one in found.segments.items()})
        if ".padded." in name
        else found
        for name, found in plain.passes.items()
    }
    masked = replace(plain, passes=dear)
    spec = _spec(micro_batch=4)
    equal, unequal = (choose(masked, spec, card(80 * GiB), equal_rows=flag) for flag in (True, False))
    alone = choose(plain, spec, card(80 * GiB))
    assert isinstance(equal, Choice) and isinstance(alone, Choice)
    highest = max(one.projection.device_bytes for one in equal.tried)
    assert highest == max(one.projection.device_bytes for one in alone.tried)
    assert min(one.projection.device_bytes for one in unequal.tried) > highest


def test_checkpointing_only_where_off_does_not_fit() -> None:
    spec = _spec(micro_batch=8)
    off, every = (
        project(profile(), Rung(n, 8), sequence_length=512, card=card()).upper_bytes for n in (0, 1)
    )
    assert every < off
    tight = choose(profile(), spec, card(off - 1))
    assert isinstance(tight, Choice)
    assert tight.rung.every_n == 8  # one layer of the eight: the least that there is
    assert tight.slowdown > 0
    tightest = choose(profile(), spec, card(every))
    assert isinstance(tightest, Choice)
    assert tightest.rung == Rung(1, 8)
    assert tightest.slowdown > tight.slowdown
    enough = choose(profile(), spec, card(off))
    assert isinstance(enough, Choice)
    assert enough.rung.every_n == 0


def test_nothing_fits_says_what_is_missing() -> None:
    found = choose(profile(), _spec(), card(50 * MiB))
    assert isinstance(found, NoFit)
    assert found.reason.code is Code.MEMORY
    assert "needs at least" in found.reason.text
    assert "the card has 50 MiB" in found.reason.text
    assert found.reason.figures["needs_bytes"] == found.smallest.upper_bytes
    assert found.smallest.upper_bytes == min(entry.projection.upper_bytes for entry in found.tried)


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        ({"checkpointing": "off"}, {0}),
        ({"checkpointing": "every_layer"}, {1}),
        ({"checkpointing": {"every_n": 3}}, {3}),
        ({"checkpointing": "auto"}, {0, 1, 2, 3, 4, 8}),
    ],
)
def test_a_wish_is_only_checked_never_changed(memory: dict[str, Any], expected: set[int]) -> None:
    assert {rung.every_n for rung in rungs(_spec(**memory), 8)} == expected
    small = choose(profile(), _spec(**memory), card(1 * MiB))
    assert isinstance(small, NoFit)


def test_offload_has_nowhere_to_go_on_a_cpu_card() -> None:
    made = _spec(micro_batch=1, offload=True, checkpointing="every_layer")
    found = choose(profile(2), made, card(64 * GiB, kind="cpu"))
    assert isinstance(found, NoFit)
    assert found.reason.code is Code.NO_CARD
    assert isinstance(choose(profile(2), made, card(64 * GiB)), Choice)


def test_a_fixed_micro_batch_and_offload_are_kept() -> None:
    found = rungs(_spec(micro_batch=2, offload=True, checkpointing="every_layer"), 8)
    assert found == [Rung(1, 2, 4, offload=True)]


def test_offload_is_the_last_rung_of_cuda_cards_alone() -> None:
    offloaded = {kind: [rung for rung in rungs(_spec(), 8, kind) if rung.offload] for kind in ("cuda", "cpu")}
    assert offloaded == {"cuda": [Rung(1, k, 8 // k, offload=True) for k in (8, 4, 2, 1)], "cpu": []}
    assert not any(rung.offload for rung in rungs(_spec(offload=False), 8))
    fixed = rungs(_spec(checkpointing={"every_n": 3}, micro_batch=8), 8)
    assert fixed == [Rung(3, 8), Rung(3, 8, offload=True)]
    assert all(rung.offload and rung.every_n for rung in rungs(_spec(offload=True), 8))


def test_offload_is_taken_when_nothing_else_fits() -> None:
    spec = _spec(micro_batch=8)
    every = project(profile(), Rung(1, 8), sequence_length=512, card=card()).upper_bytes
    found = choose(profile(), spec, card(every - 1))
    assert isinstance(found, Choice)
    assert found.rung == Rung(1, 8, offload=True)


def test_unsloth_checkpoints_every_layer_or_none() -> None:
    spec = _spec(micro_batch=8).model_copy(update={"model": ModelSpec(path="org/model", engine="unsloth")})
    assert rungs(spec, 8) == [Rung(0, 8), Rung(1, 8)]


@given(st.integers(1, 200))
def test_each_useful_n_checkpoints_another_number_of_layers_and_all_numbers_are_there(layers: int) -> None:
    counts = [len(range(0, layers, n)) for n in useful_n(layers)]
    assert counts == sorted({len(range(0, layers, n)) for n in range(1, layers + 1)}, reverse=True)


@given(st.integers(1, 64), st.sampled_from([1, 2, 4]))
def test_the_global_batch_never_changes(batch: int, gpus: int) -> None:
    spec = _spec(batch * gpus, gpus)
    ladder = rungs(spec, 8)
    assert {rung.micro_batch * rung.accumulation * gpus for rung in ladder} == {batch * gpus}
    assert len(set(ladder)) == len(ladder)


@given(
    memory=st.integers(50, 3000),
    batch=st.integers(1, 12),
    length=st.sampled_from([64, 512, 2000]),
    speed=st.floats(0.2, 5),
    ceiling=st.none() | st.integers(50, 3000),
    data=st.data(),
)
@settings(deadline=None)
def test_the_choice_fits_and_nothing_that_was_tried_and_fits_is_faster(
    memory: int, batch: int, length: int, speed: float, ceiling: int | None, data: st.DataObject
) -> None:
    spec = _spec(batch)
    exclude = data.draw(st.sets(st.sampled_from(rungs(spec, 8)), max_size=5))
    limit = None if ceiling is None else ceiling * MiB
    found = choose(
        profile(), spec, card(memory * MiB), length=length, speed=speed, exclude=exclude, ceiling_bytes=limit
    )

    def fits(rung: Rung) -> bool:
        upper = project(profile(), rung, sequence_length=length, card=card(memory * MiB)).upper_bytes
        return rung not in exclude and upper <= memory * MiB and (limit is None or upper < limit)

    assert [entry.fits for entry in found.tried] == [fits(entry.rung) for entry in found.tried]
    assert {entry.rung for entry in found.tried} == set(rungs(spec, 8))
    times = [entry.projection.step_s for entry in found.tried if entry.fits]
    if isinstance(found, NoFit):
        assert not times
        return
    assert fits(found.rung)
    assert found.projection.step_s <= min(times) * 1.001
    assert found.step_s == found.projection.step_s * speed
    assert {entry.rung for entry in found.runners_up} | {found.rung} == {
        entry.rung for entry in found.tried if entry.fits
    }


def test_a_ceiling_and_what_ran_out_of_memory_are_told() -> None:
    spec = _spec(micro_batch=8, checkpointing="every_layer", offload=False)
    upper = project(profile(), Rung(1, 8), sequence_length=512, card=card()).upper_bytes
    under = choose(profile(), spec, card(), ceiling_bytes=upper)
    assert isinstance(under, NoFit)
    assert "the card has 24.00 GiB and ran out of memory at" in under.reason.text
    barred = choose(profile(), spec, card(), exclude={Rung(1, 8)})
    assert isinstance(barred, NoFit)
    assert "ran out of memory there" in barred.reason.text
    assert [entry.excluded for entry in barred.tried] == [True]


def test_policies_rank_cards() -> None:
    def entry(name: str, memory: int, step_s: float, price: float | None) -> tuple[Card, Choice]:
        projection = project(profile(), Rung(0, 8), sequence_length=512, card=card())
        return (
            replace(card(memory * GiB, price=price), name=name),
            Choice(Rung(0, 8), replace(projection, step_s=step_s), 0.0, ()),
        )

    pairs = [
        entry("small", 24, 4.0, 0.5),  # 2.0 a step
        entry("quick", 80, 1.0, 3.0),  # 3.0
        entry("thrifty", 48, 1.5, 1.0),  # 1.5
        entry("unpriced", 16, 9.0, None),
    ]

    def first(policy: Policy) -> list[str]:
        return [each.name for each, _ in sorted(pairs, key=lambda pair: preference(policy, *pair))]

    assert first("smallest_card") == ["unpriced", "small", "thrifty", "quick"]
    assert first("fastest") == ["quick", "thrifty", "small", "unpriced"]
    assert first("cheapest") == ["thrifty", "small", "quick", "unpriced"]


def test_a_few_mib_do_not_make_a_card_the_smaller_one() -> None:
    made = choose(profile(), _spec(), card(80 * GiB))
    assert isinstance(made, Choice)
    slow, quick = (replace(made, projection=replace(made.projection, step_s=s)) for s in (2.0, 1.0))
    a10g, l4 = card(23028 * MiB), card(23034 * MiB)
    assert preference("smallest_card", l4, quick) < preference("smallest_card", a10g, slow)
    small, large = card(600 * MiB), card(700 * MiB)
    assert preference("smallest_card", small, slow) < preference("smallest_card", large, quick)


def test_measured_step_times_move_a_card_in_the_ranking() -> None:
    quick, slow = (
        choose(profile(), _spec(), card(80 * GiB, flops=flops), speed=speed)
        for flops, speed in ((4e14, 6.0), (1e14, 1.0))
    )
    assert isinstance(quick, Choice) and isinstance(slow, Choice)
    assert quick.projection.step_s < slow.projection.step_s
    assert preference("fastest", card(), quick) > preference("fastest", card(), slow)


@given(st.integers(20, 4000), st.integers(0, 3000))
def test_more_memory_never_means_a_slower_rung(small: int, more: int) -> None:
    here = choose(profile(), _spec(), card(small * MiB))
    there = choose(profile(), _spec(), card((small + more) * MiB))
    if isinstance(here, Choice):
        assert isinstance(there, Choice)
        assert there.projection.step_s <= here.projection.step_s * 1.001
        assert here.projection.upper_bytes <= small * MiB


def _quickest(choice: Choice) -> set[int]:
    """The micro-batches of the rungs that take as long as the fastest."""
    best = min(one.relative_time for one in choice.tried)
    return {one.rung.micro_batch for one in choice.tried if one.relative_time < best * 1.0005}


def test_memory_goes_by_the_longest_batch_and_time_by_the_mean_one():
    """Short rows with one long one: what is quickest for the long one is not what is quickest for the job."""
    spec, here = _spec(), card(80 * GiB)
    longest = choose(profile(), spec, here)
    batch = spec.batch_per_gpu
    # Of one row the mean is short; of several the long one is nearly always among them.
    means = [(size, 32 if size == 1 else spec.training.sequence_length) for size in range(1, batch + 1)]
    typical = choose(profile(), spec, here, means=means)
    assert isinstance(longest, Choice) and isinstance(typical, Choice)
    assert len(_quickest(longest)) > 1
    assert _quickest(typical) == {typical.rung.micro_batch} == {1}
    same = {one.rung: one.projection for one in longest.tried}
    for one in typical.tried:
        assert one.projection.upper_bytes == same[one.rung].upper_bytes
        assert one.projection.step_s <= same[one.rung].step_s


def test_the_loss_of_a_batch_with_one_long_row_is_that_of_its_tokens():
    """The padding beside a long row takes no part in the loss: a card that is short by it runs a larger micro-batch."""
    charged = profile()
    passes = {
        name: Pass(
            {
                key: replace(one, peaks=(Line(valid=100_000),)) if key in LOSS else one
                for key, one in found.segments.items()
            }
        )
        for name, found in charged.passes.items()
    }
    made, spec = replace(charged, passes=passes), _spec()
    batch, length = spec.batch_per_gpu, spec.training.sequence_length
    fullest = [(size, length + 10 * (size - 1)) for size in range(1, batch + 1)]
    whole, known = (choose(made, spec, card(2**40), fullest=pairs) for pairs in ((), fullest))
    assert isinstance(whole, Choice) and isinstance(known, Choice)
    before = {one.rung: one.projection for one in whole.tried}
    for one in known.tried:
        assert one.projection.allocated_bytes <= before[one.rung].allocated_bytes
        if one.rung.micro_batch == 1:
            assert one.projection.allocated_bytes == before[one.rung].allocated_bytes
    off = Rung(0, batch)
    now = next(one.projection for one in known.tried if one.rung == off)
    here = card(now.upper_bytes)
    assert before[off].upper_bytes > now.upper_bytes
    fits = [
        {one.rung for one in found.tried if one.fits}
        for found in (choose(made, spec, here, fullest=pairs) for pairs in ((), fullest))
    ]
    assert off not in fits[0] and off in fits[1] and fits[0] < fits[1]


@pytest.mark.parametrize(
    ("model", "training", "trains"),
    [
        ({"dtype": "bfloat16"}, {}, False),
        ({"dtype": "float32"}, {"autocast": "bfloat16"}, False),
        ({"dtype": "float16"}, {}, True),
        ({"dtype": "float32"}, {"autocast": "off"}, True),
    ],
    ids=["bfloat16", "autocast", "float16", "float32"],
)
def test_a_card_older_than_ampere_does_not_train_in_bfloat16(
    model: dict[str, str], training: dict[str, str], trains: bool
) -> None:
    spec = JobSpec.model_validate(
        {"model": {"path": "org/m", **model}, "data": "d", "method": "lora", "training": training}
    )
    found = choose(profile(), spec, card_for("cuda", "Tesla T4", 2**40))
    assert isinstance(found, Choice) is trains
    if isinstance(found, NoFit):
        assert found.reason.code is Code.NO_CARD and "model.dtype: float16" in found.reason.text
    assert isinstance(choose(profile(), spec, card_for("cuda", "NVIDIA A10", 2**40)), Choice)


def test_an_older_card_has_the_passes_of_its_attention() -> None:
    """Those of its own where it has them, else the ones with a mask: without one it never has the newer kernel."""
    known = profile()
    body = known.passes["cuda.plain.off"]
    made = replace(known, passes={**known.passes, "cuda.old.plain.off": body})
    assert made.body("cuda.old", padded=False, every=False) is body
    assert made.body("cuda.old", padded=False, every=True) is known.passes["cuda.padded.every"]
    assert made.body("cuda.old", padded=True, every=True) is known.passes["cuda.padded.every"]
    assert made.loss("cuda.old", 1) is known.passes["cuda.loss.short"]
