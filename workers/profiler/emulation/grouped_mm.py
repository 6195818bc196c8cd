"""Grouped products of experts on fake tensors, in every type that the real ones take.

The real `grouped_mm` multiplies float32 and float16 as well, group by group, into an output of that type; torch 2.13
gives the shape of bfloat16 products alone (torch/_meta_registrations.py, `_meta_grouped_mm_common`). Here the shape of
the bfloat16 product stands for that of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import _meta_registrations

_NAME = "_meta_grouped_mm_common"
_OTHERS = (torch.float32, torch.float16)


@contextmanager
def in_any_type() -> Iterator[None]:
    """Not reentrant; for a process that only traces."""
    kept = getattr(_meta_registrations, _NAME)

    def shaped(mat_a: torch.Tensor, mat_b: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        if mat_a.dtype != mat_b.dtype or mat_a.dtype not in _OTHERS:
            return kept(mat_a, mat_b, *rest, **named)
        halves = [
            torch.empty_strided(m.shape, m.stride(), dtype=torch.bfloat16, device="meta")
            for m in (mat_a, mat_b)
        ]
        made = kept(*halves, *rest, **{**named, "out_dtype": None})
        return torch.empty_strided(made.shape, made.stride(), dtype=mat_a.dtype, device=mat_a.device)

    setattr(_meta_registrations, _NAME, shaped)
    try:
        yield
    finally:
        setattr(_meta_registrations, _NAME, kept)
