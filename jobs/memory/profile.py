"""MemoryProfile: how one architecture, trained one way, uses memory and arithmetic. Traced, never written by
hand.

A training step is a row of *segments*: inputs and embedding, each layer forward, the loss, the loss backward,
each layer backward, the embedding backward. A segment changes what is live by `delta` and on its way rises to
`peaks` above where it began. Each of these is a `Line`, exact in tokens and token pairs, so one trace of a
shallow model gives the step of the deep one at any length and micro-batch: `jobs/memory/project.py` lays the segments
end to end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

from jobs.cards import Traced
from jobs.errors import ProfileError
from jobs.jobfile.spec import JobSpec

FORMAT = 9  # raise when a profile's meaning changes: older cached ones are then traced again

Event = tuple[float, ...]  # jobs/memory/allocator/events.py


@dataclass(frozen=True)
class Line:
    """fixed + token x tokens + pair x pairs + valid x valid tokens, in bytes or in floating-point operations.

    tokens: sequences x length of one micro-batch; pairs: rows x (row length)^2, the size of an attention
    mask; valid: tokens that are no padding, which is what TRL's loss works on on CUDA. row, chunk, chunk_pair: per
    row, rows x chunks and rows x chunks^2, where layers scan their tokens in chunks, of which the last is filled up
    (MemoryProfile.chunk_tokens); read at_length() first.
    """

    fixed: float = 0.0
    token: float = 0.0
    pair: float = 0.0
    row: float = 0.0
    chunk: float = 0.0
    chunk_pair: float = 0.0
    valid: float = 0.0

    def at(self, tokens: int, pairs: int, valid: int | None = None) -> float:
        """valid: None: no token is padding."""
        known = tokens if valid is None else valid
        return self.fixed + self.token * tokens + self.pair * pairs + self.valid * known

    def at_length(self, length: int, chunk_tokens: int) -> Line:
        """The same for rows of this length alone, in tokens and pairs."""
        chunks = -(-length // chunk_tokens)
        each = self.row + self.chunk * chunks + self.chunk_pair * chunks**2
        return Line(self.fixed, self.token + each / length, self.pair, valid=self.valid) if each else self

    def plus(self, other: Line, times: int = 1) -> Line:
        return Line(*(a + times * b for a, b in zip(self._values(), other._values(), strict=True)))

    def as_list(self) -> list[float]:
        values = self._values()
        return list(values if any(values[3:]) else values[:3])

    def _values(self) -> tuple[float, ...]:
        return (self.fixed, self.token, self.pair, self.row, self.chunk, self.chunk_pair, self.valid)


@dataclass(frozen=True)
class Segment:
    """One stretch of a step.

    peaks: above where it began, the highest is what counts; gradients: bytes of `delta` that stay as
    gradients; of_before, of_layers: parts of `delta` that give back what `before` took, and what the layers of
    each name took (without "first" and "last", which run once). At the loss these are the attention mask,
    where no layer keeps it, and autocast's copies of weights, which go once for each layer. The loss backward also
    leaves layers something, with the other sign: gradients of their routing, which wait for each layer's own backward.
    events: what it allocates and frees, in order (jobs/memory/allocator/events.py); of CUDA's training passes alone.
    """

    delta: Line
    peaks: tuple[Line, ...] = ()
    flops: Line = Line()
    gradients: int = 0
    of_before: Line = Line()
    of_layers: Mapping[str, Line] = field(default_factory=dict)
    events: tuple[Event, ...] = ()

    def peak(self, tokens: int, pairs: int, valid: int | None = None) -> float:
        return max((line.at(tokens, pairs, valid) for line in self.peaks), default=0.0)

    def at_length(self, length: int, chunk_tokens: int) -> Segment:
        return Segment(
            self.delta.at_length(length, chunk_tokens),
            tuple(line.at_length(length, chunk_tokens) for line in self.peaks),
            self.flops.at_length(length, chunk_tokens),
            self.gradients,
            self.of_before.at_length(length, chunk_tokens),
            {name: line.at_length(length, chunk_tokens) for name, line in self.of_layers.items()},
            self.events,
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "delta": self.delta.as_list(),
            "peaks": [line.as_list() for line in self.peaks],
            "flops": self.flops.as_list(),
            "gradients": self.gradients,
            "of_before": self.of_before.as_list(),
            "of_layers": {name: line.as_list() for name, line in self.of_layers.items()},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], events: Sequence[tuple[Event, ...]] = ()) -> Segment:
        """events: all that a profile has, of which value["events"] is one."""
        return cls(
            Line(*value["delta"]),
            tuple(Line(*line) for line in value["peaks"]),
            Line(*value["flops"]),
            int(value["gradients"]),
            Line(*value["of_before"]),
            {name: Line(*line) for name, line in value["of_layers"].items()},
            events[value["events"]] if "events" in value else (),
        )


# Segments of a step of a model of equal layers, in the order in which they run. `layer` stands for every layer
# but the first and the last; models with other layers among them name those too (MemoryProfile.order).
SEGMENTS = (
    "before",
    "first",
    "layer",
    "last",
    "loss",
    "loss_backward",
    "last_backward",
    "layer_backward",
    "first_backward",
    "after",
)
LOSS = ("loss", "loss_backward")


@dataclass(frozen=True)
class Pass:
    """Segments by name: those of a micro-batch with all layers checkpointed or none, or LOSS alone."""

    segments: dict[str, Segment]

    def __getitem__(self, name: str) -> Segment:
        return self.segments[name]

    def as_dict(self) -> dict[str, Any]:
        return {name: segment.as_dict() for name, segment in self.segments.items()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], events: Sequence[tuple[Event, ...]] = ()) -> Pass:
        return cls({name: Segment.from_dict(segment, events) for name, segment in value.items()})


class Resting(NamedTuple):
    """One tensor of weights or buffers: its bytes; weights that it was packed from as it was loaded, or 0; the bytes of
    each tensor of optimizer state that goes with it."""

    size: int
    packed_weights: int
    state: tuple[int, ...]


@dataclass(frozen=True)
class MemoryProfile:
    """What a trace found. Bytes are per process; the allocator's rounding to 512 is in them.

    layers: depth of the whole model; order: the name of each layer's segments where its layers are not alike (read
    layer_names), empty for first, layer, .., layer, last. weight_bytes: frozen and trained base weights and buffers;
    adapter_bytes: LoRA weights; trained_bytes: gradients of one step; optimizer_bytes: AdamW's state;
    parameter_count: of the base. mask_from_length: sequences at least this long get a materialised attention
    mask even without padding (sliding windows), None when none do. passes: "<card
    kind>.<plain|padded>.<off|every>" and "<card kind>.loss.<short|long>"; the first also for "cuda.old", cards older
    than Ampere, where their attention differs. `padded` is a batch with rows of unequal length, which is what a
    micro-batch of two or more has to be ready for. "<card kind>.eval", where
    there is one: the same segments of a forward pass without gradients. The loss works in chunks of
    loss_chunk_tokens: up to one chunk its buffers grow with the tokens, beyond they do not. load_bytes: most that
    loading takes beside the weights and adapters; save_bytes: what saving takes beside what rests;
    optimizer_transient_bytes: what the update takes beside state and gradients; quantised: how the base weights
    are packed ("nf4"), or empty; paged_optimizer: its state moves to the host where the card is short;
    chunk_tokens: of the chunks in which layers scan their tokens, 1 for one by one, 0 where no layer does;
    model_type: what the config that was traced calls the architecture. rows: sequences of an example, 2 of a pair.
    reference_bytes: weights of a frozen model beside; reference_passes: forward passes without gradients that each
    micro-batch makes while it holds its activations, beginning_passes: before it has any; "<card kind>.reference" is
    one such pass. tensors: those outside layers ("before" and
    "after" them) and of a layer of each name, in the order in which they are loaded.
    """

    layers: int
    weight_bytes: int
    adapter_bytes: int
    trained_bytes: int
    optimizer_bytes: int
    parameter_count: int
    trained_count: int
    loss_chunk_tokens: int
    packed: bool
    mask_from_length: int | None
    max_length: int | None
    passes: dict[str, Pass]
    notes: tuple[str, ...] = ()
    format: int = FORMAT
    order: tuple[str, ...] = ()
    load_bytes: int = 0
    save_bytes: int = 0
    optimizer_transient_bytes: int = 0
    quantised: str = ""
    paged_optimizer: bool = False
    chunk_tokens: int = 0
    model_type: str = ""
    rows: int = 1
    reference_bytes: int = 0
    reference_passes: int = 0
    beginning_passes: int = 0
    tensors: Mapping[str, tuple[Resting, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.order and len(self.order) != self.layers:
            raise ProfileError(f"a profile of {self.layers} layers names {len(self.order)} of them")

    @cached_property
    def layer_names(self) -> tuple[str, ...]:
        """Name of each layer's forward segment, from the first on; its backward segment is NAME_backward."""
        if self.order:
            return self.order
        return ("first", *["layer"] * (self.layers - 2), "last")[-self.layers :]

    @cached_property
    def derived(self) -> dict[str, Any]:
        """Room for what is worked out from this profile once: gone with it, no part of its value."""
        return {}

    def at_length(self, length: int) -> MemoryProfile:
        """The same for rows of this length alone, in tokens and pairs: itself where no layer scans in chunks."""
        if not self.chunk_tokens:
            return self
        passes = {
            name: Pass({key: one.at_length(length, self.chunk_tokens) for key, one in found.segments.items()})
            for name, found in self.passes.items()
        }
        return replace(self, passes=passes, chunk_tokens=0)

    def body(self, kind: Traced, padded: bool, every: bool) -> Pass:
        """The pass over SEGMENTS for a card kind; the padded one where there is no plain one. Raises ProfileError.

        Older cards have passes of their own only where their attention differs; without a mask they never have the
        kernel of newer ones.
        """
        mode = "every" if every else "off"
        shapes = ("padded",) if padded else ("plain", "padded")
        newer = [f"cuda.padded.{mode}"] if kind == "cuda.old" else []
        return self._first_of([*(f"{kind}.{shape}.{mode}" for shape in shapes), *newer])

    def evaluation(self, kind: Traced) -> Pass | None:
        """The pass without gradients, where there is one."""
        return self.passes.get(f"{kind.partition('.')[0]}.eval")

    def reference(self, kind: Traced) -> Pass | None:
        """The pass without gradients of the reference, where there is one."""
        return self.passes.get(f"{kind.partition('.')[0]}.reference")

    def loss(self, kind: Traced, tokens: int) -> Pass:
        """The LOSS pass of this many valid tokens, whose peaks stand for those of the body. Raises ProfileError."""
        of_kind = kind.partition(".")[0]
        return self._first_of([f"{of_kind}.loss.{'short' if tokens <= self.loss_chunk_tokens else 'long'}"])

    def _first_of(self, names: list[str]) -> Pass:
        for name in names:
            if (found := self.passes.get(name)) is not None:
                return found
        raise ProfileError(f"the memory profile has no pass {names[0]}; trace the model again")

    def as_dict(self) -> dict[str, Any]:
        made: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        made["passes"] = {name: found.as_dict() for name, found in self.passes.items()}
        # Many segments have the same events: each list of them is written once.
        known: dict[tuple[Event, ...], int] = {}
        for name, found in self.passes.items():
            for key, segment in found.segments.items():
                made["passes"][name][key]["events"] = known.setdefault(segment.events, len(known))
        made["events"] = [[list(event) for event in events] for events in known]
        made["notes"] = list(self.notes)
        made["tensors"] = {
            name: [[one.size, one.packed_weights, *one.state] for one in found]
            for name, found in self.tensors.items()
        }
        return made

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> MemoryProfile:
        """The profile in a mapping made by as_dict. Raises ProfileError when it is not one of this version."""
        if value.get("format") != FORMAT:
            raise ProfileError(f"memory profile of format {value.get('format')}, this version reads {FORMAT}")
        try:
            events = [tuple(map(tuple, one)) for one in value["events"]]
            passes = {name: Pass.from_dict(found, events) for name, found in value["passes"].items()}
            lists = {name: tuple(value[name]) for name in ("notes", "order")}
            tensors = {
                name: tuple(Resting(size, packed, tuple(state)) for size, packed, *state in found)
                for name, found in value["tensors"].items()
            }
            known = {key: one for key, one in value.items() if key != "events"}
            return cls(**{**known, **lists, "passes": passes, "tensors": tensors})
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ProfileError(f"damaged memory profile: {error!r}") from None


