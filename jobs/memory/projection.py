"""Projection: what one process takes of one card, by phase and by named part, with what it may come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any, Protocol

from jobs.cards import Allocator, CardKind
from jobs.errors import ProfileError
from jobs.memory.allocator.residuals import RESIDUALS, ROUGH
from jobs.memory.rung import Rung

PARTS = (
    "weights",
    "adapters",
    "reference",
    "gradients",
    "optimizer",
    "activations",
    "boundaries",
    "logits_and_loss",
    "transients",
    "ddp_buffers",
    "allocator",
    "context",
    "nccl",
)
# What can be the highest, in the order of a run. Checkpointing bears on the second to the fifth only.
PHASES = LOAD, FORWARD, LOSS, REFERENCE, BACKWARD, UPDATE, EVALUATION, SAVE = (
    "load",
    "forward end",
    "loss",
    "reference",
    "backward",
    "optimizer step",
    "evaluation",
    "save",
)
# Relative standard deviation of the projected device bytes where live bytes and what stands beside them are not told
# apart. cuda: dry runs of this kind lay -4.7 to +2.3 % from published allocated peaks (six rows); taken as two
# deviations. cpu: see jobs/cards.py, where the runs behind it are described.
DEVIATION = {"cuda": 0.025, "cpu": 0.05}


@dataclass(frozen=True)
class Margin:
    """How far measured bytes lie from projected ones: measured / projected - 1 is from low to high.

    At the confidence that was asked for, on each side. beside: what stands on the card beside live bytes (the
    allocator's reserve, context, NCCL) has an interval of its own, this one: (measured - projected) / projected device
    bytes. low and high are then those of live bytes; None: they are of device bytes as a whole. Each of two intervals
    is passed with half the risk, so that their ends together are passed with no more than all of it, however the two
    go together. count: measurements behind it; group: what they have in common, "prior" where there are none.
    """

    low: float
    high: float
    count: int
    group: str
    beside: tuple[float, float] | None = None

    @property
    def shares(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """(low, high) end of device bytes beyond the projection: shares of live bytes, and of device bytes."""
        return ((self.low, self.high), self.beside) if self.beside else ((0.0, 0.0), (self.low, self.high))

    @property
    def least(self) -> float:
        """What an upper bound is above its projection at least."""
        return self.shares[1][1]

    def at_least(self, other: Margin) -> Margin:
        """The same, no narrower than another."""
        (low, high), beside = (self.low, self.high), self.beside
        if beside is None or other.beside is None:
            return self
        wide = min(beside[0], other.beside[0]), max(beside[1], other.beside[1])
        return replace(self, low=min(low, other.low), high=max(high, other.high), beside=wide)

    def live_at(self, end: int, live: int) -> int:
        """The low (0) or high (1) end of so many projected live bytes."""
        return round(live * (1 + (self.low, self.high)[end]))

    def bytes_at(self, end: int, live: int, device: int, projected: int) -> int:
        """The same of `projected` bytes that are all live ones and some beside them, of so many on the device."""
        of_live, of_device = (shares[end] for shares in self.shares)
        # The reserve's error is a share of the device's bytes; the whole's one of what was projected.
        return round(projected + of_live * live + of_device * (device if self.beside else projected))


def error(projected: float | None, measured: float | None) -> float | None:
    """The error of a projection: measured / projected - 1, so that +0.03 took 3% more than projected.

    The one that `show`, `accuracy` and calibration speak of. None where either is missing.
    """
    return None if not projected or not measured else measured / projected - 1


def prior(
    kind: CardKind, confidence: float, allocator: Allocator = "", alike: bool = False, rough: bool = False
) -> Margin:
    """The margin before there is a calibration. Raises ProfileError unless confidence is between 0 and 1.

    allocator: Card.allocator, of which the residuals on the CUDA double are known
    (jobs/memory/allocator/residuals.py); alike: all batches are of one length; rough: by terms alone, where the default
    allocator could be simulated.
    """
    if not 0 < confidence < 1:
        raise ProfileError(f"confidence is between 0 and 1, not {confidence}; 0.95 is usual")
    if allocator:
        lengths = "alike" if alike else "varied"
        known = ROUGH[lengths] if rough else RESIDUALS[allocator, lengths]
        live, beside = known.at(half_the_risk(confidence))
        return Margin(*live, 0, "prior", beside)
    reach = DEVIATION[kind] * max(0.0, NormalDist().inv_cdf(confidence))
    return Margin(-reach, reach, 0, "prior")


def half_the_risk(confidence: float) -> float:
    """What each of two bounds must hold with, so that both hold with this confidence (Bonferroni's inequality)."""
    return 1 - (1 - confidence) / 2


class Details(Protocol):
    """Many projections' parts and phases, to be made of one when somebody asks."""

    def of(self, index: int) -> dict[str, dict[str, int]]:
        """{"parts": .., "phases": ..} of one of them."""


class Breakdown(Mapping[str, int]):
    """Parts or phases of one of many projections, in bytes, worked out when somebody looks at them.

    A plan compares dozens of projections by their peaks and shows the parts of few.
    """

    def __init__(self, details: Details, index: int, name: str) -> None:
        self._details, self._index, self._name = details, index, name

    @cached_property
    def _found(self) -> dict[str, int]:
        return self._details.of(self._index)[self._name]

    def __getitem__(self, key: str) -> int:
        return self._found[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return repr(self._found)


@dataclass(frozen=True)
class Projection:
    """The projected peak of one process on one card.

    parts: bytes by PARTS at the peak, which add up to device_bytes; phase: when it is reached, one of PHASES.
    allocated_bytes: live tensors; reserved_bytes: with what the allocator holds beside them; device_bytes:
    with the context, as NVML shows it; upper_bytes: what device_bytes stays under with the asked confidence.
    step_s: one optimizer step. margin: where upper_bytes and intervals come from; phases: allocated bytes at the
    highest moment of each phase; checkpointing_helps: checkpointing more layers would lower the peak, which it can't
    where no layer without it holds anything at that moment; notes: what a reader of the figures must know.
    Projections stored by earlier versions lack these four.
    """

    rung: Rung
    parts: Mapping[str, int]
    phase: str
    allocated_bytes: int
    reserved_bytes: int
    device_bytes: int
    upper_bytes: int
    step_s: float
    margin: Margin | None = None
    phases: Mapping[str, int] = field(default_factory=dict)
    checkpointing_helps: bool = True
    notes: tuple[str, ...] = ()

    @classmethod
    def of_fields(cls, values: dict[str, Any]) -> Projection:
        """A projection that has this mapping for its fields, all of them there.

        A frozen class's own way takes one call for each field: longer than to work the projection out.
        """
        made = object.__new__(cls)
        object.__setattr__(made, "__dict__", values)
        return made

    @property
    def intervals(self) -> dict[str, tuple[int, int]]:
        """Lowest and highest "allocated", "reserved" and "device" bytes that the margin leaves room for."""
        margin, live, device = self.margin or Margin(0.0, 0.0, 0, ""), self.allocated_bytes, self.device_bytes
        made = {"allocated": (margin.live_at(0, live), margin.live_at(1, live))}
        for name, count in (("reserved", self.reserved_bytes), ("device", device)):
            made[name] = (margin.bytes_at(0, live, device, count), margin.bytes_at(1, live, device, count))
        return made

    def as_dict(self) -> dict[str, Any]:
        made: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        made["rung"] = {**vars(self.rung), "label": self.rung.label}
        made["margin"] = None if self.margin is None else dict(vars(self.margin))
        made["intervals"] = {name: list(ends) for name, ends in self.intervals.items()}
        return {**made, "parts": dict(self.parts), "phases": dict(self.phases), "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Projection:
        made = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        made["rung"] = Rung(
            **{name: value["rung"][name] for name in Rung.__dataclass_fields__ if name in value["rung"]}
        )
        made["margin"] = None
        if margin := value.get("margin"):
            beside = margin.get("beside")
            made["margin"] = Margin(**{**margin, "beside": None if beside is None else tuple(beside)})
        made["notes"] = tuple(value.get("notes", ()))
        return cls(**made)
