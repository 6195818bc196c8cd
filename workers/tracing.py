"""Trace the memory of a training step: the real libraries on fake tensors -> MemoryProfile.

One trace of the first layer, one of each kind and the last (workers/layer_kinds.py) gives exact lines
(workers/live_bytes.py says how), so a profile takes one pass for each card kind, each way of masking, and
checkpointing off and on: eight at most, less than half a second each for a 7B shape. A last pass over a deeper
model, another shape and every second layer checkpointed must agree with what the profile projects for it; a
model whose layers are not alike within a kind fails here instead of being placed on a guess.

Experts run as transformers' grouped_mm, its default: tokens x experts per token rows in all, whichever way they
are routed. Limits: flash_attention_2 is traced as sdpa without a mask, which saves the same output and
log-sum-exp; models whose control flow reads values can't be run on fake tensors and get an error that says so
(docs/tracing.md lists them).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from transformers import PretrainedConfig
from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE

from jobs.cards import Card
from jobs.errors import ProfileError, SpecError
from jobs.memory import Rung, project
from jobs.profile import LOSS, SEGMENTS, CardKind, Line, MemoryProfile, Pass, Segment
from jobs.report import TraceRequest, TraceResult
from jobs.spec import JobSpec
from workers import carried, layer_kinds
from workers.fake_model import FakeModel, build, check_config, load_config
from workers.four_bit import elements, load_transient_bytes
from workers.live_bytes import BLOCK_BYTES, marked_length
from workers.optimizers import embedding_weights, paged, state_bytes, transient_bytes
from workers.step_trace import checkpoint, trace_step

CHECK_COPIES, CHECK_ROWS, CHECK_LENGTH = 3, 2, 1536
CHECK_TOLERANCE, CHECK_SLACK_BYTES = 0.03, 2**18
UNIFORM = ("first", "layer", "last")
_KINDS: tuple[CardKind, ...] = ("cuda", "cpu")


def trace(spec: JobSpec, trusted_models: list[str]) -> MemoryProfile:
    """The memory profile of a job. Raises SpecError when the job file is at fault, ProfileError otherwise."""
    config = load_config(spec, trusted_models)
    check_config(spec, config)
    trust = spec.model.trust_remote_code and spec.model.path in trusted_models
    mode = FakeTensorMode()
    fake = build(spec, config, mode, trust=trust)
    try:
        passes = _passes(spec, fake, mode)
        profile = _profile(spec, config, fake, passes)
        return _checked(profile, spec, config, mode, trust)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise ProfileError(
            f"{config.model_type} can't be traced: its code in transformers reads values ({error.func}) that only a "
            "real run has; use an architecture that does not (docs/tracing.md)"
        ) from None
    except RuntimeError as error:
        if "Expected inputs of BF16" not in str(
            error
        ):  # torch/_meta_registrations.py, grouped products (2.13)
            raise
        raise ProfileError(
            f"{config.model_type} has experts, which torch can trace in bfloat16 only: set model.dtype to bfloat16, "
            f"not {spec.model.dtype}"
        ) from None


def _passes(spec: JobSpec, fake: FakeModel, mode: FakeTensorMode) -> dict[str, Pass]:
    dimensions = {n for p in fake.parameters() for n in p.shape}
    packed = spec.training.packing
    chunk = layer_kinds.chunk(fake.base)
    few = marked_length(dimensions, TOKEN_CHUNK_SIZE // 4, chunk)
    beyond = marked_length(dimensions, TOKEN_CHUNK_SIZE + 2, chunk)
    shapes = {"short": (1, few), "long": (1, beyond)}
    if not packed:  # many rows rather than long ones, which some models have no positions for
        third, seventh = (5 if few == 3 * chunk else 3), (11 if few == 7 * chunk else 7)
        shapes = {"short": (third, few), "long": (seventh, few)}
    passes: dict[str, Pass] = {}
    for every, size in ((False, "short"), (True, "long")):
        checkpoint(fake, int(every))
        rows, length = shapes[size]
        for name, padded in _maskings(spec):
            for kind in _KINDS:
                found = trace_step(fake, spec, mode, kind=kind, padded=padded, rows=rows, length=length)
                body = {segment: found.get(segment, Segment(Line())) for segment in (*SEGMENTS, *found)}
                passes[f"{kind}.{name}.{'every' if every else 'off'}"] = Pass(body)
                passes.setdefault(f"{kind}.loss.{size}", Pass({segment: body[segment] for segment in LOSS}))
    for name, _ in reversed(_maskings(spec)):  # the first one last: the loss was traced with it
        for kind in _KINDS:
            passes = carried.in_passes(passes, fake.names, kind, name)
    return _with_loss_flops(passes) | (
        _evaluation(spec, fake, mode, *shapes["long"]) if spec.data.holdout else {}
    )


def _evaluation(
    spec: JobSpec, fake: FakeModel, mode: FakeTensorMode, rows: int, length: int
) -> dict[str, Pass]:
    """A forward pass without gradients for each card kind, over rows of unequal length where such can come."""
    checkpoint(fake, 0)
    padded = any(masked for _, masked in _maskings(spec))
    found = {
        kind: trace_step(fake, spec, mode, kind=kind, padded=padded, rows=rows, length=length, training=False)
        for kind in _KINDS
    }
    return {f"{kind}.eval": Pass(segments) for kind, segments in found.items()}


def _maskings(spec: JobSpec) -> list[tuple[str, bool]]:
    """Name and kind of the attention masks that this training meets, as MemoryProfile.body looks them up."""
    if spec.model.attention == "flash_attention_2":
        return [("padded", False)]
    if spec.training.packing or spec.model.attention == "eager":
        return [("padded", True)]
    return [("plain", False), ("padded", True)]


def _with_loss_flops(passes: dict[str, Pass]) -> dict[str, Pass]:
    """The CUDA loss backward does the CPU's arithmetic, in products that workers/cuda_paths.py leaves out."""
    made = dict(passes)
    for size in ("short", "long"):
        cuda, cpu = passes[f"cuda.loss.{size}"], passes[f"cpu.loss.{size}"]
        found = cuda["loss_backward"]
        made[f"cuda.loss.{size}"] = Pass(
            {
                "loss": cuda["loss"],
                "loss_backward": Segment(
                    found.delta, found.peaks, cpu["loss_backward"].flops, found.gradients
                ),
            }
        )
    return made