def trace_key(spec: JobSpec, stack: Mapping[str, str], config: Mapping[str, Any] | None) -> str:
    """SHA-256 of everything a profile depends on, in hex.

    config: the model's config.json where the caller has it (a local folder may change under the same path),
    else None. Batch, length, data, learning rate and resources are not in it: one profile serves every shape
    of the same training.
    """
    model, method, targets = spec.model, spec.method, spec.method.targets
    architecture = config if config is not None else model.config
    parts: dict[str, Any] = {
        "format": FORMAT,
        "architecture": architecture or {"path": model.path, "revision": model.revision},
        "remote_code": model.path if model.trust_remote_code else None,
        "dtype": model.dtype,
        "attention": model.attention,
        "trainer": f"kto: {spec.kto.loss_type}" if spec.trainer == "kto" else spec.trainer,
        "packing": spec.training.packing,
        "autocast": spec.autocast_dtype,
        "evaluates": spec.data.holdout > 0,
        "optimizer": [
            spec.training.optimizer,
            spec.training.optimizer == "sgd" and spec.training.weight_decay > 0,
        ],
        "method": method.kind,
        "adapter": None
        if method.kind == "full"
        else [
            method.rank,
            method.dropout > 0,
            sorted(targets) if isinstance(targets, list) else targets,
            method.dora,
            spec.adapter_dtype,
        ],
        "stack": dict(stack),
    }
    parts |= _beyond_defaults(spec)
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _beyond_defaults(spec: JobSpec) -> dict[str, Any]:
    """Options that cost memory, where they are used: they leave the keys of other profiles as they are."""
    training, method = spec.training, spec.method
    asked = {
        "loss": training.loss if training.loss != "nll" else None,
        "neftune": training.neftune_alpha is not None,
        "exclude": sorted(method.exclude),
        "modules_to_save": sorted(method.modules_to_save),
        "tied": method.ensure_weight_tying,
        "ranks": method.rank_pattern,
    }
    return {name: value for name, value in asked.items() if value}
