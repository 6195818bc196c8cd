"""Trace the memory of a training step: the real libraries on fake tensors -> MemoryProfile.

`python -m workers.tracing REQUEST.json RESULT.json` turns one TraceRequest into a TraceResult;
workers/trace_child.py runs that with limits, as a model's own code or a library's fault must not take the
host agent with it.

One trace of a three-layer model gives exact lines (workers/live_bytes.py says how), so a profile takes one
pass for each card kind, each way of masking, and checkpointing off and on: eight at most, less than half a
second each for a 7B shape. A last pass over a deeper model, another shape and every second layer checkpointed
must agree with what the profile projects for it; a model that is not made of equal layers fails here instead
of being placed on a guess.

Limits: flash_attention_2 is traced as sdpa without a mask, which saves the same output and log-sum-exp;
models whose control flow reads values (routing of experts) can't be run on fake tensors and get an error that
says so.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path

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
from workers.fake_model import FakeModel, at_depth, build, check_config, layer_sizes, load_config
from workers.live_bytes import BLOCK_BYTES, marked_length
from workers.step_trace import checkpoint, trace_step

CHECK_DEPTH, CHECK_ROWS, CHECK_LENGTH = 5, 2, 1536
CHECK_TOLERANCE, CHECK_SLACK_BYTES = 0.03, 2**18
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
            f"{config.model_type} can't be traced: its control flow depends on values ({error.func}), "
            "as routing to experts does"
        ) from None


def _passes(spec: JobSpec, fake: FakeModel, mode: FakeTensorMode) -> dict[str, Pass]:
    dimensions = {n for p in fake.parameters() for n in p.shape}
    packed = spec.training.packing
    few, many = (
        marked_length(dimensions, TOKEN_CHUNK_SIZE // 4),
        marked_length(dimensions, TOKEN_CHUNK_SIZE // 2),
    )
    beyond = marked_length(dimensions, TOKEN_CHUNK_SIZE + 2)
    shapes = {"short": (1, many), "long": (1, beyond)} if packed else {"short": (3, few), "long": (7, many)}
    passes: dict[str, Pass] = {}
    for every, size in ((False, "short"), (True, "long")):
        checkpoint(fake, int(every))
        rows, length = shapes[size]
        for name, padded in _maskings(spec):
            for kind in _KINDS:
                found = trace_step(fake, spec, mode, kind=kind, padded=padded, rows=rows, length=length)
                body = {segment: found.get(segment, Segment(Line())) for segment in SEGMENTS}
                passes[f"{kind}.{name}.{'every' if every else 'off'}"] = Pass(body)
                passes.setdefault(f"{kind}.loss.{size}", Pass({segment: body[segment] for segment in LOSS}))
    return _with_loss_flops(passes)


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
    sizes = _Sizes(fake)
    text = config.get_text_config()
    return MemoryProfile(
        layers=fake.depth,
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
    )


def _mask_from_length(spec: JobSpec, text: PretrainedConfig) -> int | None:
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None)
    sliding = kinds is None or "sliding_attention" in kinds
    return int(window) if window and sliding and spec.model.attention == "sdpa" else None


class _Sizes:
    """Bytes and counts of the whole model from one with three layers: outside, first, and one for each other layer."""

    def __init__(self, fake: FakeModel) -> None:
        place = {id(p): index for index, layer in enumerate(fake.layers) for p in layer.parameters()}
        place |= {id(b): index for index, layer in enumerate(fake.layers) for b in layer.buffers()}
        self._repeats = fake.depth - len(fake.layers) + 1
        self._sums: dict[str, dict[int, int]] = {}
        last = max(0, len(fake.layers) - 2)
        base = {id(p) for name, p in fake.model.named_parameters() if ".lora_" not in name}
        for parameter in fake.parameters():
            where = place.get(id(parameter), -1)
            self._add("weight" if id(parameter) in base else "adapter", where, _block(parameter.nbytes))
            if id(parameter) in base:
                self._add("parameters", where, parameter.numel())
            if parameter.requires_grad:
                self._add("trained", where, _block(parameter.nbytes))
                self._add("trained_parameters", where, parameter.numel())
                # AdamW keeps two moments in the parameter's own type and, when fused, a float32 step on the
                # device.
                self._add("optimizer", where, 2 * _block(parameter.nbytes) + BLOCK_BYTES)
        for buffer in fake.model.buffers():
            self._add("weight", place.get(id(buffer), -1), _block(buffer.nbytes))
        self._repeated = last

    def _add(self, what: str, where: int, amount: int) -> None:
        found = self._sums.setdefault(what, {})
        found[where] = found.get(where, 0) + amount

    def whole(self, what: str) -> int:
        return sum(
            amount * (self._repeats if where == self._repeated else 1)
            for where, amount in self._sums.get(what, {}).items()
        )


def _checked(
    profile: MemoryProfile, spec: JobSpec, config: PretrainedConfig, mode: FakeTensorMode, trust: bool
) -> MemoryProfile:
    """profile, once it has foretold a deeper trace of another shape. Raises ProfileError when it has not."""
    sizes, traced_sizes = layer_sizes(spec, config, trust), layer_sizes(spec, at_depth(config, 3), trust)
    if len(sizes) > 3 and sizes != [traced_sizes[0], *[traced_sizes[1]] * (len(sizes) - 2), traced_sizes[2]]:
        shown = ", ".join(f"{size:,}" for size in sorted(set(sizes)))
        raise ProfileError(f"{config.model_type}: its layers are not alike (they have {shown} parameters)")
    if config.get_text_config().num_hidden_layers < CHECK_DEPTH:
        return profile
    fake = build(spec, config, mode, depth=CHECK_DEPTH, trust=trust)
    rows = 1 if spec.training.packing else CHECK_ROWS
    checkpoint(fake, 2)
    padded = any(masked for _, masked in _maskings(spec))
    found = trace_step(
        fake, spec, mode, kind="cuda", padded=padded, rows=rows, length=CHECK_LENGTH, marked=False
    )
    tokens, pairs = rows * CHECK_LENGTH, rows * CHECK_LENGTH**2
    for index in range(1, CHECK_DEPTH - 1):
        body = profile.body("cuda", padded, every=index % 2 == 0)
        for suffix in ("", "_backward"):
            traced, foretold = found[f"layer{index}{suffix}"], body[f"layer{suffix}"]
            delta = foretold.delta.at(tokens, pairs) - foretold.of_before.at(tokens, pairs)
            where = f"layer {index}{suffix}"
            _agree(config, where, delta, traced.delta.fixed - traced.of_before.fixed)
            _agree(config, f"{where} peak", foretold.peak(tokens, pairs), traced.peak(0, 0))
    shallow = _profile(spec, config, replace(fake, depth=CHECK_DEPTH), profile.passes)
    projected = project(shallow, Rung(2, rows), sequence_length=CHECK_LENGTH, card=_BARE)
    _agree(config, "the step's peak", projected.allocated_bytes, _highest(fake, found))
    return profile


def _agree(config: PretrainedConfig, what: str, foretold: float, traced: float) -> None:
    if abs(foretold - traced) > CHECK_TOLERANCE * abs(traced) + CHECK_SLACK_BYTES:
        raise ProfileError(
            f"{config.model_type}: {what} of {CHECK_DEPTH} layers takes {traced:,.0f} bytes where the profile "
            f"foretells {foretold:,.0f}; its layers are not alike"
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
    return _highest(fake, found)


def _highest(fake: FakeModel, segments: dict[str, Segment]) -> int:
    """The peak of a step that was traced through, with weights and optimizer state."""
    sizes = _Sizes(replace(fake, depth=len(fake.layers)))
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


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("usage: python -m workers.tracing REQUEST.json RESULT.json", file=sys.stderr)
        return 2
    source, target = Path(arguments[0]), Path(arguments[1])
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    result = answer(TraceRequest.model_validate_json(source.read_text()))
    draft = target.with_suffix(".tmp")
    draft.write_text(result.model_dump_json())
    os.replace(draft, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
