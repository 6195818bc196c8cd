"""Shelves: the cards of one type on one host; hosts that are alike, and their shelves; all of a fleet."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from jobs.memory.ladder import Choice
from orchestrator.scheduler.fleet import Gpu, Host


@dataclass(frozen=True, slots=True)
class Shelf:
    """The usable cards of one type on one host."""

    host: Host
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True)
class CardSet:
    """Cards for a job: pairs of shelf and cards, and the rung there. side: among the shared, beside others."""

    parts: tuple[tuple[int, tuple[Gpu, ...]], ...]
    choice: Choice
    side: bool = False

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return tuple(gpu for _, gpus in self.parts for gpu in gpus)


@dataclass(frozen=True, slots=True)
class Alike:
    """Hosts that a job fits in the same way or not at all, and their shelves by name and memory of the card.

    sameness: what is the same of them.
    """

    sameness: Hashable
    first: Host
    host_ids: tuple[int, ...]
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


@dataclass
class Layout:
    """The usable cards of a fleet by shelf, and which of its hosts are alike: nothing in it changes once it is made.

    hosts: oldest first; sizes: cards of each shelf; shelf_of, gpu_of: by the id of a card.
    """

    hosts: tuple[Host, ...]
    shelves: list[Shelf] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    shelf_of: dict[int, int] = field(default_factory=dict)
    gpu_of: dict[int, Gpu] = field(default_factory=dict)
    alike: list[Alike] = field(default_factory=list)
    _places: dict[tuple[int, ...], tuple[tuple[int, int], ...]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @classmethod
    def of(cls, hosts: Sequence[Host]) -> Layout:
        made = cls(tuple(sorted(hosts, key=lambda host: host.id)))
        groups: dict[Hashable, list[Host]] = {}
        for host in made.hosts:
            groups.setdefault(sameness(host), []).append(host)
            made._add(host)
        made.alike = [made._group(key, members) for key, members in groups.items()]
        return made

    def places(self, gpu_ids: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The shelves of a job's cards, each with how many are on it."""
        found = self._places.get(gpu_ids)
        if found is None:
            counts: dict[int, int] = {}
            for gpu_id in gpu_ids:
                if (place := self.shelf_of.get(gpu_id)) is not None:
                    counts[place] = counts.get(place, 0) + 1
            found = self._places[gpu_ids] = tuple(counts.items())
        return found

    def _add(self, host: Host) -> None:
        types: dict[tuple[str, int], list[Gpu]] = {}
        for gpu in host.gpus:
            if gpu.usable:
                types.setdefault((gpu.name, gpu.memory_bytes), []).append(gpu)
        for group in types.values():
            place = len(self.shelves)
            self.shelves.append(Shelf(host, tuple(group)))
            self.sizes.append(len(group))
            for gpu in group:
                self.shelf_of[gpu.id] = place
                self.gpu_of[gpu.id] = gpu

    def _group(self, key: Hashable, hosts: Sequence[Host]) -> Alike:
        shelves: dict[tuple[str, int], list[int]] = {}
        for host in hosts:
            for place in dict.fromkeys(self.shelf_of[gpu.id] for gpu in host.gpus if gpu.usable):
                first = self.shelves[place].gpus[0]
                shelves.setdefault((first.name, first.memory_bytes), []).append(place)
        return Alike(
            key,
            hosts[0],
            tuple(host.id for host in hosts),
            tuple(host.name for host in hosts),
            {kind: tuple(places) for kind, places in shelves.items()},
        )
