"""Trace the memory of a training step: the real libraries on fake tensors -> MemoryProfile.

One trace of the first layer, one of each kind and the last (workers/profiler/layer_classes.py) gives exact lines
(workers/profiler/storage_tracker.py says how), so a profile takes one pass for each card kind, each way of masking, and
checkpointing off and on: eight at most, less than half a second each for a 7B shape. A last pass over a deeper
model, another shape and every second layer checkpointed must agree with what the profile projects for it; a
model whose layers are not alike within a kind fails here instead of being placed on a guess.

Experts run as transformers' grouped_mm, its default: tokens x experts per token rows in all, whichever way they
are routed. Limits: flash_attention_2 is traced as sdpa without a mask, which saves the same output and
log-sum-exp; models whose control flow reads values can't be run on fake tensors and get an error that says so
(docs/tracing.md lists them).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from transformers import PretrainedConfig
from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE

from jobs.cards import Card, CardKind
from jobs.errors import ProfileError, SpecError
from jobs.jobfile.requirements import LACKS
from jobs.jobfile.spec import JobSpec
from jobs.memory.profile import Line, MemoryProfile, Pass, Segment
from jobs.memory.project import Rung, project
from jobs.messages.reports import TraceRequest, TraceResult
from workers import machine
from workers.checks.libraries import quantised_needs
from workers.model.expert_count import with_expert_count
from workers.profiler import cross_layer_tensors
from workers.profiler.emulation.fake_four_bit import elements, load_transient_bytes, packed_note, packing_of
from workers.profiler.fake_model import (
    FakeModel,
    PlainFakeTensorMode,
    build,
    check_config,
    load_config,
    positions,
    resting_tensors,
    shallower,
)
from workers.profiler.losses import loss_of
from workers.profiler.optimizer_state import embedding_weights, paged, state_bytes, transient_bytes
from workers.profiler.passes import maskings, passes_of
from workers.profiler.probe_shapes import BLOCK_BYTES, Scan
from workers.profiler.scan_loops import LoopsOverTokens, scan_of
from workers.profiler.step import checkpoint, trace_step

CHECK_COPIES, CHECK_ROWS, CHECK_LENGTH = 2, 2, 1536
CHECK_STEPS = 60  # of layers that take tokens one by one
CHECK_TOLERANCE, CHECK_SLACK_BYTES = 0.03, 2**18
_IN_ADAPTER = re.compile(r"\.(?:lora_|modules_to_save\.)")  # names of what an adapter's files hold
UNIFORM = ("first", "layer", "last")


def trace(spec: JobSpec, trusted_models: list[str]) -> MemoryProfile:
    """The memory profile of a job. Raises SpecError when the job file is at fault, ProfileError otherwise."""
    for name, what in quantised_needs(spec):
        if name not in machine.stack():  # a host that can't train it has no use for a profile
            way = f"pip install {name}, or give the model as it was before it was quantised"
            raise ProfileError(f"{LACKS}{name}, which {what} needs: {way}")
    config = with_expert_count(load_config(spec, trusted_models))
    check_config(spec, config)
    trust = spec.model.trust_remote_code and spec.model.path in trusted_models
    try:
        try:
            return _traced(spec, config, trust, one_by_one=False)
        except LoopsOverTokens:
            return _traced(spec, config, trust, one_by_one=True)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise ProfileError(
            f"{config.model_type} can't be traced: its code in transformers reads values ({error.func}) that only a "
            "real run has; use an architecture that does not (docs/tracing.md)"
        ) from None


def _traced(spec: JobSpec, config: PretrainedConfig, trust: bool, one_by_one: bool) -> MemoryProfile:
    mode = PlainFakeTensorMode()
    fake = build(spec, config, mode, copies=CHECK_COPIES, trust=trust)
    scan = scan_of(fake.base, one_by_one)
    deeper = _deeper(spec, config, fake, mode, scan) if len(fake.names) > len({*fake.names}) else None
    fake = shallower(fake)
    profile = _profile(spec, config, fake, passes_of(spec, fake, mode, scan), scan)
    if deeper is not None:
        _check(profile, deeper, config)
    return profile


def _profile(
    spec: JobSpec, config: PretrainedConfig, fake: FakeModel, passes: dict[str, Pass], scan: Scan
) -> MemoryProfile:
    sizes = _Sizes(fake, spec)
    text = config.get_text_config()
    packing = packing_of(spec.method.kind, getattr(torch, spec.model.dtype), config)
    while_held, beginning = loss_of(spec.trainer).passes(spec)
    return MemoryProfile(
        layers=len(fake.order),
        order=fake.order if len({*fake.order}) > len(UNIFORM) else (),
        weight_bytes=sizes.whole("weight"),
        adapter_bytes=sizes.whole("adapter"),
        trained_bytes=sizes.whole("trained"),
        optimizer_bytes=sizes.whole("optimizer"),
        parameter_count=sizes.whole("parameters"),
        trained_count=sizes.whole("trained_parameters"),
        loss_chunk_tokens=TOKEN_CHUNK_SIZE,
        packed=spec.training.packing,
        mask_from_length=_mask_from_length(spec, text),
        max_length=getattr(text, "max_position_embeddings", None),
        passes=passes,
        load_bytes=load_transient_bytes(fake.base),
        optimizer_transient_bytes=transient_bytes(spec, sizes.whole("trained")),
        quantised=packing.kind if packing else "",
        paged_optimizer=paged(spec),
        chunk_tokens=scan.chunk,
        model_type=config.model_type,
        rows=2 if spec.trains.pairs else 1,
        reference_bytes=sizes.whole("weight") if spec.trains.reference and spec.method.kind == "full" else 0,
        reference_passes=while_held,
        beginning_passes=beginning,
        tensors=resting_tensors(spec, fake),
        notes=packed_note(sizes.whole("packed"), sizes.unpacked) if packing else (),
    )


def _mask_from_length(spec: JobSpec, text: PretrainedConfig) -> int | None:
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None)
    sliding = kinds is None or "sliding_attention" in kinds
    return int(window) if window and sliding and spec.model.attention == "sdpa" else None


class _Sizes:
    """Bytes and counts of the whole model from one layer of each kind: what is outside layers, and each as often."""

    def __init__(self, fake: FakeModel, spec: JobSpec) -> None:
        repeats: dict[int, int] = {}
        for layer, often in zip(fake.layers, fake.repeats(), strict=True):
            for tensor in (*layer.parameters(), *layer.buffers()):
                repeats.setdefault(id(tensor), often)
        self._sums: Counter[str] = Counter()
        embeddings = embedding_weights(fake.model)
        holders = {
            id(parameter): type(module).__name__
            for module in fake.model.modules()
            for parameter in module._parameters.values()
            if parameter is not None
        }
        self.unpacked: Counter[str] = Counter()
        base = {id(p) for name, p in fake.model.named_parameters() if not _IN_ADAPTER.search(name)}
        for parameter in fake.parameters():
            often = repeats.get(id(parameter), 1)
            bytes_, count = often * _block(parameter.nbytes), often * elements(parameter)
            self._sums["weight" if id(parameter) in base else "adapter"] += bytes_
            if id(parameter) in base:
                self._sums["parameters"] += count
                if parameter.dtype is torch.uint8:
                    self._sums["packed"] += count
                else:
                    self.unpacked[holders[id(parameter)]] += count
            if parameter.requires_grad:
                self._sums["trained"] += bytes_
                self._sums["trained_parameters"] += count
                self._sums["optimizer"] += often * state_bytes(spec, parameter, id(parameter) in embeddings)
        for buffer in fake.model.buffers():
            self._sums["weight"] += repeats.get(id(buffer), 1) * _block(buffer.nbytes)

    def whole(self, what: str) -> int:
        return self._sums[what]


@dataclass(frozen=True)
class _Deeper:
    """A trace of several layers of each kind, every second of them checkpointed.

    highest_bytes: its peak with weights and optimizer state; profile: of this depth, without passes.
    """

    names: tuple[str, ...]
    rows: int
    length: int
    padded: bool
    segments: dict[str, Segment]
    highest_bytes: int
    profile: MemoryProfile


def _deeper(
    spec: JobSpec, config: PretrainedConfig, fake: FakeModel, mode: FakeTensorMode, scan: Scan
) -> _Deeper:
    rows, length = 1 if spec.training.packing else CHECK_ROWS, _check_length(config, scan.chunk)
    checkpoint(fake, 2)
    padded = any(masked for _, masked in maskings(spec))
    found = trace_step(
        fake, spec, mode, kind="cuda", padded=padded, rows=rows, length=length, marked=False, scan=scan
    )
    whole = _profile(spec, config, replace(fake, order=fake.names), {}, scan)
    return _Deeper(fake.names, rows, length, padded, found, _highest(fake, spec, found), whole)


def _check(profile: MemoryProfile, deeper: _Deeper, config: PretrainedConfig) -> None:
    """Raises ProfileError where profile disagrees with the deeper trace."""
    rows, length, names, found = deeper.rows, deeper.length, deeper.names, deeper.segments
    tokens, pairs, here = rows * length, rows * length**2, profile.at_length(length)
    over = cross_layer_tensors.carried(here.body("cuda", deeper.padded, every=True).segments).at(
        tokens, pairs
    )
    if over:
        inner = [f"layer{index}" for index in range(1, len(names) - 1)]
        order = [names[0], *inner, names[-1]]
        found = cross_layer_tensors.handed_over(found, order, {*order[::2]}, Line(over))
    for index, name in list(enumerate(names))[1:-1]:
        body = here.body("cuda", deeper.padded, every=index % 2 == 0)
        for suffix in ("", "_backward"):
            traced, expected = found[f"layer{index}{suffix}"], body[f"{name}{suffix}"]
            delta = expected.delta.at(tokens, pairs) - expected.of_before.at(tokens, pairs)
            where = f"layer {index}{suffix}"
            _agree(config, where, delta, traced.delta.fixed - traced.of_before.fixed)
            _agree(config, f"{where} peak", expected.peak(tokens, pairs), traced.peak(0, 0), over)
    step = {
        name: found for name, found in profile.passes.items() if not name.endswith((".eval", ".reference"))
    }
    shallow = replace(
        deeper.profile,
        load_bytes=0,
        save_bytes=0,
        optimizer_transient_bytes=0,
        paged_optimizer=False,  # the trace keeps what it makes where it made it
        rows=1,  # its rows, whosever they are
        reference_bytes=0,
        reference_passes=0,
        beginning_passes=0,
        passes=step,
    )
    projected = project(shallow, Rung(2, rows), sequence_length=length, card=_BARE)
    _agree(config, "the step's peak", projected.allocated_bytes, deeper.highest_bytes, over)


def _check_length(config: PretrainedConfig, chunk_tokens: int) -> int:
    """The length of the deeper trace: none that was traced, and no multiple of a chunk."""
    if chunk_tokens == 1:
        return CHECK_STEPS
    longest = positions(config) or CHECK_LENGTH
    return CHECK_LENGTH - chunk_tokens // 2 if longest >= CHECK_LENGTH else longest * 3 // 4


def _agree(config: PretrainedConfig, what: str, projected: float, traced: float, over: float = 0.0) -> None:
    """over: bytes that may be projected beyond the tolerance."""
    off = projected - traced
    if max(-off, off - over) > CHECK_TOLERANCE * abs(traced) + CHECK_SLACK_BYTES:
        raise ProfileError(
            f"{config.model_type} can't be traced: {what} of a deeper model takes {traced:,.0f} bytes where the "
            f"profile projects {projected:,.0f}; what its layers take depends on more than their kind"
        )


_ANY = Scan(1)  # loops over however many tokens are followed to their end
_BARE = Card("none", 1, 1.0, 1.0, 0, "for comparing live bytes alone")


def whole_step(
    fake: FakeModel,
    spec: JobSpec,
    mode: FakeTensorMode,
    *,
    every_n: int,
    kind: CardKind,
    rows: int,
    length: int,
    offload: bool = False,
) -> int:
    """Peak live bytes of one optimizer step of `fake` as it stands, traced through: what project() is held against."""
    checkpoint(fake, every_n, offload)
    padded = (
        (rows > 1 and spec.model.attention == "sdpa")
        or spec.training.packing
        or spec.model.attention == "eager"
    )
    found = trace_step(
        fake,
        spec,
        mode,
        kind=kind,
        padded=padded,
        rows=rows,
        length=length,
        marked=False,
        scan=_ANY,
        offload=offload,
    )
    return _highest(fake, spec, found)


def _highest(fake: FakeModel, spec: JobSpec, segments: dict[str, Segment]) -> int:
    """The peak of a step that was traced through, with weights and optimizer state."""
    sizes = _Sizes(replace(fake, order=fake.names), spec)
    resting = sizes.whole("weight") + sizes.whole("adapter") + sizes.whole("optimizer")
    live, highest = 0.0, float(sizes.whole("trained"))
    for segment in segments.values():
        highest = max(highest, live + segment.peak(0, 0))
        live += segment.delta.fixed
    return round(resting + highest)


def _block(count: int) -> int:
    return -(-count // BLOCK_BYTES) * BLOCK_BYTES


def answer(request: TraceRequest) -> TraceResult:
    """The request's profile, or why there is none."""
    try:
        return TraceResult(key=request.key, profile=trace(request.spec, request.trusted_models).as_dict())
    except SpecError as error:
        return TraceResult(key=request.key, error="; ".join(map(str, error.faults)), bad_input=True)
    except ProfileError as error:
        return TraceResult(key=request.key, error=str(error))
    except MemoryError:
        return TraceResult(key=request.key, error="the trace ran out of the memory it was given")
    except (
        Exception
    ) as error:  # a library's fault, at the edge of this process: the job waits with these words
        return TraceResult(
            key=request.key, error=f"the trace failed: {type(error).__name__}: {str(error)[:400]}"
        )
