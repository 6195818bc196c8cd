"""trace_step: one micro-batch of the real training step on fake tensors -> its segments."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import _engine_run_backward
from transformers import masking_utils

from jobs.cards import CardKind
from jobs.jobfile.spec import JobSpec
from jobs.memory.profile import Segment
from workers.profiler import router_loss, scan_loops
from workers.profiler.emulation import grouped_mm
from workers.profiler.emulation.cuda_paths import COPYING, cuda_paths
from workers.profiler.emulation.valid_tokens import ValidTokens
from workers.profiler.fake_model import FakeModel
from workers.profiler.losses import loss_of
from workers.profiler.offload import HostMemory
from workers.profiler.probe_shapes import ALL_AT_ONCE, Scan, marked_valid
from workers.profiler.storage_tracker import LiveBytes


def checkpoint(fake: FakeModel, every_n: int, offload: bool = False) -> None:
    """Switch activation checkpointing as the trainer does: off for 0, else every every_n-th layer, non-reentrant.

    offload: what that saves is held in the host's memory.
    """
    if every_n == 0:
        if fake.base.is_activation_checkpointing:
            fake.base.activation_checkpointing_disable()
            fake.base.disable_input_require_grads()  # the trainer that never checkpoints never asks for them
        return
    fake.base.activation_checkpointing_enable(
        {"use_reentrant": False}, every_n_layers=every_n, offload=offload
    )


def trace_step(fake: FakeModel, spec: JobSpec, mode: FakeTensorMode, **how: Any) -> dict[str, Segment]:
    """traced_once() of a step in which nothing is imported for the first time.

    Python keeps the frames in which an import runs as long as something of it refers to them (torch.fx.wrap keeps its
    caller's), and with them what their variables hold: tensors of this very step, in one process and not in another.
    """
    known = len(sys.modules)
    found = traced_once(fake, spec, mode, **how)
    return found if len(sys.modules) == known else traced_once(fake, spec, mode, **how)


def traced_once(
    fake: FakeModel,
    spec: JobSpec,
    mode: FakeTensorMode,
    *,
    kind: CardKind,
    padded: bool,
    rows: int,
    length: int,
    marked: bool = True,
    scan: Scan = ALL_AT_ONCE,
    training: bool = True,
    offload: bool = False,
    old: bool = False,
) -> dict[str, Segment]:
    """The segments of one forward and backward pass of rows x length tokens, by name.

    Layers have the names that the model gives them; where several share one (for checks) those between the first
    and the last are numbered: layer1, layer2, .. and layer1_backward, ... padded: rows of unequal length, so that
    attention needs a mask. marked: rows and length come from workers/profiler/probe_shapes.py, so that lines can be
    read off. scan: how layers go through the tokens. The caller switches checkpointing; offload: it did so with
    offload. training: else an evaluation's forward pass alone, without gradients. old: of cards older than
    Ampere. Raises LoopsOverTokens.
    """
    parameters = fake.parameters()
    for parameter in parameters:
        parameter.grad = None
    tracked = [p for p in parameters if p.requires_grad]
    dimensions = {n for parameter in parameters for n in parameter.shape}
    valid = marked_valid(dimensions, scan, rows, length) if marked and kind == "cuda" else 0
    live = LiveBytes(
        rows * marked,
        length * marked,
        lambda: sum(_block(p.grad.nbytes) for p in tracked if p.grad is not None),
        scan,
        valid,
        notes_events=marked and training and kind == "cuda",
    )
    gc.collect()
    gc.disable()  # a collection in the middle would free cycles at moments that differ from run to run
    try:
        with ExitStack() as stack:
            stack.enter_context(mode)
            stack.enter_context(_masks(padded))
            stack.enter_context(grouped_mm.in_any_type())
            waiting = stack.enter_context(router_loss.at_whole_depth(fake))
            stack.enter_context(scan_loops.followed(fake.base, live, length, scan))
            if kind == "cuda":
                stack.enter_context(cuda_paths(ValidTokens(rows, length, valid or rows * (length - 1)), old))
                live.passing = COPYING
            for tensor in [*parameters, *fake.model.buffers()]:
                live.ignore(tensor)
            handles = _marks(fake, live, waiting)
            stack.callback(lambda: [handle.remove() for handle in handles])
            if not training:
                stack.callback(fake.model.train)
                fake.model.eval()
                stack.enter_context(torch.no_grad())
            stack.enter_context(live)
            if offload:
                stack.enter_context(HostMemory(live))
            loss = _forward(fake, spec, kind, rows, length)
            live.mark("loss")
            if training:
                _backward(loss)
                live.mark(_closing(live, len(fake.layers)))
    finally:
        gc.enable()
    return live.finish()


def _backward(loss: torch.Tensor) -> None:
    """loss.backward(), by the call it ends in: the public ones switch cuda_paths off for what is recomputed."""
    _engine_run_backward(
        (loss,), (torch.ones_like(loss),), False, False, (), allow_unreachable=True, accumulate_grad=True
    )


def _closing(live: LiveBytes, depth: int) -> str:
    """What ends with the step: the first layer's backward where its input has no gradient, else the embedding's."""
    earliest = "last_backward" if depth == 1 else "first_backward"
    return "after" if earliest in live.segments else earliest


def _forward(fake: FakeModel, spec: JobSpec, kind: CardKind, rows: int, length: int) -> torch.Tensor:
    """The loss as the job's trainer takes it, under accelerate's autocast."""
    # The CPU runs float16 weights without autocast (workers/trainer/config.py).
    dtype = None if kind == "cpu" and spec.autocast_dtype == "float16" else spec.autocast_dtype
    loss = loss_of(spec.trainer)
    balance = router_loss.coefficient(fake.base.config) if loss.outputs else 0.0
    with torch.autocast("cpu", dtype=getattr(torch, dtype)) if dtype else nullcontext():
        return loss.forward(fake.model, spec, rows, length, balance)


def _marks(fake: FakeModel, live: LiveBytes, waiting: list[torch.Tensor]) -> list[Any]:
    """Hooks that end a segment where each layer begins and ends, forward and backward; waiting: gradients to let go
    of as the loss's backward pass ends.

    A layer ends where the next module begins, not where it returns: only then has the model's loop over its
    layers let go of the layer's input.
    """
    layers = fake.layers
    outer = {id(module) for module in fake.base.modules()}
    outer -= {id(inner) for layer in layers for inner in layer.modules()}
    output: list[torch.Tensor] = []

    numbered = len({*fake.names}) < len(layers)

    def name(index: int) -> str:
        between = 0 < index < len(layers) - 1
        return f"layer{index}" if numbered and between else fake.names[index]

    def entered(index: int, args: Any, kwargs: Any) -> None:
        live.mark("before" if index == 0 else name(index - 1))
        hidden = args[0] if args else kwargs["hidden_states"]
        if hidden.requires_grad:
            hidden.register_hook(lambda _: live.mark(f"{name(index)}_backward"))

    def lost(_: torch.Tensor) -> None:
        waiting.clear()
        live.mark("loss_backward")

    def left(out: Any) -> None:
        output.append(out[0] if isinstance(out, tuple) else out)
        if output[0].requires_grad:
            output[0].register_hook(lost)

    def beyond() -> None:
        if output:
            output.clear()
            live.mark("last")

    handles: list[Any] = [
        layer.register_forward_pre_hook(lambda _, a, k, i=index: entered(i, a, k), with_kwargs=True)
        for index, layer in enumerate(layers)
    ]
    handles.append(layers[-1].register_forward_hook(lambda _, a, out: left(out)))
    for module in fake.base.modules():
        if id(module) in outer and module is not fake.base:
            handles.append(module.register_forward_pre_hook(lambda *_: beyond()))
    return handles


@contextmanager
def _masks(padded: bool) -> Iterator[None]:
    """Let transformers see rows of equal length (no mask needed) or of unequal length.

    It looks at the values of the attention mask, which fake tensors do not have.
    """
    swapped: dict[str, Any] = {}
    if not padded:
        swapped = {"is_tracing": lambda *_: False, "fast_all": lambda _: True, "torch": _AllOnes()}
    kept = {name: getattr(masking_utils, name) for name in swapped}
    try:
        for name, value in swapped.items():
            setattr(masking_utils, name, value)
        yield
    finally:
        for name, value in kept.items():
            setattr(masking_utils, name, value)


class _AllOnes:
    """torch as the functions see it that make masks, for a mask that leaves nothing out."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def all(self, *_: Any) -> bool:
        return True


def _block(count: int) -> int:
    return -(-count // 512) * 512
