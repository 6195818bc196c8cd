"""Optimizer state in segments of its own, for an allocator whose segments don't expand.

State comes with the first update, when most of what the first step took is free again. Each of its tensors would take a
piece of a segment that activations had, and keep it: the next step then finds no piece there that is large enough, and
takes new segments (c10/cuda/CUDACachingAllocator.cpp, torch 2.13: the smallest free block that has room is cut).
"""

from __future__ import annotations

from typing import Any

import torch


def state_apart(optimizer: torch.optim.Optimizer) -> None:
    """Have the update that makes this optimizer's state take its memory from segments with nothing else in them."""
    entered: list[Any] = []

    def before(*_: Any) -> None:
        pool = torch.cuda.MemPool()
        entered.append(torch.cuda.use_mem_pool(pool))
        entered[-1].__enter__()

    def after(*_: Any) -> None:
        entered.pop().__exit__(None, None, None)
        if optimizer.state:  # none where the update was left out
            for hook in hooks:
                hook.remove()

    hooks = [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)]
