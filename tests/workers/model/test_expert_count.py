"""workers/model/expert_count.py: models that count their experts under another name are trained as they are traced."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.memory import real
from benchmarks.memory.shapes import job
from jobs.memory.rung import Rung
from workers.model.build import build_config
from workers.profiler.trace import trace

GRANITE = {
    "model_type": "granitemoe",
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "vocab_size": 4096,
}


def test_a_real_step_with_the_load_balancing_loss_takes_what_is_projected() -> None:
    """Through TRL on the CPU, whose loss would fail without the count."""
    spec = job(
        GRANITE,
        "full",
        model={"dtype": "bfloat16"},
        training={"sequence_length": 200, "global_batch": 2, "steps": real.STEPS},
    )
    taken, projected, _ = real.in_child(real.Run("granitemoe", "full", spec, Rung(1, 2)))
    assert projected == pytest.approx(taken, rel=0.03)


@pytest.mark.parametrize("experts", [4, 0])
def test_the_same_config_is_built_for_both(experts: int) -> None:
    """Without experts (dense Granite 4 models) there is no routing to balance."""
    config: dict[str, Any] = {
        **GRANITE,
        "model_type": "granitemoehybrid",
        "num_local_experts": experts,
        "layer_types": ["attention"] * 4,
        "mamba_n_heads": 8,
    }
    spec = job(config, "full")
    built = build_config(spec.model, False)
    assert getattr(built, "num_experts", 0) == experts
    assert (built.router_aux_loss_coef > 0) is (experts > 0)
    assert trace(spec, []).layers == 4
