"""The header of a safetensors file: which tensors are where. What is malformed is reported, never believed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, TypeGuard

from jobs.errors import TuneyardError

_MOST_BYTES = 100_000_000  # safetensors' own limit of a header


class Malformed(TuneyardError):
    """A file of weights that is no safetensors file."""


def floats_in(file: BinaryIO, sizes: Mapping[str, int]) -> Iterator[tuple[str, str, int, int]]:
    """Name, type, first byte in the file and bytes of each tensor whose type is in sizes (bytes of a number).

    Source: the format in safetensors' README, "Format". Raises Malformed, before anything is read by what it says.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8:
        raise Malformed(f"it has {size} bytes, fewer than a header's length takes")
    if length > min(size - 8, _MOST_BYTES):
        raise Malformed(f"its header is said to have {length:,} bytes, and the file has {size:,}")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError):
        raise Malformed("its header is not JSON") from None
    if not isinstance(header, dict):
        raise Malformed("its header is no mapping of tensors")
    for name, facts in header.items():
        if name == "__metadata__":
            continue
        kind, begin, end = _facts(name, facts)
        if not 0 <= begin <= end <= size - 8 - length:
            there = f"{size - 8 - length:,} bytes of tensors"
            raise Malformed(f"{name} is said to be at {begin:,} to {end:,}, and the file has {there}")
        if kind not in sizes:
            continue
        if math.prod(facts["shape"]) * sizes[kind] != end - begin:
            raise Malformed(
                f"{name} has {end - begin:,} bytes, which its shape {facts['shape']} does not take"
            )
        yield name, kind, 8 + length + begin, end - begin


def _facts(name: str, facts: Any) -> tuple[str, int, int]:
    """Type and offsets of a tensor. Raises Malformed."""
    if isinstance(facts, dict):
        kind, shape, place = facts.get("dtype"), facts.get("shape"), facts.get("data_offsets")
        if isinstance(kind, str) and _sizes(shape) and _sizes(place) and len(place) == 2:
            return kind, place[0], place[1]
    raise Malformed(f"{name} has no type, shape and place")


def _sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)
