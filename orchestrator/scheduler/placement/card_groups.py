"""Shelves: the cards of one type on one host; hosts that are alike, and their shelves."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from jobs.memory.ladder import Choice
from orchestrator.scheduler.fleet import Gpu, Host


@dataclass(frozen=True, slots=True)
class Shelf:
    """The usable cards of one type on one host."""

    host: Host
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True)
class Spot:
    """Cards for a job: pairs of shelf and cards, and the rung there. side: among the shared, beside others."""

    parts: tuple[tuple[int, tuple[Gpu, ...]], ...]
    choice: Choice
    side: bool = False

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return tuple(gpu for _, gpus in self.parts for gpu in gpus)


@dataclass(frozen=True, slots=True)
class Alike:
    """Hosts that a job fits in the same way or not at all, and their shelves by name and memory of the card."""

    number: int
    first: Host
    names: tuple[str, ...]
    shelves: Mapping[tuple[str, int], tuple[int, ...]]


def sameness(host: Host) -> Hashable:
    """What of a host an option depends on."""
    return (
        *(
            host.online,
            host.left,
            host.drained,
            host.fault,
            host.ray_ready,
            host.stack_id,
            tuple(sorted(host.labels.items())),
        ),
        tuple((gpu.name, gpu.memory_bytes, gpu.kind, gpu.price, gpu.usable) for gpu in host.gpus),
    )
