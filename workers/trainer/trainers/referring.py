"""Trainers with a reference, whose forward pass leaves activation checkpointing as the rung has it.

TRL 1.16 switches checkpointing off for that pass, and on again for every layer (trl/models/utils.py,
disable_gradient_checkpointing): `every_n_layers` and `offload` are lost, handed to each layer as if they were inputs of
its own, and the embedding gets one more hook at every micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from workers.trainer.guarded import Guarded

_STATE = ("gradient_checkpointing", "_gradient_checkpointing_func")


class Referring(Guarded):
    """Stands before one of TRL's trainers that compares with a reference."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        with checkpointing_kept(self.model):
            return super().compute_loss(*args, **kwargs)


@contextmanager
def checkpointing_kept(model: nn.Module) -> Iterator[None]:
    """Which layers are checkpointed, and how, is afterwards what it was; so are the hooks that go with it."""
    before = [
        (module, {name: vars(module)[name] for name in _STATE if name in vars(module)})
        for module in model.modules()
        if hasattr(module, _STATE[0])
    ]
    base = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    hooks = getattr(base, "_require_grads_hooks", None)
    try:
        yield
    finally:
        for module, state in before:
            for name, value in state.items():
                setattr(module, name, value)
        if base is not None and (later := getattr(base, "_require_grads_hooks", None)) is not hooks:
            for handle in later or ():
                handle.remove()
            base._require_grads_hooks = hooks
