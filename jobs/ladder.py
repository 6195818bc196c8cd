"""Rungs of the memory ladder, and choose(): the fastest that fits a card."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.cards import Card
from jobs.memory import Projection, Rung, project
from jobs.profile import MemoryProfile
from jobs.spec import JobSpec
from jobs.state import Code, Reason
from jobs.units import gib


@dataclass(frozen=True)
class Tried:
    """A rung that was looked at. relative_time: its projected step against the fastest rung without checkpointing."""

    rung: Rung
    projection: Projection
    fits: bool
    relative_time: float


@dataclass(frozen=True)
class Choice:
    """The rung that a job runs on. slowdown: projected, 0.2 is 20 % slower than without checkpointing."""

    rung: Rung
    projection: Projection
    slowdown: float
    tried: tuple[Tried, ...]


@dataclass(frozen=True)
class NoFit:
    """No rung fits. smallest: the projection that comes nearest."""

    reason: Reason
    tried: tuple[Tried, ...]
    smallest: Projection


def rungs(spec: JobSpec) -> list[Rung]:
    """Every rung the job file allows. Accumulation makes up the batch, so that the global batch never changes."""
    batch = spec.batch_per_gpu
    wanted = spec.memory.micro_batch
    sizes = [wanted] if isinstance(wanted, int) else [k for k in range(batch, 0, -1) if batch % k == 0]
    offload = spec.memory.offload is True
    return [
        Rung(every_n, size, batch // size, offload and every_n > 0)
        for every_n in _every_n(spec)
        for size in sizes
    ]


def _every_n(spec: JobSpec) -> list[int]:
    wanted = spec.memory.checkpointing
    if isinstance(wanted, dict):
        return [wanted["every_n"]]
    return {"off": [0], "every_layer": [1], "auto": [1] if spec.memory.offload is True else [0, 1]}[wanted]


def choose(profile: MemoryProfile, spec: JobSpec, card: Card) -> Choice | NoFit:
    """The fastest rung whose upper bound fits; among equals the larger micro-batch, then less checkpointing."""

    def projected(rung: Rung) -> Projection:
        return project(
            profile,
            rung,
            sequence_length=spec.training.sequence_length,
            world_size=spec.resources.gpus,
            card=card,
            confidence=spec.memory.confidence,
        )

    batch = spec.batch_per_gpu
    sizes = {rung.micro_batch for rung in rungs(spec)}
    fastest_s = min(projected(Rung(0, size, batch // size)).step_s for size in sizes)
    tried = tuple(
        sorted(
            (
                Tried(rung, found, found.upper_bytes <= card.memory_bytes, found.step_s / fastest_s)
                for rung in rungs(spec)
                for found in [projected(rung)]
            ),
            key=lambda entry: (round(entry.relative_time, 3), -entry.rung.micro_batch, entry.rung.every_n),
        )
    )
    smallest = min((entry.projection for entry in tried), key=lambda found: found.upper_bytes)
    if card.kind == "cpu" and spec.memory.offload is True:
        text = "offload needs a card with memory of its own; a CPU card's is the host's"
        return NoFit(Reason(Code.NO_CARD, text), tried, smallest)
    for entry in tried:
        if entry.fits:
            return Choice(entry.rung, entry.projection, entry.relative_time - 1, tried)
    return NoFit(_reason(smallest, card), tried, smallest)


def _reason(smallest: Projection, card: Card) -> Reason:
    largest = sorted(smallest.parts.items(), key=lambda part: -part[1])[:3]
    parts = ", ".join(f"{name.replace('_', ' ')} {gib(count)}" for name, count in largest if count)
    needs, has = gib(smallest.upper_bytes), gib(card.memory_bytes)
    text = f"needs at least {needs} ({smallest.rung.label}), the card has {has}; {parts}"
    figures = {
        "needs_bytes": smallest.upper_bytes,
        "card_bytes": card.memory_bytes,
        "missing_bytes": smallest.upper_bytes - card.memory_bytes,
        "phase": smallest.phase,
    }
    return Reason(Code.MEMORY, text, figures)
