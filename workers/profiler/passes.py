"""The passes of a profile: micro-batches by card kind, masking and checkpointing, and forward passes alone."""

from __future__ import annotations

from contextlib import nullcontext

from torch._subclasses.fake_tensor import FakeTensorMode
from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE

from jobs.cards import CardKind
from jobs.jobfile.spec import JobSpec
from jobs.memory.ladder import computes_in
from jobs.memory.profile import LOSS, SEGMENTS, Line, Pass, Segment
from workers.profiler import cross_layer_tensors
from workers.profiler.emulation.valid_tokens import with_loss_flops
from workers.profiler.fake_model import FakeModel, positions
from workers.profiler.losses import loss_of
from workers.profiler.probe_shapes import Scan, shapes_to_trace
from workers.profiler.step import checkpoint, trace_step

KINDS: tuple[CardKind, ...] = ("cuda", "cpu")


def passes_of(spec: JobSpec, fake: FakeModel, mode: FakeTensorMode, scan: Scan) -> dict[str, Pass]:
    """All passes of a profile, from a model with one layer of each kind."""
    shapes = shapes_to_trace(
        {n for p in fake.parameters() for n in p.shape},
        scan,
        packed=spec.training.packing,
        at_once=TOKEN_CHUNK_SIZE,
        longest=positions(fake.base.config),
    )
    passes: dict[str, Pass] = {}
    for every, (rows, length) in ((False, shapes.off), (True, shapes.every)):
        checkpoint(fake, int(every))
        size = "short" if rows * length <= TOKEN_CHUNK_SIZE else "long"
        way = "every" if every else "off"
        for name, padded in maskings(spec):
            for kind in KINDS:
                found = trace_step(
                    fake, spec, mode, kind=kind, padded=padded, rows=rows, length=length, scan=scan
                )
                body = {segment: found.get(segment, Segment(Line())) for segment in (*SEGMENTS, *found)}
                passes[f"{kind}.{name}.{way}"] = Pass(body)
                passes.setdefault(f"{kind}.loss.{size}", Pass({segment: body[segment] for segment in LOSS}))
        for name, padded in _apart_on_old_cards(spec):
            found = trace_step(
                fake, spec, mode, kind="cuda", padded=padded, rows=rows, length=length, scan=scan, old=True
            )
            body = {segment: found.get(segment, Segment(Line())) for segment in (*SEGMENTS, *found)}
            passes[f"cuda.old.{name}.{way}"] = Pass(body)
    for name, _ in reversed(maskings(spec)):  # the first one last: the loss was traced with it
        for kind in KINDS:
            passes = cross_layer_tensors.in_passes(passes, fake.names, kind, name)
    padded = maskings(spec)[0][1]
    for size, (rows, length) in (("short", shapes.short), ("long", shapes.long)):
        for kind in KINDS:
            if f"{kind}.loss.{size}" not in passes:
                found = trace_step(fake, spec, mode, kind=kind, padded=padded, rows=rows, length=length)
                passes[f"{kind}.loss.{size}"] = Pass({segment: found[segment] for segment in LOSS})
    made = with_loss_flops(passes)
    if spec.data.holdout:
        made |= _alone("eval", spec, fake, mode, scan, *shapes.long)
    if any(loss_of(spec.trainer).passes(spec)):
        # With adapters the reference is the model without them; else it is another one of the same kind.
        without = nullcontext() if spec.method.kind == "full" else fake.model.disable_adapter()
        with without:
            made |= _alone("reference", spec, fake, mode, scan, *shapes.long)
    return made


def _alone(
    name: str, spec: JobSpec, fake: FakeModel, mode: FakeTensorMode, scan: Scan, rows: int, length: int
) -> dict[str, Pass]:
    """A forward pass without gradients for each card kind, over rows of unequal length where such can come."""
    checkpoint(fake, 0)
    padded = any(masked for _, masked in maskings(spec))
    found = {
        kind: trace_step(
            fake, spec, mode, kind=kind, padded=padded, rows=rows, length=length, scan=scan, training=False
        )
        for kind in KINDS
    }
    return {f"{kind}.{name}": Pass(segments) for kind, segments in found.items()}


def maskings(spec: JobSpec) -> list[tuple[str, bool]]:
    """Name and kind of the attention masks that this training meets, as MemoryProfile.body looks them up."""
    if spec.model.attention == "flash_attention_2":
        return [("padded", False)]
    if spec.training.packing or spec.model.attention == "eager":
        return [("padded", True)]
    return [("plain", False), ("padded", True)]


def _apart_on_old_cards(spec: JobSpec) -> list[tuple[str, bool]]:
    """Of maskings(spec), those in which attention differs on cards older than Ampere: without a mask.

    None in bfloat16, which they can't train (jobs/memory/ladder.py).
    """
    if spec.model.attention != "sdpa" or computes_in(spec) == "bfloat16":
        return []
    return [one for one in maskings(spec) if one[0] == "plain"]
