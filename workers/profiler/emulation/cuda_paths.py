"""What a CUDA card does differently from the CPU that traces for it, put in place for the length of a trace.

A CPU build of torch can't make fake CUDA tensors, so the trace runs CPU kernels; the memory of a step differs
in eight places, each of which is swapped here for something that allocates what the CUDA path allocates:
- TRL's loss folds each tile of logits with a Triton kernel in place (trl/kernels/chunked_logprob.py,
  `_forward_kernel`, `_backward_kernel`), where the CPU makes several float32 copies of the tile;
- it works on the tokens alone that are no padding, where the CPU's works on all (workers/profiler/emulation/
  valid_tokens.py);
- its gradient products accumulate into float32 through `torch.addmm(.., out_dtype=float32)` without float32
  copies;
- libraries that ask whether autocast is on, and name no device, ask about CUDA's (PEFT's 4-bit layers do);
- dropout keeps a mask of a byte for each number (aten native_dropout), where the CPU keeps one of the input's type;
- CUDA's autocast runs a list of functions in float32 (docs.pytorch.org/docs/2.13/amp.html, "CUDA Ops that can
  autocast to float32") that the CPU's leaves in bfloat16;
- the backward pass of softmax makes a product of its own first (COPYING);
- attention has kernels of its own (workers/profiler/emulation/attention.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map
from trl.kernels import chunked_logprob
from trl.trainer import utils

from workers.profiler.emulation.attention import attention
from workers.profiler.emulation.valid_tokens import ValidTokens

_NAMES = """
__pow__ __rdiv__ __rpow__ __rtruediv__ acos asin binary_cross_entropy_with_logits cdist cosh
cosine_embedding_loss cosine_similarity cross_entropy dist erfinv exp expm1 group_norm
hinge_embedding_loss kl_div l1_loss layer_norm log log10 log1p log2 log_softmax margin_ranking_loss
mse_loss nll_loss norm normalize pdist poisson_nll_loss pow reciprocal renorm rsqrt sinh
smooth_l1_loss soft_margin_loss softmax softmin softplus tan triplet_margin_loss
"""
_FLOAT32 = frozenset(_NAMES.split())
# softmax_backward_cuda_out multiplies output and gradient first (ATen/native/cuda/SoftMax.cu).
COPYING = frozenset({torch.ops.aten._softmax_backward_data})


class _CudaFunctions(TorchFunctionMode):
    """Casts to float32 what CUDA's autocast would, drops out with CUDA's mask, and lets the loss take valid tokens."""

    def __init__(self, valid: ValidTokens | None, old: bool) -> None:
        super().__init__()
        self._valid, self._old = valid, old

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.dropout:
            return _dropout(*args, **kwargs)
        if func is functional.scaled_dot_product_attention:
            return attention(*args, **kwargs, old=self._old)
        if self._valid is not None and self._valid.takes(func, args):
            return self._valid.run(func, args)
        if getattr(func, "__name__", "") in _FLOAT32 and torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map(_to_float32, args), tree_map(_to_float32, kwargs)
        return func(*args, **kwargs)


def _dropout(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """functional.dropout as CUDA runs it (ATen/native/Dropout.cpp, is_fused_kernel_acceptable)."""
    if not training or not 0 < p < 1 or inplace:
        return functional.dropout(x, p, training, inplace)
    return torch.native_dropout(x, p, True)[0]


def _to_float32(value: Any) -> Any:
    half = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value


class _InPlaceKernel:
    """Stands for a Triton kernel: launched as kernel[grid](...), works in place, allocates nothing."""

    def __getitem__(self, grid: Any) -> _InPlaceKernel:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        return None


class _Triton:
    """Stands for the triton module where it is not installed; the loss asks it for one division."""

    @staticmethod
    def cdiv(a: int, b: int) -> int:
        return -(-a // b)


def _accumulate(acc: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    """acc += a @ b without a copy. Its operations are those of the CPU's trace of the same loss."""


@contextmanager
def cuda_paths(valid: ValidTokens | None = None, old: bool = False) -> Iterator[None]:
    """Trace as a CUDA card would run. valid: tokens of the micro-batch that are no padding, where there is a
    loss; old: a card older than Ampere. Not reentrant; for a process that only traces."""
    swapped = {
        "_use_triton": lambda device: True,
        "_forward_kernel": _InPlaceKernel(),
        "_backward_kernel": _InPlaceKernel(),
        "_addmm_fp32": _accumulate,
        "triton": _Triton,
    }
    kept = {name: getattr(chunked_logprob, name, None) for name in swapped}
    for name, value in swapped.items():
        setattr(chunked_logprob, name, value)
    asked, compacts = torch.is_autocast_enabled, utils._use_triton
    utils._use_triton = lambda device: True
    torch.is_autocast_enabled = lambda device="cpu": asked(device)
    try:
        with _CudaFunctions(valid, old):
            yield
    finally:
        torch.is_autocast_enabled, utils._use_triton = asked, compacts
        for name, value in kept.items():
            setattr(chunked_logprob, name, value)
