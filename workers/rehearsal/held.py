"""Who held what of a card when its memory ran out: torch's own snapshot of that moment, read by address and stack."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

WEIGHTS, ADAPTERS, GRADIENTS, OPTIMIZER, LOSS, RECOMPUTED, ACTIVATIONS, BACKWARD, OTHERS = (
    "weights",
    "adapters",
    "gradients",
    "optimizer",
    "logits_and_loss",
    "recomputed",
    "activations",
    "backward",
    "others",
)
_HEAD = re.compile(r"lm_head\(|embed_out\(|self\.loss_function\(")  # lines of a model's own forward
_LOSS = re.compile(r"lm_head|loss|log_?prob|logits|entropy", re.IGNORECASE)  # functions of TRL


class Holders:
    """Follows a trainer, and looks at the card's memory each time that an allocation fails. Make it once CUDA has
    begun and holds nothing; it lasts as long as the process.
    """

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.where = ""
        self._trainer: Any = None
        self._built: frozenset[int] = frozenset()  # addresses that were taken before the first step
        # Stacks of what is live, and no history of what was.
        torch.cuda.memory._record_memory_history("state", context="alloc", stacks="python", max_entries=1)
        torch._C._cuda_attach_out_of_memory_observer(self._look)

    def begin(self, trainer: Any) -> None:
        """The first step is about to be made: what is on the card now is the model."""
        self._trainer = trainer
        self._built = frozenset(block["address"] for block in _live())

    def _look(self, *_: int) -> None:
        """At the moment when an allocation fails, before anything of the step is given up."""
        blocks = list(_live())
        known = self._known()
        held: dict[str, int] = {}
        for block in blocks:
            name = known.get(block["address"]) or self._by_stack(block)
            held[name] = held.get(name, 0) + block["size"]
        self.held = dict(sorted(held.items(), key=lambda item: -item[1]))

    def _known(self) -> dict[int, str]:
        """What is found by its tensor: address of its memory -> what it is."""
        trainer = self._trainer
        if trainer is None:
            return {}
        made: dict[int, str] = {}
        for parameter in trainer.model.parameters():
            base = not parameter.requires_grad or not hasattr(trainer.model, "peft_config")
            made[_address(parameter)] = WEIGHTS if base else ADAPTERS
            if parameter.grad is not None:
                made[_address(parameter.grad)] = GRADIENTS
        optimizer = trainer.optimizer
        for state in getattr(optimizer, "state", {}).values():
            for value in state.values() if isinstance(state, Mapping) else ():
                if isinstance(value, torch.Tensor) and value.is_cuda:
                    made[_address(value)] = OPTIMIZER
        return made

    def _by_stack(self, block: Mapping[str, Any]) -> str:
        if self._trainer is None or block["address"] in self._built:
            return WEIGHTS
        return made_by(block.get("frames") or [])


def made_by(frames: Sequence[Mapping[str, Any]]) -> str:
    """What a tensor is for, by the Python stack that made it, innermost first; none: the backward pass's own."""
    if not frames:
        return BACKWARD
    names = [frame["name"] for frame in frames]
    files = [frame["filename"] for frame in frames]
    if any("/optim" in file or name == "_init_group" for file, name in zip(files, names, strict=True)):
        return OPTIMIZER
    # The frame that recomputes a layer's activations for its backward pass.
    if any(
        "utils/checkpoint.py" in file and name in ("unpack_hook", "recompute_fn")
        for file, name in zip(files, names, strict=True)
    ):
        return RECOMPUTED
    inside = False  # a module of the model has been passed: further out is only what called it
    for frame in frames:
        file, line = frame["filename"], linecache.getline(frame["filename"], frame["line"])
        if "/transformers/models/" in file:
            if _HEAD.search(line):
                return LOSS
            inside = True
        elif "/transformers/loss/" in file or ("/trl/" in file and _LOSS.search(f"{frame['name']} {line}")):
            return ACTIVATIONS if inside else LOSS
    if inside:
        return ACTIVATIONS
    return BACKWARD if "backward" in names else OTHERS


def _address(tensor: torch.Tensor) -> int:
    local = getattr(tensor, "_local_tensor", tensor)
    return int(local.untyped_storage().data_ptr())


def _live() -> Iterator[Mapping[str, Any]]:
    """Blocks of the allocator that are in use."""
    for segment in torch.cuda.memory._snapshot()["segments"]:
        for block in segment["blocks"]:
            if block["state"] == "active_allocated":
                yield block
