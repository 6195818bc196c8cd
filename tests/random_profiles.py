"""Small made-up profiles of any shape, far from what a trace finds.

Drawn from a seed: hypothesis takes a second to draw hundreds of lines one by one, and shrinks them for minutes.
"""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st

from jobs.memory.profile import LOSS, Line, MemoryProfile, Pass, Segment
from jobs.memory.rung import Rung

RUNGS = st.builds(Rung, st.integers(0, 12), st.integers(1, 32), st.integers(1, 8), st.booleans())
SEEDS = st.integers(0, 10**9)
# Names to draw layers from: first, layer .. last, all the same, two kinds, and names of no pattern.
KINDS: tuple[tuple[str, ...], ...] = ((), ("layer",), ("layer", "layer.b"), ("a", "b", "c", "last"))


class _Draw(Random):
    """scale: what bytes are multiplied by."""

    def __init__(self, seed: int, scale: float) -> None:
        super().__init__(seed)
        self.scale = scale


def random_profile(seed: int, whole: bool = True) -> MemoryProfile:
    """Of up to 20 layers in any order, with every sign in every place. whole: in whole bytes, whose sums are exact."""
    draw = _Draw(seed, 1 if whole else 1 / 3)
    layers = draw.randint(1, 20)
    kinds = draw.choice(KINDS)
    order = tuple(draw.choice(kinds) for _ in range(layers)) if kinds else ()
    names = sorted(set(order or ("first", *["layer"] * (layers - 2), "last")[-layers:]))
    passes: dict[str, Pass] = {}
    for kind in ("cuda", "cpu"):
        for shape in ("plain", "padded"):
            for mode in ("off", "every"):
                passes[f"{kind}.{shape}.{mode}"] = _body(draw, names)
        for size in ("short", "long"):
            passes[f"{kind}.loss.{size}"] = Pass({name: _segment(draw) for name in LOSS})
    if draw.random() < 0.5:
        passes["cuda.eval"] = _body(draw, names)
    return MemoryProfile(
        layers=layers,
        weight_bytes=10**9 + draw.randint(0, 10**6),  # more than all that the lines can take away
        adapter_bytes=draw.choice([0, 10**6]),
        trained_bytes=draw.randint(0, 10**6),
        optimizer_bytes=draw.randint(0, 10**6),
        parameter_count=draw.randint(0, 10**6),
        trained_count=draw.randint(0, 10**6),
        loss_chunk_tokens=draw.choice([1, 512, 10**6]),
        packed=draw.random() < 0.3,
        mask_from_length=draw.choice([None, 1, 64]),
        max_length=None,
        passes=passes,
        order=order,
        load_bytes=draw.choice([0, 10**7]),
        save_bytes=draw.randint(0, 10**6),
        optimizer_transient_bytes=draw.randint(0, 10**6),
    )


def _body(draw: _Draw, names: list[str]) -> Pass:
    segments = {name: _segment(draw) for name in ("before", "after")}
    segments |= {name: _segment(draw, names) for name in LOSS}
    for name in names:
        segments[name] = _segment(draw)
        segments[f"{name}_backward"] = _segment(draw)
    return Pass(segments)


def _segment(draw: _Draw, gives_back: list[str] | None = None) -> Segment:
    owners = [name for name in gives_back or [] if draw.random() < 0.5]
    return Segment(
        _line(draw),
        tuple(_line(draw) for _ in range(draw.randint(0, 4))),
        Line(draw.randint(0, 50), draw.randint(0, 50), draw.randint(0, 2), valid=draw.choice([0, 0, 7])),
        draw.randint(0, 3000),
        _line(draw),
        {name: _line(draw) for name in owners},
    )


def _line(draw: _Draw) -> Line:
    if draw.random() < 0.3:
        return Line()
    found = draw.randint(-5000, 9000), draw.randint(-50, 90), draw.choice([0, 0, 0, -1, 1, 2])
    valid = draw.choice([0, 0, 0, draw.randint(-20, 60)]) * draw.scale
    return Line(*(value * draw.scale for value in found), valid=valid)
