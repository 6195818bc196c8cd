"""TRL's loss on CUDA works on the tokens that are no padding: how many there are can't be read off fake tensors.

`_fused_forward` (trl 1.16, trainer/utils.py) takes the hidden states and labels of valid positions out by a mask, where
it has Triton, and puts what the loss gives per token back into rows. Torch 2.13 finds the places of a mask first
(`nonzero`), and the backward pass of an index adds into zeros by places that it sorts (aten native/cuda/Indexing.cu,
index_put_with_sort_kernel); the backward pass of `masked_scatter` selects by the mask again. Here the number of valid
tokens is given, and these allocate what CUDA's do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from jobs.memory.profile import Line, Pass, Segment


@dataclass(frozen=True)
class ValidTokens:
    """How many of a traced micro-batch's labels are to learn from: count of rows x (length - 1)."""

    rows: int
    length: int
    count: int

    def takes(self, func: Any, args: Any) -> bool:
        """Whether this is the loss taking its valid tokens, or putting something back to their places."""
        if func not in (torch.Tensor.__getitem__, torch.Tensor.masked_scatter) or len(args) < 2:
            return False
        mask = args[1]
        shape = (self.rows, self.length - 1)
        return isinstance(mask, torch.Tensor) and mask.dtype is torch.bool and tuple(mask.shape) == shape

    def run(self, func: Any, args: Any) -> torch.Tensor:
        taking = func is torch.Tensor.__getitem__
        made: torch.Tensor = _Taken.apply(*args[:2], self.count) if taking else _PutBack.apply(*args)
        return made


def _places(count: int, like: torch.Tensor) -> torch.Tensor:
    """`nonzero` of a mask over two dimensions."""
    return torch.empty((count, 2), dtype=torch.int64, device=like.device)


class _Taken(torch.autograd.Function):
    """x[mask]."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, mask: torch.Tensor, count: int) -> torch.Tensor:
        ctx.save_for_backward(mask)
        ctx.shape = x.shape
        places = _places(count, x)
        taken = x.new_empty((count, *x.shape[2:]))
        del places
        return taken

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        gradient = gradients[0]
        added = gradient.new_zeros(ctx.shape)
        count = len(gradient)
        places = _places(count, gradient)
        # Places as one number each, in their order and sorted, with where each came from.
        kept = [torch.empty(count, dtype=torch.int64, device=gradient.device) for _ in range(4)]
        del places, kept
        return added, None, None


class _PutBack(torch.autograd.Function):
    """rows.masked_scatter(mask, source): rows are zeros that need no gradient."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, mask: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(mask)
        ctx.count = len(source)
        made = rows.clone()
        before = torch.empty(mask.shape, dtype=torch.int64, device=mask.device)  # how many come before each
        del before
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        places = _places(ctx.count, gradients[0])
        selected = gradients[0].new_empty(ctx.count)
        del places
        return None, None, selected


def with_loss_flops(passes: dict[str, Pass]) -> dict[str, Pass]:
    """The CUDA loss backward does the CPU's arithmetic, on valid tokens alone, in products that
    cuda_paths.py leaves out.
    """
    made = dict(passes)
    for size in ("short", "long"):
        cuda, cpu = passes[f"cuda.loss.{size}"], passes[f"cpu.loss.{size}"]
        found = cuda["loss_backward"]
        made[f"cuda.loss.{size}"] = Pass(
            {
                "loss": cuda["loss"],
                "loss_backward": Segment(
                    found.delta,
                    found.peaks,
                    _on_valid(cpu["loss_backward"].flops),
                    found.gradients,
                    events=found.events,
                ),
            }
        )
    return made


def _on_valid(line: Line) -> Line:
    return replace(line, token=0.0, valid=line.token)
