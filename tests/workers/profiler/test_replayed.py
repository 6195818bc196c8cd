"""jobs/memory/allocator/replay.py on traced models: what a simulated step has live is what the closed form says."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from jobs.cards import Card
from jobs.memory.allocator.events import HOME, NEXT, NOBODY
from jobs.memory.allocator.replay import of_batches, replayed
from jobs.memory.profile import MemoryProfile
from jobs.memory.project import Rung, project
from tests.workers.profiler.test_trace import LORA, _spec
from workers.profiler.trace import trace

BARE = Card("bare", 1, 1e12, 1e12, 0, "live bytes alone", "cuda")
LENGTH = 1000
RUNGS = [
    *(Rung(every_n, 2, 1, offload) for every_n, offload in ((0, False), (1, False), (3, False), (1, True))),
    Rung(2, 2, 2),
]


@cache
def traced(kind: str, method: str) -> MemoryProfile:
    return trace(_spec(kind, LORA if method == "lora" else method), [])


@pytest.mark.parametrize("equal_rows", [True, False], ids=["alike", "varied"])
@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.label)
@pytest.mark.parametrize(("kind", "method"), [("llama", "full"), ("gemma3_text", "full"), ("qwen3", "lora")])
def test_a_replayed_step_has_live_what_the_closed_form_says(
    kind: str, method: str, rung: Rung, equal_rows: bool
) -> None:
    profile = traced(kind, method)
    said = project(profile, rung, sequence_length=LENGTH, card=BARE, equal_rows=equal_rows)
    steps = [[[LENGTH, LENGTH - (not equal_rows)]] * rung.accumulation] * 2
    found = of_batches(profile, rung, steps, workspace_bytes=0)
    of_step = max(said.phases[phase] for phase in ("forward end", "loss", "backward"))
    assert found.asked == pytest.approx(of_step, rel=0.01)
    assert found.asked <= found.allocated <= found.reserved


def test_each_tensor_that_outlives_its_segment_is_freed_by_the_one_that_is_said_to_free_it() -> None:
    passes = traced("llama", "full").passes
    for name, found in passes.items():
        if not name.startswith("cuda") or ".loss" in name:
            assert name.startswith("cuda") or not any(one.events for one in found.segments.values())
            continue
        taken, freed = ({key: _counts(one, sign) for key, one in found.segments.items()} for sign in (1, -1))
        for key in found.segments:
            assert freed[key].get(HOME, 0) == taken[key].get(HOME, 0)
        assert taken["layer"].get(NEXT, 0) == freed["last"].get(NEXT, 0)
        # Gradients: of queries, attention's output, and the feed-forward's three; the others are too small to be noted.
        assert taken["layer_backward"][NOBODY] == 5


def _counts(segment: Any, sign: int) -> dict[int, int]:
    made: dict[int, int] = {}
    for event in segment.events:
        if (event[0] >= 0) == (sign > 0):
            kind = int(event[0] if sign > 0 else -1 - event[0])
            made[kind] = made.get(kind, 0) + 1
    return made


def test_a_profile_comes_back_from_json_with_its_events_and_tensors() -> None:
    profile = traced("llama", "full")
    again = MemoryProfile.from_dict(json.loads(json.dumps(profile.as_dict())))
    assert again == profile
    assert sum(
        one.size for name in ("before", *profile.layer_names, "after") for one in profile.tensors[name]
    )


def test_weights_and_state_are_all_of_the_profile() -> None:
    for kind, method in (("llama", "full"), ("qwen3", "lora")):
        profile = traced(kind, method)
        every = [
            one for name in ("before", *profile.layer_names, "after") for one in profile.tensors.get(name, ())
        ]
        rounded = sum(-(-one.size // 512) * 512 for one in every)
        assert rounded == pytest.approx(profile.weight_bytes + profile.adapter_bytes, rel=0.001)  # no buffers
        state = sum(-(-size // 512) * 512 for one in every for size in one.state)
        assert state == profile.optimizer_bytes


def test_what_was_simulated_is_kept_with_the_profile() -> None:
    profile = traced("llama", "full")
    same = {"equal_rows": True, "workspace_bytes": 2**23}
    one = replayed(profile, RUNGS[0], LENGTH, **same)
    assert replayed(profile, RUNGS[0], LENGTH, **same) is one
    assert replayed(profile, RUNGS[0], LENGTH, equal_rows=False, workspace_bytes=2**23) is not one
