"""scaled_dot_product_attention as CUDA runs it: which kernel takes a call, what that keeps, and what it works in.

A trace runs on the CPU, whose own kernel has no dropout, no heads of unlike size and no sums beside its results. Which
kernel is taken is from torch 2.13 (ATen/native/transformers/cuda/sdp_utils.cpp); what each keeps and works in was
measured on the allocator of its CUDA build (no GPU; tests/cuda_double/test_attention.py holds this file against it):
- flash (half precision, no mask, up to 256 numbers a head) keeps its output and a float32 log-sum-exp for each head
  and token. Backward it sums query gradients in float32, and makes those of shared keys once for each head;
- memory-efficient (any type, with a mask or without) keeps the same, and the mask in the type of the queries. Backward
  it sums query gradients in float32, and those of keys and values where heads are wide;
- cuDNN's, which Hopper and data-centre Blackwell cards take where nothing is dropped out, keeps the same and works in
  no more than those two, as far as torch and cuDNN's frontend allocate it. What its engine takes is not known: it is
  traced as the other two are;
- math, where none of these will do, keeps the scores. float32 heads that share keys go there, where transformers hands
  them over as they are (without a mask); so does a single key that is broadcast to all heads (Falcon). Cards older
  than Ampere have no flash kernel: they take this one for bfloat16, and where heads share keys without a mask.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

FLASH, EFFICIENT, MATH = "flash", "efficient", "math"
_HALF = (torch.float16, torch.bfloat16)
_WIDEST_FLASH = 256  # numbers a head
_WIDE_HALF = 192  # from here on some cards' flash kernel has no dropout (sm86, sm89, sm120)
# The memory-efficient backward kernel of wide heads cuts keys in pieces of 64, as many as make up 200 with rows and
# heads, and sums gradients of each in float32 (mem_eff_attention/kernel_backward.h, attention_backward.cu).
_PIECES, _PIECE = 200, 64
_ALIGNMENT_BYTES = 16

_lib = torch.library.Library("tuneyard", "DEF")
_lib.define("attention(Tensor query, Tensor key, Tensor value) -> (Tensor, Tensor)")
_lib.define(
    "attention_backward(Tensor grad, Tensor query, Tensor key, Tensor value) -> (Tensor, Tensor, Tensor)"
)


def _out(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    rows, heads, length, _ = query.shape
    made = query.new_empty((rows, length, heads, value.shape[-1])).transpose(1, 2)
    return made, query.new_empty((rows, heads, length), dtype=torch.float32)


def _gradients(grad: Tensor, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
    return tuple(one.new_empty(one.transpose(1, 2).shape).transpose(1, 2) for one in (query, key, value))


_lib.impl("attention", _out, "Meta")
_lib.impl("attention_backward", _gradients, "Meta")
PRODUCTS = torch.ops.tuneyard.attention
PRODUCTS_BACKWARD = torch.ops.tuneyard.attention_backward


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    old: bool = False,
) -> Tensor:
    """functional.scaled_dot_product_attention with the allocations of the CUDA kernel that would take it.

    old: on a card older than Ampere.
    """
    query, key, value, attn_mask = _autocast(query, key, value, attn_mask)
    with torch.autocast("cpu", enabled=False):
        kernel = kernel_for(query, key, value, attn_mask, dropout_p, enable_gqa, old)
        if kernel == MATH:
            return _math(query, key, value, attn_mask, dropout_p, is_causal, enable_gqa)
        mask = _as_bias(attn_mask, query.dtype)
        if mask is not None:
            mask = mask.clone()  # its rows are filled up to a multiple of 16, as hardly any length is one
        width = value.shape[-1]
        if kernel == FLASH and query.shape[-1] % 8:
            query, key, value = (functional.pad(one, (0, -one.shape[-1] % 8)) for one in (query, key, value))
        out: Tensor = _Fused.apply(query, key, value, mask, kernel)
        return out[..., :width]


def kernel_for(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    grouped: bool,
    old: bool = False,
) -> str:
    """FLASH, EFFICIENT or MATH: what a card takes; old: of a compute capability below 8.0 (check_sm_version).

    Below 8.0 the memory-efficient kernel has no bfloat16 (check_tensor_dtype).
    """
    if old and query.dtype is torch.bfloat16:
        return MATH
    shapes = [one.shape for one in (query, key, value)]
    if any(len(shape) != 4 for shape in shapes) or len({shape[0] for shape in shapes}) > 1:
        return MATH
    (_, heads, _, width), (_, shared, _, _), (_, _, _, out) = shapes
    if shared != value.shape[1] or (heads != shared and not (grouped and heads % shared == 0)):
        return MATH
    half = query.dtype in _HALF
    if (
        not old
        and half
        and mask is None
        and width == out <= _WIDEST_FLASH
        and not (dropout and width > _WIDE_HALF)
    ):
        return FLASH
    aligned = all(size * query.element_size() % _ALIGNMENT_BYTES == 0 for size in (width, out))
    return EFFICIENT if aligned and heads == shared else MATH


def _autocast(*given: Tensor | None) -> tuple[Any, ...]:
    """What autocast makes of attention's arguments (autocast_mode.h, lower_precision_fp)."""
    if not torch.is_autocast_enabled("cpu"):
        return given
    dtype = torch.get_autocast_dtype("cpu")
    return tuple(
        one.to(dtype) if one is not None and one.is_floating_point() and one.dtype != torch.float64 else one
        for one in given
    )


