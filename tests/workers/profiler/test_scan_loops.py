"""workers/profiler/scan_loops.py: layers that scan their tokens in chunks, or one by one, projected at other
lengths too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from torch._subclasses.fake_tensor import FakeTensorMode

from jobs.cards import Card
from jobs.jobfile.spec import JobSpec
from jobs.memory.profile import MemoryProfile
from jobs.memory.project import Rung, project
from workers.profiler.fake_model import build, load_config
from workers.profiler.trace import trace, whole_step

BARE = {kind: Card("bare", 1, 1e12, 1e12, 0, "live bytes alone", kind) for kind in ("cuda", "cpu")}
_COMMON = {
    "hidden_size": 192,
    "intermediate_size": 448,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 4001,
    "num_hidden_layers": 5,
}
_STATES = {"mamba_n_heads": 6, "mamba_d_head": 64, "mamba_d_state": 32, "mamba_chunk_size": 64}
SHAPES: dict[str, dict[str, Any]] = {
    "bamba": {**_COMMON, **_STATES, "attn_layer_indices": [2]},
    "qwen3_next": {
        **_COMMON,
        "head_dim": 32,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 96,
        "shared_expert_intermediate_size": 96,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 32,
    },
    "mamba": {"hidden_size": 192, "state_size": 16, "vocab_size": 4001, "num_hidden_layers": 4},
}
# Lengths that fill the last chunk in part; every way of checkpointing.
CASES = [
    ("bamba", "sdpa", 64, (("cuda", 0, 1, 384), ("cpu", 2, 3, 200))),
    ("qwen3_next", "sdpa", 64, (("cuda", 0, 1, 384), ("cuda", 2, 4, 1000))),
    ("mamba", "eager", 1, (("cuda", 0, 1, 64), ("cpu", 1, 7, 40))),
]


@pytest.mark.parametrize(("kind", "attention", "chunk", "steps"), CASES)
def test_layers_that_scan_project_the_whole_model(kind: str, attention: str, chunk: int, steps: Any) -> None:
    """To 3 % of a trace of the full depth, at lengths that were not traced."""
    config = {"model_type": kind, **SHAPES[kind]}
    spec = JobSpec.model_validate(
        {
            "model": {"config": config, "tokenizer": "none", "attention": attention},
            "data": "none",
            "method": "full",
            "training": {"sequence_length": 256},
        }
    )
    profile = trace(spec, [])
    assert profile.chunk_tokens == chunk
    assert MemoryProfile.from_dict(profile.as_dict()) == profile
    mode = FakeTensorMode()
    whole = build(spec, load_config(spec, []), mode, copies=None)
    errors = {}
    for card, every_n, rows, length in steps:
        traced = whole_step(whole, spec, mode, every_n=every_n, kind=card, rows=rows, length=length)
        found = found_at(profile, card, every_n, rows, length)
        errors[card, every_n, rows, length] = found / traced - 1
    assert max(map(abs, errors.values())) < 0.03, errors
    if chunk > 1:  # what goes with chunks is not little: this test says something
        card, every_n, rows, length = steps[0]
        one = replace(profile, chunk_tokens=2**20)
        blind = project(one, Rung(every_n, rows), sequence_length=length, card=BARE[card])
        found = found_at(profile, card, every_n, rows, length)
        assert blind.allocated_bytes < 0.97 * found


def found_at(profile: MemoryProfile, card: Any, every_n: int, rows: int, length: int) -> int:
    return project(profile, Rung(every_n, rows), sequence_length=length, card=BARE[card]).allocated_bytes
