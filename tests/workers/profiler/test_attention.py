"""workers/profiler/emulation/attention.py: which CUDA kernel takes a call, and what a step is charged for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from jobs.memory.profile import Segment
from workers.profiler.emulation.attention import EFFICIENT, FLASH, MATH, kernel_for
from workers.profiler.emulation.cuda_paths import COPYING, cuda_paths
from workers.profiler.storage_tracker import LiveBytes

Shape = tuple[int, int, int, int, int, int]  # rows, heads, heads of keys, length, numbers a head, of values


def _inputs(shape: Shape, dtype: torch.dtype, masked: bool) -> tuple[list[Any], list[Any], Any]:
    """Leaves as projections make them, what attention takes of them, and the mask."""
    rows, heads, shared, length, width, out = shape
    sizes = ((heads, width), (shared, width), (shared, out))
    leaves = [
        torch.empty(rows, length, count * each, dtype=dtype, requires_grad=True) for count, each in sizes
    ]
    views = [
        leaf.view(rows, length, -1, each).transpose(1, 2)
        for leaf, (_, each) in zip(leaves, sizes, strict=True)
    ]
    return leaves, views, torch.empty(rows, 1, length, length, dtype=torch.bool) if masked else None


def charged(
    shape: Shape, dtype: torch.dtype, masked: bool, dropout: float = 0.0, old: bool = False
) -> tuple[Segment, Segment]:
    """A call and its backward pass, as a trace for CUDA charges them. old: on a card older than Ampere."""
    with FakeTensorMode(), cuda_paths(old=old):
        leaves, views, mask = _inputs(shape, dtype, masked)
        live = LiveBytes(0, 0, lambda: 0)
        live.passing = COPYING
        for tensor in (*leaves, *([] if mask is None else [mask])):
            live.ignore(tensor)
        grouped = shape[1] != shape[2] > 1
        with live:
            how: dict[str, Any] = {"attn_mask": mask, "is_causal": mask is None, "enable_gqa": grouped}
            out = functional.scaled_dot_product_attention(*views, dropout_p=dropout, **how)
            live.mark("forward")
            gradient = torch.empty_like(out)
            live.mark("between")
            torch.autograd.grad(out, leaves, gradient)
            live.mark("backward")
    return live.segments["forward"], live.segments["backward"]


HALF, FLOAT = torch.bfloat16, torch.float32
# Bytes that torch's CUDA allocator was asked for (double of an RTX 4090: real allocator, no GPU; torch 2.13): kept by
# the call, and the highest of its backward pass above where that began.
MEASURED: list[tuple[Shape, torch.dtype, bool, float, int, int]] = [
    ((2, 8, 8, 2048, 128, 128), HALF, False, 0.0, 8519704, 42074112),
    ((2, 8, 8, 2048, 128, 128), HALF, True, 0.0, 25296896, 54673408),
    ((2, 8, 8, 2048, 64, 64), HALF, True, 0.1, 21102592, 21110784),
    ((2, 8, 8, 2048, 256, 256), HALF, True, 0.0, 33685504, 109199360),
    ((2, 8, 8, 2048, 128, 128), FLOAT, True, 0.0, 50462720, 67371008),
    ((2, 8, 8, 2048, 192, 128), HALF, False, 0.0, 8519680, 77737984),
    ((2, 8, 1, 2048, 64, 64), HALF, False, 0.0, 297795584, 797966336),
]


@pytest.mark.parametrize(("shape", "dtype", "masked", "dropout", "kept", "highest"), MEASURED)
def test_a_call_is_charged_what_the_cuda_build_allocates(
    shape: Shape, dtype: torch.dtype, masked: bool, dropout: float, kept: int, highest: int
) -> None:
    forward, backward = charged(shape, dtype, masked, dropout)
    assert forward.delta.fixed == pytest.approx(kept, rel=0.001)
    assert backward.peak(0, 0) == pytest.approx(highest, rel=0.02)


@pytest.mark.parametrize("dtype", [HALF, torch.float16, FLOAT])
@pytest.mark.parametrize("masked", [False, True])
def test_dropout_keeps_no_scores(dtype: torch.dtype, masked: bool) -> None:
    """The CPU's only kernel that drops out keeps them: 8 heads of 2048 x 2048 in float32 would be 134 MB a row."""
    shape = (2, 8, 8, 2048, 64, 64)
    assert charged(shape, dtype, masked, 0.1)[0].delta == charged(shape, dtype, masked)[0].delta


def _kernel(shape: Shape, dtype: torch.dtype, masked: bool = False, dropout: float = 0.0) -> str:
    _, views, mask = _inputs(shape, dtype, masked)
    return kernel_for(*views, mask, dropout, shape[1] != shape[2] > 1)


@pytest.mark.parametrize(
    ("shape", "dtype", "masked", "dropout", "kernel"),
    [
        ((2, 8, 8, 64, 64, 64), HALF, False, 0.0, FLASH),
        ((2, 8, 8, 64, 64, 64), HALF, False, 0.1, FLASH),
        ((2, 8, 2, 64, 64, 64), HALF, False, 0.0, FLASH),
        ((2, 8, 8, 64, 64, 64), HALF, True, 0.0, EFFICIENT),
        ((2, 8, 8, 64, 64, 64), FLOAT, False, 0.0, EFFICIENT),
        ((2, 8, 8, 64, 192, 128), HALF, False, 0.0, EFFICIENT),
        ((2, 8, 8, 64, 512, 512), HALF, False, 0.0, EFFICIENT),
        ((2, 8, 8, 64, 256, 256), HALF, False, 0.1, EFFICIENT),
        ((2, 8, 8, 64, 36, 36), HALF, False, 0.0, FLASH),
        ((2, 8, 8, 64, 36, 36), HALF, True, 0.0, MATH),
        ((2, 8, 2, 64, 64, 64), FLOAT, False, 0.0, MATH),
        ((2, 8, 1, 64, 64, 64), HALF, False, 0.0, MATH),
    ],
)
def test_the_kernel_is_the_one_that_torch_takes(
    shape: Shape, dtype: torch.dtype, masked: bool, dropout: float, kernel: str
) -> None:
    assert _kernel(shape, dtype, masked, dropout) == kernel


def test_the_arithmetic_is_counted_whichever_kernel_it_is() -> None:
    rows, heads, length, width = 2, 8, 512, 64
    product = 2 * rows * heads * length * length * width
    for masked in (False, True):
        forward, backward = charged((rows, heads, heads, length, width, width), HALF, masked)
        assert (forward.flops.fixed, backward.flops.fixed) == (2 * product, 5 * product)