def _as_bias(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A mask of truth values as one that is added (convert_boolean_attn_mask)."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return mask.new_empty(mask.shape, dtype=dtype)


class _Fused(torch.autograd.Function):
    """A kernel that keeps no scores."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, kernel: str
    ) -> Tensor:
        wide = kernel == EFFICIENT and query.dtype in _HALF and max(query.shape[-1], value.shape[-1]) > 128
        sums = _floats(query, value.shape[-1]) if wide else None
        out, log_sums = PRODUCTS(query, key, value)
        del sums
        ctx.save_for_backward(query, key, value, out, log_sums, *([] if mask is None else [mask]))
        ctx.kernel = kernel
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        query, key, value = ctx.saved_tensors[:3]
        sums = [_floats(query, 1), _floats(query, _sums(ctx.kernel, query.shape[-1]))]
        if ctx.kernel == EFFICIENT and query.dtype in _HALF and query.shape[-1] > 64:
            width = _up(query.shape[-1], 128) + _up(value.shape[-1], 128)
            sums.append(query.new_empty((_PIECES, _PIECE, width), dtype=torch.float32))
        spread = []
        if key.shape[1] != query.shape[1]:
            spread = [query.new_empty((*query.shape[:3], one.shape[-1])) for one in (key, value)]
        made = PRODUCTS_BACKWARD(gradients[0], query, key, value)
        del sums, spread
        return (*made, None, None)


def _floats(like: Tensor, width: int) -> Tensor:
    return like.new_empty((*like.shape[:3], width), dtype=torch.float32)


def _sums(kernel: str, width: int) -> int:
    """Numbers to each head and token of the float32 sums of query gradients."""
    if kernel == FLASH:
        return _up(width, 32 if width <= 128 else 64)
    return 64 if width <= 64 else _up(width, 128 if width <= 128 else 64)


def _up(number: int, to: int) -> int:
    return -(-number // to) * to


def _math(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    causal: bool,
    grouped: bool,
) -> Tensor:
    """_scaled_dot_product_attention_math (ATen/native/transformers/attention.cpp), with CUDA's dropout."""
    dtype = query.dtype
    if dtype in _HALF:
        query, key, value = query.float(), key.float(), value.float()
    if causal:
        mask = query.new_empty((query.shape[2], key.shape[2]))
    elif mask is not None:
        mask = _as_bias(mask, dtype)
    query = query * 1.0
    if grouped and query.shape[1] != key.shape[1]:
        times = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)
    scores = query @ (key.transpose(-2, -1) * 1.0)
    if mask is not None:
        scores.add_(mask)
    empty = scores.new_empty(
        scores.shape, dtype=torch.bool
    )  # _safe_softmax looks for rows that are all masked
    scores = torch._safe_softmax(scores, -1)
    del empty
    if dropout > 0:
        scores = torch.native_dropout(scores, dropout, True)[0]
    out = (scores @ value).to(dtype)
    scores.to(dtype)  # returned as well, and used by nobody
    return out
