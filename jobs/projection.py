"""Projection: what one process takes of one card, by phase and by named part, with what it may come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Protocol

from jobs.errors import ProfileError
from jobs.profile import CardKind
from jobs.rung import Rung

PARTS = (
    "weights",
    "adapters",
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
# What can be the highest, in the order of a run. Checkpointing bears on the second to the fourth only.
PHASES = LOAD, FORWARD, LOSS, BACKWARD, UPDATE, EVALUATION, SAVE = (
    "load",
    "forward end",
    "loss",
    "backward",
    "optimizer step",
    "evaluation",
    "save",
)
# Relative standard deviation of the projected device bytes, until calibration has measurements of the fleet
# itself. cuda: dry runs of this kind lay -4.7 to +2.3 % from published allocated peaks (six rows); taken as
# two deviations. cpu: see jobs/cards.py, where the runs behind it are described.
DEVIATION = {"cuda": 0.025, "cpu": 0.05}


@dataclass(frozen=True)
class Margin:
    """How far measured bytes lie from projected ones: measured / projected - 1 is from low to high.

    At the confidence that was asked for, on each side. count: measurements behind it; group: what they have in
    common, "prior" where there are none.
    """

    low: float
    high: float
    count: int
    group: str


def error(projected: float | None, measured: float | None) -> float | None:
    """The error of a projection: measured / projected - 1, so that +0.03 took 3% more than projected.

    The one that `show`, `accuracy` and calibration speak of. None where either is missing.
    """
    return None if not projected or not measured else measured / projected - 1


def prior(kind: CardKind, confidence: float) -> Margin:
    """The margin before there is a calibration. Raises ProfileError unless confidence is between 0 and 1."""
    if not 0 < confidence < 1:
        raise ProfileError(f"confidence is between 0 and 1, not {confidence}; 0.95 is usual")
    reach = DEVIATION[kind] * max(0.0, NormalDist().inv_cdf(confidence))
    return Margin(-reach, reach, 0, "prior")


class Details(Protocol):
    """Many projections' parts and phases, to be made of one when somebody asks."""

    def of(self, index: int) -> dict[str, dict[str, int]]:
        """{"parts": .., "phases": ..} of one of them."""


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
    parts: dict[str, int]
    phase: str
    allocated_bytes: int
    reserved_bytes: int
    device_bytes: int
    upper_bytes: int
    step_s: float
    margin: Margin | None = None
    phases: dict[str, int] = field(default_factory=dict)
    checkpointing_helps: bool = True
    notes: tuple[str, ...] = ()

    @classmethod
    def of_fields(cls, values: dict[str, Any], details: Details, index: int) -> Projection:
        """A projection that has this mapping for its fields, all of them there but parts and phases.

        Those come from details, once they are asked for: a plan looks at dozens of projections and shows few. A frozen
        class's own way takes one call for each field: longer than to work the projection out.
        """
        made = object.__new__(cls)
        values["_details"] = (details, index)
        object.__setattr__(made, "__dict__", values)
        return made

    if not TYPE_CHECKING:  # it would hide misspelt names from mypy

        def __getattr__(self, name: str) -> Any:
            """What of_fields left out. Two threads may ask at once: details go when what they hold is there."""
            own = self.__dict__
            if name in ("parts", "phases") and (late := own.get("_details")) is not None:
                details, index = late
                own.update(details.of(index))
                own.pop("_details", None)
            if name not in own:
                raise AttributeError(f"a projection has no {name}")
            return own[name]

    @property
    def intervals(self) -> dict[str, tuple[int, int]]:
        """Lowest and highest "allocated", "reserved" and "device" bytes that the margin leaves room for."""
        low, high = (0.0, 0.0) if self.margin is None else (self.margin.low, self.margin.high)
        return {
            name: (round(count * (1 + low)), round(count * (1 + high)))
            for name, count in (
                ("allocated", self.allocated_bytes),
                ("reserved", self.reserved_bytes),
                ("device", self.device_bytes),
            )
        }

    def as_dict(self) -> dict[str, Any]:
        made: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        made["rung"] = {**vars(self.rung), "label": self.rung.label}
        made["margin"] = None if self.margin is None else dict(vars(self.margin))
        made["intervals"] = {name: list(ends) for name, ends in self.intervals.items()}
        return {**made, "parts": dict(self.parts), "phases": dict(self.phases), "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Projection:
        made = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        made["rung"] = Rung(**{name: value["rung"][name] for name in Rung.__dataclass_fields__})
        made["margin"] = Margin(**value["margin"]) if value.get("margin") else None
        made["notes"] = tuple(value.get("notes", ()))
        return cls(**made)
