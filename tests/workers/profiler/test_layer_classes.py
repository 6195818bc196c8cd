"""Models whose layers are not alike, and experts: one layer of each kind projects the whole, and a real run."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from jobs.cards import Card
from jobs.errors import ProfileError, SpecError
from jobs.jobfile.spec import JobSpec
from jobs.memory.profile import MemoryProfile
from jobs.memory.project import Rung, project
from workers.profiler import layer_classes
from workers.profiler.fake_model import FakeModel, build, load_config
from workers.profiler.step import checkpoint, trace_step
from workers.profiler.trace import trace, whole_step

BARE = {kind: Card("bare", 1, 1e12, 1e12, 0, "live bytes alone", kind) for kind in ("cuda", "cpu")}
_COMMON = {
    "hidden_size": 192,
    "intermediate_size": 448,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 4001,
}
_EXPERTS = {"moe_intermediate_size": 96, "num_experts_per_tok": 2}
_SHARING = {
    "num_hidden_layers": 9,
    "layer_types": ["sliding_attention", "full_attention"]
    + ["sliding_attention"] * 4
    + ["full_attention"] * 3,
    "num_kv_shared_layers": 7,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "global_head_dim": 64,
    "sliding_window": 256,
    "vocab_size_per_layer_input": 512,
    "hidden_size_per_layer_input": 16,
}
SHAPES: dict[str, dict[str, Any]] = {
    "mixtral": {"num_hidden_layers": 7, "num_local_experts": 4},
    "qwen2_moe": {"num_hidden_layers": 8, "decoder_sparse_step": 2, "num_experts": 4, **_EXPERTS},
    "gemma3_text": {"num_hidden_layers": 8, "head_dim": 48, "sliding_window": 256},
    "deepseek_v3": {
        **_EXPERTS,
        "num_hidden_layers": 7,
        "first_k_dense_replace": 3,
        "num_key_value_heads": 6,
        "n_routed_experts": 8,
        "n_group": 2,
        "topk_group": 1,
        "q_lora_rank": 64,
        "kv_lora_rank": 32,
        "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 32,
        "v_head_dim": 32,
    },
    "qwen3_moe": {**_EXPERTS, "num_hidden_layers": 10, "num_experts": 256, "moe_intermediate_size": 16},
    "gemma4_text": _SHARING,
    "gpt_oss": {"num_hidden_layers": 6, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 32},
}


def _spec(kind: str, method: Any = "full", attention: str = "sdpa", dtype: str = "bfloat16") -> JobSpec:
    config = {"model_type": kind, **_COMMON, **SHAPES[kind]}
    return JobSpec.model_validate(
        {
            "model": {"config": config, "tokenizer": "none", "attention": attention, "dtype": dtype},
            "data": "none",
            "method": method,
            "training": {"sequence_length": 256},
        }
    )


CASES = [
    ("mixtral", "full", "sdpa", 1),
    ("qwen2_moe", {"kind": "lora", "targets": ["q_proj", "v_proj"]}, "sdpa", 2),
    ("gemma3_text", "full", "sdpa", 2),
    ("deepseek_v3", "full", "sdpa", 2),
    ("gpt_oss", "full", "eager", 2),
]


@pytest.mark.parametrize(("kind", "method", "attention", "kinds"), CASES)
def test_one_layer_of_each_kind_projects_the_whole_model(
    kind: str, method: Any, attention: str, kinds: int
) -> None:
    """To 1 % of a trace of the full depth, at shapes that were not traced."""
    spec = _spec(kind, method, attention)
    profile = trace(spec, [])
    assert len({name for name in profile.layer_names if name.startswith("layer")}) == kinds
    mode = FakeTensorMode()
    whole = build(spec, load_config(spec, []), mode, copies=None)
    assert profile.layers == len(whole.layers) == SHAPES[kind]["num_hidden_layers"]
    for card, every_n, rows, length in (("cuda", 0, 1, 384), ("cuda", 1, 7, 600), ("cpu", 3, 4, 200)):
        traced = whole_step(whole, spec, mode, every_n=every_n, kind=card, rows=rows, length=length)
        found = project(profile, Rung(every_n, rows), sequence_length=length, card=BARE[card])
        assert found.allocated_bytes == pytest.approx(traced, rel=0.01), (card, every_n, rows, length)


def test_gradients_of_routing_wait_for_each_layer_of_the_whole_model() -> None:
    """The load-balancing loss leaves every layer one, in the profile of a few layers as in a trace of them all."""
    spec = _spec("qwen3_moe")
    each = 2 * SHAPES["qwen3_moe"]["num_experts"]  # bytes of a token, bfloat16
    left = trace(spec, []).body("cuda", True, every=True)["loss_backward"].of_layers
    assert left["layer"].token == each
    mode = FakeTensorMode()
    whole = build(spec, load_config(spec, []), mode, copies=None)
    checkpoint(whole, 1)
    rows, length = 2, 384
    step = trace_step(whole, spec, mode, kind="cuda", padded=True, rows=rows, length=length, marked=False)
    waiting = step["loss_backward"].of_layers
    assert [waiting[f"layer{index}"].fixed for index in range(1, 9)] == [each * rows * length] * 8


def _real(spec: JobSpec) -> FakeModel:
    """The whole model with random weights that are there."""
    torch.manual_seed(0)
    base: PreTrainedModel = AutoModelForCausalLM.from_config(
        load_config(spec, []), dtype=getattr(torch, spec.model.dtype)
    )
    layers = layer_classes.stack(base)
    order = layer_classes.names(base, layers)
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    return FakeModel(base.train(), base, layers, order, order)


@pytest.fixture(scope="module", params=["bfloat16", "float32"])
def experts(request: pytest.FixtureRequest) -> tuple[JobSpec, MemoryProfile]:
    spec = _spec("mixtral", dtype=request.param)
    return spec, trace(spec, [])


@pytest.mark.parametrize("every_n", [0, 1, 2])
def test_experts_take_what_a_real_run_of_them_takes(
    experts: tuple[JobSpec, MemoryProfile], every_n: int
) -> None:
    """Live bytes counted in a real forward and backward pass on the CPU, with real routing."""
    spec, profile = experts
    measured = whole_step(_real(spec), spec, nullcontext(), every_n=every_n, kind="cpu", rows=1, length=512)  # type: ignore[arg-type]
    found = project(profile, Rung(every_n, 1), sequence_length=512, card=BARE["cpu"])
    assert found.allocated_bytes == pytest.approx(measured, rel=0.02)


def test_the_counts_of_unlike_layers_add_up_to_the_whole_model() -> None:
    spec = _spec("deepseek_v3")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(load_config(spec, []))
    assert trace(spec, []).parameter_count == sum(parameter.numel() for parameter in model.parameters())


def test_kept_layers_stay_what_they_were() -> None:
    """The earliest of each kind, with the config's entry of each beside it."""
    spec = _spec("gemma3_text")
    fake = build(spec, load_config(spec, []), FakeTensorMode())
    assert fake.names == ("first", "layer", "layer.b", "last")
    assert fake.base.config.layer_types == [
        "sliding_attention",
        "sliding_attention",
        "full_attention",
        "sliding_attention",
    ]
    assert fake.repeats() == [1, 5, 1, 1]