def _profile(
    spec: JobSpec, config: PretrainedConfig, fake: FakeModel, passes: dict[str, Pass]
) -> MemoryProfile:
    sizes = _Sizes(fake, spec)
    text = config.get_text_config()
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
        quantised="nf4" if spec.method.kind == "qlora" else "",
        paged_optimizer=paged(spec),
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
        base = {id(p) for name, p in fake.model.named_parameters() if ".lora_" not in name}
        for parameter in fake.parameters():
            often = repeats.get(id(parameter), 1)
            bytes_, count = often * _block(parameter.nbytes), often * elements(parameter)
            self._sums["weight" if id(parameter) in base else "adapter"] += bytes_
            if id(parameter) in base:
                self._sums["parameters"] += count
            if parameter.requires_grad:
                self._sums["trained"] += bytes_
                self._sums["trained_parameters"] += count
                self._sums["optimizer"] += often * state_bytes(spec, parameter, id(parameter) in embeddings)
        for buffer in fake.model.buffers():
            self._sums["weight"] += repeats.get(id(buffer), 1) * _block(buffer.nbytes)

    def whole(self, what: str) -> int:
        return self._sums[what]


def _checked(
    profile: MemoryProfile, spec: JobSpec, config: PretrainedConfig, mode: FakeTensorMode, trust: bool
) -> MemoryProfile:
    """profile, once it has foretold a deeper trace of another shape. Raises ProfileError when it has not."""
    fake = build(spec, config, mode, copies=CHECK_COPIES, trust=trust)
    if len(fake.names) == len({*fake.names}):
        return profile
    rows = 1 if spec.training.packing else CHECK_ROWS
    checkpoint(fake, 2)
    padded = any(masked for _, masked in _maskings(spec))
    found = trace_step(
        fake, spec, mode, kind="cuda", padded=padded, rows=rows, length=CHECK_LENGTH, marked=False
    )
    tokens, pairs = rows * CHECK_LENGTH, rows * CHECK_LENGTH**2
    over = carried.carried(profile.body("cuda", padded, every=True).segments).at(tokens, pairs)
    if over:
        inner = [f"layer{index}" for index in range(1, len(fake.names) - 1)]
        order = [fake.names[0], *inner, fake.names[-1]]
        found = carried.handed_over(found, order, {*order[::2]}, Line(over))
    for index, name in list(enumerate(fake.names))[1:-1]:
        body = profile.body("cuda", padded, every=index % 2 == 0)
        for suffix in ("", "_backward"):
            traced, foretold = found[f"layer{index}{suffix}"], body[f"{name}{suffix}"]
            delta = foretold.delta.at(tokens, pairs) - foretold.of_before.at(tokens, pairs)
            where = f"layer {index}{suffix}"
            _agree(config, where, delta, traced.delta.fixed - traced.of_before.fixed)
            _agree(config, f"{where} peak", foretold.peak(tokens, pairs), traced.peak(0, 0), over)
    whole = _profile(spec, config, replace(fake, order=fake.names), profile.passes)
    step = {name: found for name, found in profile.passes.items() if not name.endswith(".eval")}
    shallow = replace(whole, load_bytes=0, save_bytes=0, optimizer_transient_bytes=0, passes=step)
    projected = project(shallow, Rung(2, rows), sequence_length=CHECK_LENGTH, card=_BARE)
    _agree(config, "the step's peak", projected.allocated_bytes, _highest(fake, spec, found), over)
    return profile


def _agree(config: PretrainedConfig, what: str, foretold: float, traced: float, over: float = 0.0) -> None:
    """over: bytes that may be foretold beyond the tolerance."""
    off = foretold - traced
    if max(-off, off - over) > CHECK_TOLERANCE * abs(traced) + CHECK_SLACK_BYTES:
        raise ProfileError(
            f"{config.model_type} can't be traced: {what} of a deeper model takes {traced:,.0f} bytes where the "
            f"profile foretells {foretold:,.0f}; what its layers take depends on more than their kind"
        )


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
) -> int:
    """Peak live bytes of one optimizer step of `fake` as it stands, traced through: what project() has to foretell."""
    checkpoint(fake, every_n)
    padded = (
        (rows > 1 and spec.model.attention == "sdpa")
        or spec.training.packing
        or spec.model.attention == "eager"
    )
    found = trace_step(fake, spec, mode, kind=kind, padded=padded, rows=rows, length=length, marked=False)
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
