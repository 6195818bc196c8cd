"""A made-up memory profile with round numbers, for tests of the arithmetic that need no trace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jobs.cards import Card
from jobs.memory.profile import LOSS, Line, MemoryProfile, Pass, Segment
from jobs.units import GiB, MiB

KEPT, BOUNDARY = 40_000, 8_000  # bytes a token: what a plain layer keeps, what a checkpointed one does
LAYER_GRADIENTS = 2 * MiB


def profile(layers: int = 8, **changed: Any) -> MemoryProfile:
    """Every layer alike: KEPT bytes a token when off, BOUNDARY when checkpointed; a mask of one byte a pair."""
    passes: dict[str, Pass] = {}
    for kind in ("cuda", "cpu"):
        for shape, mask in (("plain", 0.0), ("padded", 1.0)):
            passes[f"{kind}.{shape}.off"] = _body(KEPT, mask, recomputes=False)
            passes[f"{kind}.{shape}.every"] = _body(BOUNDARY, mask, recomputes=True)
        short = _body(KEPT, 0.0, recomputes=False)
        passes[f"{kind}.loss.short"] = Pass({name: short[name] for name in LOSS})
        passes[f"{kind}.loss.long"] = Pass(
            {name: replace(short[name], peaks=(Line(500 * MiB, 4_000),)) for name in LOSS}
        )
    made = MemoryProfile(
        layers=layers,
        weight_bytes=layers * 2 * MiB + 16 * MiB,
        adapter_bytes=0,
        trained_bytes=layers * LAYER_GRADIENTS + 16 * MiB,
        optimizer_bytes=2 * (layers * LAYER_GRADIENTS + 16 * MiB),
        parameter_count=layers * MiB + 8 * MiB,
        trained_count=layers * MiB + 8 * MiB,
        loss_chunk_tokens=4096,
        packed=False,
        mask_from_length=None,
        max_length=None,
        passes=passes,
    )
    return replace(made, **changed)


def _body(kept: float, mask: float, recomputes: bool) -> Pass:
    layer = Segment(Line(0, kept), (Line(0, kept + 5_000),), Line(0, 2e6, 1e3))
    height = 10_000 + (KEPT - BOUNDARY if recomputes else 0)
    backward = Segment(
        Line(LAYER_GRADIENTS, -kept),
        (Line(LAYER_GRADIENTS, height),),
        Line(0, 6e6 if recomputes else 4e6, 2e3),
        LAYER_GRADIENTS,
    )
    returned = Line(0, 0, -mask) if not recomputes else Line()
    return Pass(
        {
            "before": Segment(Line(0, 8_000, mask), (Line(0, 9_000, mask),)),
            "first": layer,
            "layer": layer,
            "last": layer,
            "loss": Segment(
                Line(0, 4_000, returned.pair), (Line(0, 100_000),), Line(0, 1e7), of_before=returned
            ),
            "loss_backward": Segment(
                Line(8 * MiB, -4_000), (Line(8 * MiB, 120_000),), Line(0, 2e7), gradients=8 * MiB
            ),
            "last_backward": backward,
            "layer_backward": backward,
            "first_backward": backward,
            "after": Segment(
                Line(8 * MiB, -8_000, -mask if recomputes else 0.0),
                (Line(8 * MiB, 1_000),),
                gradients=8 * MiB,
            ),
        }
    )


def card(memory_bytes: int = 24 * GiB, **changed: Any) -> Card:
    """A CUDA card that holds nothing beside tensors unless a test says so."""
    return replace(Card("card", memory_bytes, 1e12, 1e14, 0, "made up"), **changed)
