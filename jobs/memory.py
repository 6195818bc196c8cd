"""project(profile, rung, ...) -> Projection: peak memory by named part, in closed form.

The segments that were traced on three layers (jobs/profile.py) are laid end to end for the whole depth: what is live
after each is a running sum, and the peak is the highest point on the way. That is why any mix of checkpointed and plain
layers comes out right: each layer brings the segments of its own kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from jobs.cards import Card
from jobs.errors import ProfileError
from jobs.profile import Line, MemoryProfile, Pass, Segment

PHASES = ("forward end", "loss", "backward", "optimizer step")
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
# Relative standard deviation of the projected device bytes, until calibration has measurements of the fleet itself.
# cuda: dry runs of this kind lay -4.7 to +2.3 % from published allocated peaks (six rows); taken as two deviations.
# cpu: see jobs/cards.py, where the runs behind it are described.
DEVIATION = {"cuda": 0.025, "cpu": 0.05}


@dataclass(frozen=True)
class Rung:
    """One step of the memory ladder.

    every_n: 0 is checkpointing off, 1 every layer, k every k-th layer; offload: what checkpointing saves is kept in host
    memory; micro_batch: sequences per GPU per forward pass; accumulation: micro-batches per optimizer step.
    """

    every_n: int
    micro_batch: int
    accumulation: int = 1
    offload: bool = False

    @property
    def label(self) -> str:
        names = {0: "off", 1: "every layer"}
        name = names.get(self.every_n, f"every {self.every_n} layers")
        return f"{name}{' + offload' if self.offload else ''}, {self.micro_batch}×{self.accumulation}"


@dataclass(frozen=True)
class Projection:
    """The projected peak of one process on one card.

    parts: bytes by PARTS at the peak, which add up to device_bytes; phase: when it is reached, one of PHASES.
    allocated_bytes: live tensors; reserved_bytes: with what the allocator holds beside them; device_bytes: with the context,
    as NVML shows it; upper_bytes: what device_bytes stays under with the asked confidence. step_s: one optimizer step.
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

    sequence_length: tokens per sequence, all of it used (the worst batch); world_size: ranks of data parallelism.
    """
    step = _Step(profile, rung, sequence_length, world_size, card)
    phase, parts = step.walk()
    allocated = sum(parts.values())
    moving = allocated - parts["weights"] - parts["adapters"] - parts["optimizer"] - parts["ddp_buffers"]
    parts["allocator"] = round(card.reserve_bytes + card.reserve_share * moving)
    reserved = allocated + parts["allocator"]
    parts["context"] = card.context_bytes + (card.distributed_bytes if world_size > 1 else 0)
    device = reserved + parts["context"]
    return Projection(
        rung=rung,
        parts={name: parts[name] for name in PARTS},
        phase=phase,
        allocated_bytes=allocated,
        reserved_bytes=reserved,
        device_bytes=device,
        upper_bytes=upper(device, confidence, card.kind),
        step_s=step.seconds(),
    )


class _Step:
    """One optimizer step: what is live after each segment, and how high each goes."""

    def __init__(self, profile: MemoryProfile, rung: Rung, length: int, world_size: int, card: Card) -> None:
        if min(rung.micro_batch, rung.accumulation, length, world_size) < 1 or rung.every_n < 0:
            raise ProfileError(f"no such rung: {rung} at length {length} on {world_size} ranks")
        self.profile, self.rung, self.card, self.world_size = profile, rung, card, world_size
        self.tokens = rung.micro_batch * length
        self.pairs = self.tokens**2 if profile.packed else rung.micro_batch * length**2
        from_length = profile.mask_from_length
        padded = profile.packed or rung.micro_batch > 1 or (from_length is not None and length >= from_length)
        self.off = profile.body(card.kind, padded, every=False)
        self.every = profile.body(card.kind, padded, every=True)
        self.loss = profile.loss(card.kind, self.tokens)
        self.base = self.every if rung.every_n else self.off

    def checkpointed(self, index: int) -> bool:
        return bool(self.rung.every_n) and index % self.rung.every_n == 0

    def name(self, index: int) -> str:
        if index == self.profile.layers - 1:
            return "last"
        return "layer" if index else "first"

    def segments(self, index: int) -> Pass:
        return self.every if self.checkpointed(index) else self.off

    def _at(self, line: Line) -> float:
        return line.at(self.tokens, self.pairs)

    def _delta(self, segment: Segment) -> float:
        return self._at(segment.delta)

    def _gradients(self, segment: Segment) -> float:
        """Gradients that stay from this segment: none when an earlier micro-batch has left them already."""
        return segment.gradients if self.rung.accumulation == 1 else 0.0

    def walk(self) -> tuple[str, dict[str, int]]:
        """The binding phase, and the parts that are live at its highest point."""
        profile, layers = self.profile, self.profile.layers
        accumulating = self.rung.accumulation > 1
        ddp = profile.trained_bytes if self.world_size > 1 else 0
        resting = profile.weight_bytes + profile.adapter_bytes + profile.optimizer_bytes + ddp
        gradients = float(profile.trained_bytes if accumulating else 0)
        whole = profile.trained_bytes
        best = _Moment(PHASES[3], resting + whole, whole, 0.0, 0.0, 0.0)

        before = self._delta(self.base["before"])
        live = resting + gradients
        boundaries, activations, loss_held = 0.0, before, 0.0

        def reach(phase: str, height: float, in_loss: float = 0.0) -> None:
            nonlocal best
            if live + height > best.total:
                best = _Moment(phase, live + height, gradients, activations, boundaries, in_loss)

        def peak(segment: Segment) -> float:
            return segment.peak(self.tokens, self.pairs)

        reach(PHASES[0], peak(self.base["before"]))
        live += before
        held: list[float] = []
        for index in range(layers):
            name, found = self.name(index), self.segments(index)
            kept, spill = self._delta(found[name]), 0.0
            if self.rung.offload and self.checkpointed(index):
                kept, spill = 0.0, max(kept, 0.0)  # goes to the host as the next layer begins
            reach(PHASES[0], peak(found[name]) + spill)
            live += kept
            held.append(kept)
            boundaries, activations = (
                (boundaries + kept, activations)
                if self.checkpointed(index)
                else (boundaries, activations + kept)
            )
        for name in ("loss", "loss_backward"):
            segment = self.segments(layers - 1)[name]
            shared = self._at(self.base[name].of_before)
            height = peak(self.loss[name]) + shared - self._at(self.loss[name].of_before)
            reach(PHASES[1], height, height + loss_held)
            returned = 0.0
            for index in range(1, layers - 1):
                back = self._at(self.segments(index)[name].of_layer)
                held[index] += back
                returned += back
                if self.checkpointed(index):
                    boundaries += back
                else:
                    activations += back
            activations += shared
            own = (
                self._delta(segment)
                - self._at(segment.of_layer)
                - self._at(segment.of_before)
                - segment.gradients
            )
            loss_held += own
            live += own + shared + returned + self._gradients(segment)
            gradients += self._gradients(segment)
        for index in reversed(range(layers)):
            segment = self.segments(index)[f"{self.name(index)}_backward"]
            spill = 0.0
            if self.rung.offload and self.checkpointed(index):
                spill = max(self._delta(self.every[self.name(index)]), 0.0)  # comes back from the host
            reach(PHASES[2], peak(segment) + spill)
            live += self._delta(segment) + spill - segment.gradients + self._gradients(segment)
            gradients += self._gradients(segment)
            if self.checkpointed(index):
                boundaries -= held[index]
            else:
                activations -= held[index]
        reach(PHASES[2], peak(self.base["after"]))
        return best.phase, best.parts(profile, ddp)

    def seconds(self) -> float:
        """Roofline: arithmetic, or the memory traffic of reading and writing what is live, whichever takes longer."""
        flops = 0.0
        for name in ("before", "loss", "loss_backward", "after"):
            flops += (self.loss if name in ("loss", "loss_backward") else self.base)[name].flops.at(
                self.tokens, self.pairs
            )
        for index in range(self.profile.layers):
            found = self.segments(index)
            for name in (self.name(index), f"{self.name(index)}_backward"):
                flops += found[name].flops.at(self.tokens, self.pairs)
        profile = self.profile
        weights = profile.weight_bytes + profile.adapter_bytes
        kept = self._delta(self.off["layer"]) * profile.layers
        checkpointed = sum(map(self.checkpointed, range(profile.layers))) / profile.layers
        traffic = weights * (2 + checkpointed) + 2 * kept * (1 + checkpointed)
        micro = max(flops / self.card.flops, traffic / self.card.bandwidth_bytes_s)
        if self.rung.offload and self.rung.every_n:
            boundary = max(self._delta(self.every["layer"]), 0.0) * checkpointed * profile.layers
            micro += 2 * boundary / HOST_LINK_BYTES_S
        update = 3 * (profile.optimizer_bytes + profile.trained_bytes) / self.card.bandwidth_bytes_s
        return micro * self.rung.accumulation + update


HOST_LINK_BYTES_S = 12e9  # pinned copies over PCIe 3 x16, the slowest link among the cards of the catalogue


@dataclass(frozen=True)
class _Moment:
    phase: str
    total: float
    gradients: float
    activations: float
    boundaries: float
    loss: float

    def parts(self, profile: MemoryProfile, ddp: int) -> dict[str, int]:
        """Whole bytes by part. What no part claims is transient; where parts claim too much, activations give way."""
        named = {
            "weights": profile.weight_bytes,
            "adapters": profile.adapter_bytes,
            "optimizer": profile.optimizer_bytes,
            "ddp_buffers": ddp,
            "gradients": round(self.gradients),
            "boundaries": max(0, round(self.boundaries)),
            "logits_and_loss": max(0, round(self.loss)),
            "activations": max(0, round(self.activations)),
        }
        rest = round(self.total) - sum(named.values())
        for name in ("activations", "boundaries", "logits_and_loss"):
            if rest < 0:
                given = min(named[name], -rest)
                named[name] -= given
                rest += given
        return {**named, "transients": max(0, rest)}
