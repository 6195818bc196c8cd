"""project(profile, rung, ...) -> Projection: peak memory by named part, in closed form.

jobs/timeline.py lays the traced segments end to end for the whole depth; the peak is the highest point on the
way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from jobs.cards import Card
from jobs.errors import ProfileError
from jobs.profile import MemoryProfile
from jobs.rung import Rung as Rung  # so that Rung is also to be had from here
from jobs.timeline import PHASES as PHASES
from jobs.timeline import Moment, Timeline

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
)
# Relative standard deviation of the projected device bytes, until calibration has measurements of the fleet
# itself. cuda: dry runs of this kind lay -4.7 to +2.3 % from published allocated peaks (six rows); taken as
# two deviations. cpu: see jobs/cards.py, where the runs behind it are described.
DEVIATION = {"cuda": 0.025, "cpu": 0.05}
HOST_LINK_BYTES_S = 12e9  # pinned copies over PCIe 3 x16, the slowest link among the cards of the catalogue


@dataclass(frozen=True)
class Projection:
    """The projected peak of one process on one card.

    parts: bytes by PARTS at the peak, which add up to device_bytes; phase: when it is reached, one of PHASES.
    allocated_bytes: live tensors; reserved_bytes: with what the allocator holds beside them; device_bytes:
    with the context, as NVML shows it; upper_bytes: what device_bytes stays under with the asked confidence.
    step_s: one optimizer step.
    """

    rung: Rung
    parts: dict[str, int]
    phase: str
    allocated_bytes: int
    reserved_bytes: int
    device_bytes: int
    upper_bytes: int
    step_s: float

    def as_dict(self) -> dict[str, Any]:
        made = {name: getattr(self, name) for name in self.__dataclass_fields__}
        made["rung"] = {**vars(self.rung), "label": self.rung.label}
        return {**made, "parts": dict(self.parts)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Projection:
        rung = {name: value["rung"][name] for name in Rung.__dataclass_fields__}
        return cls(
            **{name: value[name] for name in cls.__dataclass_fields__ if name != "rung"}, rung=Rung(**rung)
        )


def upper(device_bytes: int, confidence: float, kind: str) -> int:
    """What the device bytes stay under with this confidence, before there is a calibration."""
    return round(device_bytes * (1 + DEVIATION[kind] * max(0.0, NormalDist().inv_cdf(confidence))))


def project(
    profile: MemoryProfile,
    rung: Rung,
    *,
    sequence_length: int,
    world_size: int = 1,
    card: Card,
    confidence: float = 0.95,
) -> Projection:
    """The peak and the time of one optimizer step at this rung on this card. Raises ProfileError.

    sequence_length: tokens per sequence, all of it used (the worst batch); world_size: ranks of data
    parallelism.
    """
    if world_size < 1:
        raise ProfileError(f"a step needs at least one rank, not {world_size}")
    timeline = Timeline(profile, rung, sequence_length, card.kind)
    moments = list(timeline.moments())
    highest = max(moments, key=lambda moment: moment.live)
    parts = _parts(profile, highest, world_size)
    allocated = sum(parts.values())
    small = max(moment.live - moment.loss for moment in moments)
    parts["allocator"] = card.reserve(small, profile.adapter_bytes > 0)
    reserved = allocated + parts["allocator"]
    parts["context"] = card.context_bytes + (card.distributed_bytes if world_size > 1 else 0)
    device = reserved + parts["context"]
    return Projection(
        rung=rung,
        parts={name: parts[name] for name in PARTS},
        phase=highest.phase,
        allocated_bytes=allocated,
        reserved_bytes=reserved,
        device_bytes=device,
        upper_bytes=upper(device, confidence, card.kind),
        step_s=_seconds(timeline, card),
    )


def _parts(profile: MemoryProfile, moment: Moment, world_size: int) -> dict[str, int]:
    """Whole bytes by part. What no part claims is transient; where parts claim too much, activations give way."""
    named = {
        "gradients": round(moment.gradients),
        "boundaries": max(0, round(moment.boundaries)),
        "logits_and_loss": max(0, round(moment.loss)),
        "activations": max(0, round(moment.activations)),
    }
    rest = round(moment.live) - sum(named.values())
    for name in ("activations", "boundaries", "logits_and_loss"):
        given = min(named[name], max(0, -rest))
        named[name] -= given
        rest += given
    return {
        "weights": profile.weight_bytes,
        "adapters": profile.adapter_bytes,
        "optimizer": profile.optimizer_bytes,
        # DDP's buckets: a second copy of every gradient (gradient_as_bucket_view is off in accelerate by
        # default).
        "ddp_buffers": profile.trained_bytes if world_size > 1 else 0,
        **named,
        "transients": rest,
    }


def _seconds(timeline: Timeline, card: Card) -> float:
    """Roofline of one optimizer step: arithmetic or memory traffic, whichever takes longer, then the update."""
    micro = max(timeline.flops() / card.flops, timeline.touched_bytes() / card.bandwidth_bytes_s)
    micro += 2 * timeline.offloaded_bytes() / HOST_LINK_BYTES_S
    profile = timeline.profile
    update = 3 * (profile.optimizer_bytes + profile.trained_bytes) / card.bandwidth_bytes_s
    return micro * timeline.rung.accumulation + update
