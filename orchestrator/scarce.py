"""Cards that only some of the waiting jobs can use: others leave them alone while they have an alternative."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from orchestrator.kinds import Kind
from orchestrator.order import Ranked, Rules, since
from orchestrator.stock import Spot, Stock


@dataclass
class _Reach:
    """Shelves that some kinds of waiting jobs can use, all of them and no other. wanted: GPUs by priority."""

    shelves: frozenset[int]
    free: int
    wanted: Counter[int] = field(default_factory=Counter)


class Scarce:
    """How many cards each reach has free, and how many are asked for by jobs that can go nowhere else."""

    def __init__(self, stock: Stock, rules: Rules, now: float) -> None:
        self.stock, self.rules, self.now = stock, rules, now
        self._reaches: dict[frozenset[int], _Reach] = {}
        self._of_shelf: dict[int, list[_Reach]] = {}
        self._narrower: dict[int, list[_Reach]] = {}

    def wants(self, entry: Ranked, kind: Kind) -> None:
        """A job waits."""
        reach = self._reaches.get(kind.shelves)
        if reach is None:
            free = sum(len(self.stock.free[place]) for place in kind.shelves)
            reach = self._reaches[kind.shelves] = _Reach(kind.shelves, free)
            for place in kind.shelves:
                self._of_shelf.setdefault(place, []).append(reach)
        reach.wanted[entry.job.priority] += kind.gpus

    @property
    def uniform(self) -> bool:
        """Whether all jobs can use the same cards, so that none are scarce."""
        return len(self._reaches) < 2

    def served(self, entry: Ranked, kind: Kind, spot: Spot | None) -> None:
        """A job waits no more for cards; spot: what it drew."""
        self._reaches[kind.shelves].wanted[entry.job.priority] -= kind.gpus
        if spot is not None and not spot.side:
            for place, gpus in spot.parts:
                for reach in self._of_shelf.get(place, ()):
                    reach.free -= len(gpus)

    def barred(self, entry: Ranked, kind: Kind) -> frozenset[int]:
        """Shelves that a job leaves to those that can go nowhere else.

        For a while only, and not to lower priorities: the order of the queue counts for more in the end.
        """
        if self.uniform or len(kind.tiers) < 2 or self.now - since(entry.job) >= self.rules.yield_s:
            return frozenset()
        narrower = self._narrower.get(id(kind))
        if narrower is None:
            narrower = [reach for reach in self._reaches.values() if reach.shelves < kind.shelves]
            self._narrower[id(kind)] = narrower
        found: frozenset[int] = frozenset()
        for reach in narrower:
            wanted = sum(
                gpus for priority, gpus in reach.wanted.items() if priority >= entry.job.priority and gpus > 0
            )
            if wanted and reach.free - kind.gpus < wanted:
                found |= reach.shelves
        return found
