"""What an attempt measured beside what was projected, and the group of attempts that it is like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from jobs.cards import CardKind, roomy
from jobs.jobfile.spec import JobSpec
from jobs.memory.projection import error

RAN_OUT = "oom"
Part = Literal["live", "beside"]  # of device bytes: those of tensors, and what stands beside them
PARTS: tuple[Part, ...] = ("live", "beside")
FIGURES = ("allocated", "reserved", "device")
# Why an attempt's memory is no measure of its projection: it did not get to its peak, or nobody can tell it there.
NO_PEAK, ROOMY = INCOMPARABLE = ("no_peak", "roomy_card")


@dataclass(frozen=True)
class Group:
    """What attempts have in common whose residuals are alike.

    family: the model_type, or the model's path where nobody has read its config; quantisation: of the base weights,
    "none" without; card: its name; stack: the library versions, as stack_name() writes them.
    """

    family: str
    method: str
    quantisation: str
    card: str
    stack: str

    @property
    def kind(self) -> CardKind:
        return "cpu" if self.card == "cpu" else "cuda"

    def at(self, level: int) -> tuple[str, ...]:
        """What this group is called at a level of LEVELS."""
        return (str(level), *(getattr(self, name) for name in LEVELS[level]))

    def label(self, level: int) -> str:
        """The same for people."""
        names = {"none": "", "cpu": "cpu card"}
        words = [
            names.get(getattr(self, name), getattr(self, name)) for name in LEVELS[level] if name != "stack"
        ]
        return ", ".join(word for word in words if word) + (
            ", this stack" if "stack" in LEVELS[level] else ""
        )


# From the narrowest group to the widest: the first with enough attempts for the confidence sets the interval.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("family", "method", "quantisation", "card", "stack"),
    ("family", "method", "quantisation", "card"),
    ("method", "quantisation", "card"),
    ("method", "card"),
    ("card",),
    ("kind",),
)
OWN = 1  # LEVELS up to here hold jobs of the same family and method


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One ended attempt, projected beside measured. Memory in bytes, times in seconds; None: not known.

    job_id: whose attempts are one voice together, 0: not known, and a voice of its own;
    card_bytes: what its card has; measured: of its first rank; measured_step_s: None unless it made at least two
    steps, and only in the second is memory at its peak, for the first makes the optimizer's state; projected_step_s:
    what the model of time says, without what was measured before; confidence, margin_group, phase, sequence_length:
    of the projection that it was placed by; expandable: whether torch's segments could expand, None: no CUDA.
    """

    attempt_id: int = 0
    job_id: int = 0
    ts: float = 0.0
    trace_key: str | None = None
    architecture: str = ""
    family: str
    method: str
    quantisation: str = "none"
    card: str
    card_bytes: int | None = None
    stack: Mapping[str, str] = field(default_factory=dict)
    rung: Mapping[str, Any] = field(default_factory=dict)
    outcome: str = "succeeded"
    phase: str | None = None
    sequence_length: int | None = None
    confidence: float | None = None
    margin_group: str | None = None
    expandable: bool | None = None
    projected_allocated_bytes: int | None = None
    projected_reserved_bytes: int | None = None
    projected_device_bytes: int | None = None
    projected_upper_bytes: int | None = None
    projected_live_upper_bytes: int | None = None
    projected_step_s: float | None = None
    measured_allocated_bytes: int | None = None
    measured_reserved_bytes: int | None = None
    measured_device_bytes: int | None = None
    measured_step_s: float | None = None

    @cached_property
    def group(self) -> Group:
        return Group(self.family, self.method, self.quantisation, self.card, stack_name(self.stack))

    @property
    def ran_out(self) -> bool:
        return self.outcome == RAN_OUT

    @property
    def counts(self) -> bool:
        """Whether its memory says something of its projection."""
        return self.incomparable is None

    @property
    def incomparable(self) -> str | None:
        """Why it does not, one of INCOMPARABLE; None where it does."""
        made_two = self.measured_step_s is not None
        return incomparable(
            self.group.kind, self.ran_out, made_two, self.card_bytes or 0, self.projected_upper_bytes or 0
        )

    def residual(self, figure: str = "device") -> float | None:
        """measured / projected - 1 of one of FIGURES; None where it was not measured.

        Of an attempt that ran out, device bytes are at least what its card has: more was asked for than there was.
        """
        projected = getattr(self, f"projected_{figure}_bytes")
        measured = getattr(self, f"measured_{figure}_bytes")
        if self.ran_out and figure == "device":
            measured = wanted(measured, self.card_bytes or self.projected_upper_bytes or 0)
        return error(projected, measured) if self.counts else None

    @property
    def beside_residual(self) -> float | None:
        """How much more stood on the card beside live bytes than projected, as a share of projected device bytes."""
        device, live = self.projected_device_bytes, self.projected_allocated_bytes
        measured, measured_live = self.measured_device_bytes, self.measured_allocated_bytes
        if not self.counts or not device or live is None or measured is None or measured_live is None:
            return None
        return ((measured - measured_live) - (device - live)) / device

    @property
    def covered(self) -> bool | None:
        """Whether its device bytes stayed under the upper bound that placed it; None where that can't be said."""
        if self.ran_out:
            return False
        if not self.counts or self.measured_device_bytes is None or not self.projected_upper_bytes:
            return None
        return self.measured_device_bytes <= self.projected_upper_bytes

    def covered_part(self, part: Part) -> bool | None:
        """Whether one part of its device bytes stayed under its own bound; None where that can't be said.

        Of an attempt that ran out nobody saw which part it was.
        """
        live, whole = self.measured_allocated_bytes, self.measured_device_bytes
        bound, upper = self.projected_live_upper_bytes, self.projected_upper_bytes
        if not self.counts or self.ran_out or live is None or whole is None or bound is None or upper is None:
            return None
        return live <= bound if part == "live" else whole - live <= upper - bound

    @property
    def pace(self) -> float | None:
        """Measured step time over the projected one."""
        if not self.measured_step_s or not self.projected_step_s:
            return None
        return self.measured_step_s / self.projected_step_s


