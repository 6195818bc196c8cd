"""A made-up memory profile with round figures, for tests that need some profile and no tracing."""

from __future__ import annotations

from jobs.memory.profile import LOSS, SEGMENTS, Line, MemoryProfile, Pass, Segment
from jobs.units import MiB


def small_profile(
    layers: int = 2, weight_mib: int = 40, layer_bytes_a_token: int = 4_000, flops_a_token: float = 1e6
) -> MemoryProfile:
    """Weights of `weight_mib`, and so many bytes kept per layer and token without checkpointing (a tenth with it).

    flops_a_token: of a layer forward. With those of the default a step on CUDA takes as long as its launches.
    """

    def body(kept: int) -> Pass:
        hold = Segment(Line(token=kept), (Line(token=kept),), Line(token=flops_a_token))
        free = Segment(Line(token=-kept), (Line(token=layer_bytes_a_token),), Line(token=2 * flops_a_token))
        nothing = Segment(Line())
        forward, backward = dict.fromkeys(("first", "layer"), hold), {}
        for name in ("layer_backward", "first_backward"):
            backward[name] = free
        rest = {name: nothing for name in SEGMENTS if name not in (*forward, *backward)}
        return Pass({**forward, **backward, **rest})

    loss = Pass(dict.fromkeys(LOSS, Segment(Line(), (Line(token=1_000),), Line(token=1e6))))
    passes: dict[str, Pass] = {}
    for kind in ("cuda", "cpu"):
        for shape in ("plain", "padded"):
            passes[f"{kind}.{shape}.off"] = body(layer_bytes_a_token)
            passes[f"{kind}.{shape}.every"] = body(layer_bytes_a_token // 10)
        for length in ("short", "long"):
            passes[f"{kind}.loss.{length}"] = loss
    trained = MiB
    return MemoryProfile(
        layers=layers,
        weight_bytes=weight_mib * MiB,
        adapter_bytes=trained,
        trained_bytes=trained,
        optimizer_bytes=2 * trained,
        parameter_count=weight_mib * MiB // 2,
        trained_count=trained // 4,
        loss_chunk_tokens=256,
        packed=False,
        mask_from_length=None,
        max_length=None,
        passes=passes,
    )
