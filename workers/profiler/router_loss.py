"""The load-balancing loss of models with experts, as SFTTrainer adds it, at the depth of the whole model.

trl 1.16 (trl/trainer/sft_trainer.py, "MoE load-balancing auxiliary loss"): it is on where the config knows
`output_router_logits` and has a coefficient that is not zero. It keeps the routing weights of every layer for the
backward pass, so a model cut to a few layers is given each layer's logits as often as the whole one has that layer. Its
backward pass comes first, and leaves a gradient for the logits of each layer that waits until that layer's turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PretrainedConfig
from transformers.models.mixtral import modeling_mixtral

from jobs.errors import ProfileError
from workers.profiler.fake_model import FakeModel


def coefficient(config: PretrainedConfig) -> float:
    """What the loss is weighted with; 0.0 where it is not taken. Raises ProfileError where TRL can't take it."""
    text = config.get_text_config()
    if not hasattr(text, "output_router_logits"):
        return 0.0
    weight = float(getattr(text, "router_aux_loss_coef", 0.0) or 0.0)
    if weight and not hasattr(text, "num_experts"):
        raise ProfileError(
            f"{config.model_type} can't be trained: TRL's load-balancing loss reads num_experts, which its config "
            "does not have; set router_aux_loss_coef: 0.0 in the model's config to train without that loss"
        )
    return weight


class _Repeated(torch.autograd.Function):
    """One layer's logits as those of several layers, each of which gets a gradient of its own."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, count: int, waiting: list[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        ctx.waiting = waiting
        return tuple(logits.view_as(logits) for _ in range(count))

    @staticmethod
    def backward(ctx: Any, own: torch.Tensor, *others: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        ctx.waiting.extend(others)
        return own, None, None


@contextmanager
def at_whole_depth(fake: FakeModel) -> Iterator[list[torch.Tensor]]:
    """Let the loss see as many layers as the whole model has. Not reentrant; for a process that only traces.

    Gives the gradients of layers that are not there, for the caller to let go of as the loss's backward pass ends.
    """
    kept = modeling_mixtral.load_balancing_loss_func
    waiting: list[torch.Tensor] = []
    repeats = fake.repeats()
    routed = [_routes(layer) for layer in fake.layers]

    def repeated(gate_logits: Any, *args: Any, **kwargs: Any) -> Any:
        often = [count for count, has in zip(repeats, routed, strict=True) if has]
        if isinstance(gate_logits, tuple) and len(gate_logits) == len(often):
            gate_logits = tuple(
                one
                for gate, count in zip(gate_logits, often, strict=True)
                for one in _Repeated.apply(gate, count, waiting)
            )
        return kept(gate_logits, *args, **kwargs)

    modeling_mixtral.load_balancing_loss_func = repeated
    try:
        yield waiting
    finally:
        modeling_mixtral.load_balancing_loss_func = kept


def _routes(layer: Any) -> bool:
    return any("Router" in type(m).__name__ or "Experts" in type(m).__name__ for m in layer.modules())