def test_the_last_layer_that_shares_keys_takes_room_for_their_gradients() -> None:
    """What runs before it in the backward pass adds to what is there."""
    profile = trace(_spec("gemma4_text", "lora"), [])
    sliding = profile.order[2:6]
    assert len({*sliding[:3]}) == 1 and sliding[3] != sliding[0]
    every, tokens = profile.body("cuda", True, every=True), 2048
    last, other = (every[f"{sliding[place]}_backward"].delta.at(tokens, 2 * 1024**2) for place in (3, 0))
    shared = 2 * tokens * 2 * 64 * 2  # keys and values of two heads, bfloat16
    assert last - other == pytest.approx(shared, rel=0.01)


def test_a_model_without_layers_to_checkpoint_is_refused_in_words() -> None:
    with torch.device("meta"):
        base = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=4))
    base.model.layers = nn.ModuleList([nn.Linear(2, 2)])
    with pytest.raises(ProfileError, match="GradientCheckpointingLayer"):
        layer_classes.stack(base)


@pytest.mark.parametrize(
    ("method", "field"),
    [({"kind": "lora", "dropout": 0.1}, "method.dropout"), ({"kind": "lora", "dora": True}, "method.dora")],
)
def test_what_adapters_of_experts_can_not_have_is_named(method: dict[str, Any], field: str) -> None:
    spec = _spec("mixtral", method)
    with pytest.raises(SpecError) as caught:
        build(spec, load_config(spec, []), FakeTensorMode())
    assert [fault.path for fault in caught.value.faults] == [field]
    assert "q_proj" in caught.value.faults[0].fix
