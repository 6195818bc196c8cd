"""The host's part of a step on a CUDA card: no card, however fast, ends a step before its kernels are launched."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jobs.cards import find_card
from jobs.memory.kernel_launches import LAUNCHES
from jobs.memory.project import project
from jobs.memory.rung import Rung
from tests.step_profiles import profile

METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"adapter_bytes": 1000},
    "qlora": {"adapter_bytes": 1000, "quantised": "nf4"},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("every_n", "twice"), [(0, 0), (1, 8), (2, 4), (3, 3)])
def test_no_step_is_faster_than_its_kernels_are_launched(method: str, every_n: int, twice: int) -> None:
    endless = replace(find_card("h100"), flops=1e30, bandwidth_bytes_s=1e30)
    own = LAUNCHES[method]

    def launches(accumulation: int) -> float:
        """That the projected seconds are those of."""
        tiny, rung = profile(8, **METHODS[method]), Rung(every_n, 1, accumulation)
        return project(tiny, rung, sequence_length=1, card=endless).step_s / endless.launch_s

    batch = own.batch + 8 * own.layer + twice * own.again + (own.asked if twice else 0)
    assert launches(1) == pytest.approx(batch + own.step)
    assert launches(4) == pytest.approx(4 * batch + 3 * 8 * own.adding + own.step)


def test_adapters_launch_more_than_a_full_fine_tune() -> None:
    """A small model on a big card, where nothing but launches counts."""
    full, lora, qlora = (
        project(profile(24, **kind), Rung(0, 1), sequence_length=8, card=find_card("h200")).step_s
        for kind in METHODS.values()
    )
    assert 1.5 * full < min(lora, qlora)


def test_a_large_micro_batch_takes_its_arithmetic_instead() -> None:
    slow = replace(find_card("h100"), flops=1e9)
    once, twice = (
        project(profile(8), Rung(0, size), sequence_length=512, card=slow).step_s for size in (8, 16)
    )
    assert twice == pytest.approx(2 * once, rel=0.01)


def test_published_steps_that_only_launched_are_met() -> None:
    """ms-swift 2.x, qwen-1.8b (24 layers) on an A100, full, checkpointed: 93 ms at 512 and at 1,024 tokens alike."""
    micro_s = LAUNCHES["full"].micro_batch(24, Rung(1, 1, 16)) * find_card("a100-80gb").launch_s
    assert micro_s == pytest.approx(0.093, rel=0.05)
