"""Card groups: the cards of one type on one host. Host classes: hosts that are alike. Layout: all of a fleet."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from jobs.memory.ladder import Choice
from orchestrator.scheduler.fleet import Gpu, Host


@dataclass(frozen=True, slots=True)
class CardGroup:
    """The usable cards of one type on one host."""

    host: Host
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True)
class CardSet:
    """Cards for a job: pairs of card group and cards, and the rung there. side: among the shared, beside others."""

    parts: tuple[tuple[int, tuple[Gpu, ...]], ...]
    choice: Choice
    side: bool = False

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return tuple(gpu for _, gpus in self.parts for gpu in gpus)


@dataclass(frozen=True, slots=True)
class HostClass:
    """Hosts that a job fits in the same way or not at all, and their card groups by name and memory of the card.

    key: what they have in common.
    """

    key: Hashable
    first: Host
    host_ids: tuple[int, ...]
    names: tuple[str, ...]
    groups: Mapping[tuple[str, int], tuple[int, ...]]


def host_class_key(host: Host) -> Hashable:
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
    """The usable cards of a fleet by card group, and its hosts by class. Nothing in it changes once it is made.

    hosts: oldest first; sizes: cards of each card group; group_of, gpu_of: by the id of a card.
    """

    hosts: tuple[Host, ...]
    groups: list[CardGroup] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    group_of: dict[int, int] = field(default_factory=dict)
    gpu_of: dict[int, Gpu] = field(default_factory=dict)
    host_classes: list[HostClass] = field(default_factory=list)
    _groups_of: dict[tuple[int, ...], tuple[tuple[int, int], ...]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @classmethod
    def of(cls, hosts: Sequence[Host]) -> Layout:
        made = cls(tuple(sorted(hosts, key=lambda host: host.id)))
        classes: dict[Hashable, list[Host]] = {}
        for host in made.hosts:
            classes.setdefault(host_class_key(host), []).append(host)
            made._add(host)
        made.host_classes = [made._host_class(key, members) for key, members in classes.items()]
        return made

    def groups_of(self, gpu_ids: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """The card groups of a job's cards, each with how many are on it."""
        found = self._groups_of.get(gpu_ids)
        if found is None:
            counts: dict[int, int] = {}
            for gpu_id in gpu_ids:
                if (group := self.group_of.get(gpu_id)) is not None:
                    counts[group] = counts.get(group, 0) + 1
            found = self._groups_of[gpu_ids] = tuple(counts.items())
        return found

    def _add(self, host: Host) -> None:
        types: dict[tuple[str, int], list[Gpu]] = {}
        for gpu in host.gpus:
            if gpu.usable:
                types.setdefault((gpu.name, gpu.memory_bytes), []).append(gpu)
        for gpus in types.values():
            group = len(self.groups)
            self.groups.append(CardGroup(host, tuple(gpus)))
            self.sizes.append(len(gpus))
            for gpu in gpus:
                self.group_of[gpu.id] = group
                self.gpu_of[gpu.id] = gpu

    def _host_class(self, key: Hashable, hosts: Sequence[Host]) -> HostClass:
        groups: dict[tuple[str, int], list[int]] = {}
        for host in hosts:
            for group in dict.fromkeys(self.group_of[gpu.id] for gpu in host.gpus if gpu.usable):
                first = self.groups[group].gpus[0]
                groups.setdefault((first.name, first.memory_bytes), []).append(group)
        return HostClass(
            key,
            hosts[0],
            tuple(host.id for host in hosts),
            tuple(host.name for host in hosts),
            {kind: tuple(found) for kind, found in groups.items()},
        )
