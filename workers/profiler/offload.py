"""The host's memory under a trace: what checkpointing with offload moves there, and what it brings back.

transformers' `offload` holds what a checkpoint saves by torch's `save_on_cpu(pin_memory=True)`, whose hooks run here
as they are. A CPU build can't make a fake tensor of another memory, so what tells host from card is how it was made: a
pinned tensor is on the host and is not counted, and `.to` of one is a copy on the card.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _pop_mode_temporarily
from torch.utils.weak import WeakTensorKeyDictionary

from workers.profiler.storage_tracker import LiveBytes


class HostMemory(TorchFunctionMode):
    """Entered after `live`, the topmost mode, which then counts the card's bytes alone."""

    def __init__(self, live: LiveBytes) -> None:
        super().__init__()
        self._live = live
        self._there = WeakTensorKeyDictionary()
        self.moved_bytes = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("pin_memory"):
            return self._pinned(*args, **{**kwargs, "pin_memory": False})
        if func is torch.Tensor.to and args[0] in self._there:
            return args[0].clone()
        return func(*args, **kwargs)

    def _pinned(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with _pop_mode_temporarily():
            made = torch.empty(*args, **kwargs)
        self._live.ignore(made)
        self._there[made] = True
        self.moved_bytes += made.nbytes
        return made
