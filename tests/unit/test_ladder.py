"""jobs/ladder.py: the fastest rung that fits, and the numbers when none does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.ladder import Choice, NoFit, choose, rungs
from jobs.memory import Rung, project
from jobs.spec import JobSpec
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


def test_plenty_of_memory_means_no_checkpointing_and_the_whole_batch() -> None:
    found = choose(profile(), _spec(), card(80 * GiB))
    assert isinstance(found, Choice)
    assert found.rung == Rung(0, 8, 1)
    assert found.slowdown == 0


def test_checkpointing_only_where_off_does_not_fit() -> None:
    spec = _spec(micro_batch=8)
    off, every = (
        project(profile(), Rung(n, 8), sequence_length=512, card=card()).upper_bytes for n in (0, 1)
    )
    assert every < off
    tight = choose(profile(), spec, card(off - 1))
    assert isinstance(tight, Choice)
    assert tight.rung.every_n == 1
    assert tight.slowdown > 0
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
        ({"checkpointing": "auto"}, {0, 1}),
    ],
)
def test_a_wish_is_only_checked_never_changed(memory: dict[str, Any], expected: set[int]) -> None:
    assert {rung.every_n for rung in rungs(_spec(**memory))} == expected
    small = choose(profile(), _spec(**memory), card(1 * MiB))
    assert isinstance(small, NoFit)


def test_offload_has_nowhere_to_go_on_a_cpu_card() -> None:
    made = _spec(micro_batch=1, offload=True, checkpointing="every_layer")
    found = choose(profile(2), made, card(64 * GiB, kind="cpu"))
    assert isinstance(found, NoFit)
    assert found.reason.code is Code.NO_CARD
    assert isinstance(choose(profile(2), made, card(64 * GiB)), Choice)


def test_a_fixed_micro_batch_and_offload_are_kept() -> None:
    found = rungs(_spec(micro_batch=2, offload=True, checkpointing="every_layer"))
    assert found == [Rung(1, 2, 4, offload=True)]


@given(st.integers(1, 64), st.sampled_from([1, 2, 4]))
def test_the_global_batch_never_changes(batch: int, gpus: int) -> None:
    spec = _spec(batch * gpus, gpus)
    assert {rung.micro_batch * rung.accumulation * gpus for rung in rungs(spec)} == {batch * gpus}


@given(st.integers(20, 4000), st.integers(0, 3000))
def test_more_memory_never_means_a_slower_rung(small: int, more: int) -> None:
    here = choose(profile(), _spec(), card(small * MiB))
    there = choose(profile(), _spec(), card((small + more) * MiB))
    if isinstance(here, Choice):
        assert isinstance(there, Choice)
        assert there.projection.step_s <= here.projection.step_s * 1.001
        assert here.projection.upper_bytes <= small * MiB