def incomparable(
    kind: CardKind, ran_out: bool, made_two: bool, card_bytes: int, upper_bytes: int
) -> str | None:
    """Why measured memory is not comparable with what was projected, one of INCOMPARABLE; None where it is.

    made_two: whether the attempt made two steps, which it takes to reach the peak, or ran out of memory on the way.
    card_bytes: what it had of its card; upper_bytes: what it was to stay under. On a CPU card that is roomy for it
    nobody can tell the peak from what malloc keeps.
    """
    if ran_out:
        return None
    if kind == "cpu" and roomy(card_bytes, upper_bytes):
        return ROOMY
    return None if made_two else NO_PEAK


def wanted(measured: float | None, card_bytes: int) -> float:
    """Device bytes that an attempt wanted at least that ran out of memory: more than there was."""
    return max(measured or 0, card_bytes)


def family_of(spec: JobSpec, config: Mapping[str, Any] | None = None) -> str:
    """The model_type; where neither the job nor `config` (of a local folder) tells it, the model's path.

    The trace of a model from a hub tells it later (MemoryProfile.model_type).
    """
    known = spec.model.config or config or {}
    return str(known.get("model_type") or spec.model.path)


def quantisation_of(method: str, config: Mapping[str, Any] | None = None) -> str:
    """How the base weights are packed: by the method, or before, as the config of its folder says; else "none"."""
    said = (config or {}).get("quantization_config")
    if isinstance(said, Mapping):
        if said.get("load_in_4bit"):
            return str(said.get("bnb_4bit_quant_type") or "fp4")
        kind = "int8" if said.get("load_in_8bit") else said.get("quant_method")
        if isinstance(kind, str) and kind:
            return kind
    return "nf4" if method == "qlora" else "none"


def stack_name(stack: Mapping[str, str]) -> str:
    """Library versions as one text."""
    return ",".join(f"{name}={version}" for name, version in sorted(stack.items()))
