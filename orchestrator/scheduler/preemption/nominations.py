"""Cards that others were stopped for: kept for the job that waits for them, from all that do not outrank it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from orchestrator.scheduler.cache.running_index import Promised
from orchestrator.scheduler.fleet import Gpu
from orchestrator.scheduler.job_class import JobClass
from orchestrator.scheduler.placement.capacity import Capacity
from orchestrator.scheduler.policy import Ranked

Soon = dict[int, list[Gpu]]


@dataclass
class _Cards:
    """A job's cards by card group: those that are free already, and those that come back."""

    back: dict[int, list[int]]
    coming: dict[int, list[int]]


@dataclass
class _Nomination(_Cards):
    entry: Ranked


class Nominations:
    """The nominations of one plan: cards that are kept for jobs.

    cards: the ids of all of them; hidden: those that are still to come back, which nobody may count on; soon: by card
    group, cards that come back and that nobody was promised, None until somebody looks for victims.
    """

    def __init__(
        self,
        promised: Promised,
        capacity: Capacity,
        ranked: Iterable[Ranked],
    ) -> None:
        """Keep what was cleared for these jobs, as far as they need it."""
        self._promised, self._capacity = promised, capacity
        self.soon: Soon | None = None
        self._held: dict[int, _Nomination] = {}
        self._lent: list[int] = []
        self.cards: set[int] = set()
        self.hidden: set[int] = set()
        for entry in sorted(ranked, key=lambda entry: entry.key):
            found = self._needed(promised.cards.get(entry.job.job_id, ()), entry.job_class)
            if not found.back and not found.coming:
                continue
            self._held[entry.job.job_id] = _Nomination(found.back, found.coming, entry)
            for gpu_ids in (*found.back.values(), *found.coming.values()):
                self.cards.update(gpu_ids)
            self.hidden.update(gpu_id for gpu_ids in found.coming.values() for gpu_id in gpu_ids)
            for gpu_ids in found.back.values():
                self._capacity.take(gpu_ids)

    def __bool__(self) -> bool:
        """Whether anything is kept."""
        return bool(self._held)

    def free_on(self, group: int) -> Iterator[tuple[int, int]]:
        """The jobs that free cards of a card group are kept for, each with how many."""
        for job_id, kept in self._held.items():
            if gpu_ids := kept.back.get(group):
                yield job_id, len(gpu_ids)

    def _needed(self, promised: Iterable[int], job_class: JobClass) -> _Cards:
        """So many of the cards as the job takes: on one card group, where one is enough for it."""
        capacity = self._capacity
        back: dict[int, list[int]] = {}
        coming: dict[int, list[int]] = {}
        for gpu_id in sorted(promised):
            group = capacity.layout.group_of.get(gpu_id)
            if group is None or group not in job_class.groups:
                continue
            if gpu_id in self._promised.coming:
                coming.setdefault(group, []).append(gpu_id)
            elif any(gpu.id == gpu_id for gpu in capacity.free[group]):
                back.setdefault(group, []).append(gpu_id)
        groups = sorted(back.keys() | coming.keys())
        if not job_class.gang and groups:
            groups = [max(groups, key=lambda group: (self._reach(group, coming, job_class.gpus), -group))]
        left, kept = job_class.gpus, _Cards({}, {})
        for part, cards in ((kept.back, back), (kept.coming, coming)):
            for group in groups:
                taken = cards.get(group, [])[:left]
                if taken:
                    part[group] = taken
                    left -= len(taken)
        if job_class.gang or (groups and self._reach(groups[0], coming, job_class.gpus) == job_class.gpus):
            for group in groups:  # what makes up its number with them
                mine = kept.back.get(group, [])
                others = [gpu.id for gpu in capacity.free[group] if gpu.id not in mine][:left]
                if others:
                    kept.back[group] = [*mine, *others]
                    left -= len(others)
        return kept

    def _reach(self, group: int, coming: Mapping[int, list[int]], need: int) -> int:
        """How many of the cards that a job needs a card group has for it, with those that are free there anyway."""
        return min(need, len(self._capacity.free[group]) + len(coming.get(group, ())))

    @contextmanager
    def turn(self, entry: Ranked) -> Iterator[Mapping[int, int]]:
        """While it is the turn of a job, what is kept for it is available, by it first. How many cards, by card group.

        Afterwards what was lent to it and not used is kept again.
        """
        mine: dict[int, int] = {}
        found = self._held.pop(entry.job.job_id, None)
        if found is not None:
            self._give(found, first=True)
            for part in (found.back, found.coming):
                for group, gpu_ids in part.items():
                    mine[group] = mine.get(group, 0) + len(gpu_ids)
        yield mine
        self._take_back()

    def lend(self, entry: Ranked) -> bool:
        """What is kept for jobs that this one outranks is available while its turn lasts; whether there is any."""
        for job_id, kept in self._held.items():
            if job_id not in self._lent and entry.outranks(kept.entry):
                self._give(kept)
                self._lent.append(job_id)
        return bool(self._lent)

    def _take_back(self) -> None:
        soon = self.soon
        for job_id in self._lent:
            kept = self._held[job_id]
            kept.back = {
                group: self._left(gpu_ids, self._capacity.free[group]) for group, gpu_ids in kept.back.items()
            }
            for gpu_ids in kept.back.values():
                self._capacity.take(gpu_ids)
            for group, gpu_ids in kept.coming.items():
                if soon is not None:
                    kept.coming[group] = self._left(gpu_ids, soon.get(group, ()))
                    soon[group] = [gpu for gpu in soon.get(group, ()) if gpu.id not in gpu_ids]
                self.hidden.update(kept.coming[group])
            if not any(kept.back.values()) and not any(kept.coming.values()):
                del self._held[job_id]
        self._lent.clear()

    def _give(self, kept: _Nomination, first: bool = False) -> None:
        soon = self.soon
        for gpu_ids in kept.back.values():
            self._capacity.give(gpu_ids)
        for group, gpu_ids in kept.coming.items():
            self.hidden.difference_update(gpu_ids)
            if soon is not None:
                mine = [self._capacity.layout.gpu_of[gpu_id] for gpu_id in gpu_ids]
                others = soon.get(group, [])
                soon[group] = [*mine, *others] if first else [*others, *mine]

    @staticmethod
    def _left(gpu_ids: Iterable[int], among: Iterable[Gpu]) -> list[int]:
        ids = {gpu.id for gpu in among}
        return [gpu_id for gpu_id in gpu_ids if gpu_id in ids]
