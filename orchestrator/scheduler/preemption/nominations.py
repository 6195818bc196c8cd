"""Cards that others were stopped for: kept for the job that waits for them, from all that do not outrank it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.scheduler.fleet import Fleet, Gpu
from orchestrator.scheduler.job_class import Kind
from orchestrator.scheduler.placement.capacity import Stock
from orchestrator.scheduler.policy import Ranked

Soon = dict[int, list[Gpu]]


@dataclass
class _Cards:
    """A job's cards by shelf: those that are free already, and those that come back."""

    back: dict[int, list[int]]
    coming: dict[int, list[int]]


@dataclass
class _Claim(_Cards):
    entry: Ranked


class Claims:
    """What one plan keeps aside. cards: all of it, by id; hidden: of those that come back, what nobody may count on."""

    def __init__(self, fleet: Fleet, stock: Stock) -> None:
        self._stock = stock
        self._promised: dict[int, list[int]] = {}
        self._coming: set[int] = set()
        self._held: dict[int, _Claim] = {}
        self._lent: list[int] = []
        self.cards: set[int] = set()
        self.hidden: set[int] = set()
        running = fleet.running if stock.roll is None else stock.roll.stopping.values()
        for job in running:
            if job.stopping_for is not None and stock.to_itself(job):
                self._promised.setdefault(job.stopping_for, []).extend(job.gpu_ids)
                self._coming.update(job.gpu_ids)
        for gpu_id, job_id in fleet.cleared.items():
            self._promised.setdefault(job_id, []).append(gpu_id)

    def __bool__(self) -> bool:
        """Whether anything is kept."""
        return bool(self._held)

    @property
    def promised(self) -> Collection[int]:
        """The jobs that others were stopped for."""
        return self._promised.keys()

    def hold(self, ranked: Iterable[Ranked]) -> None:
        """Set aside what was cleared for these jobs, as far as they need it."""
        for entry in sorted(ranked, key=lambda entry: entry.key):
            found = self._needed(self._promised.get(entry.job.job_id, ()), entry.kind)
            if not found.back and not found.coming:
                continue
            self._held[entry.job.job_id] = _Claim(found.back, found.coming, entry)
            for gpu_ids in (*found.back.values(), *found.coming.values()):
                self.cards.update(gpu_ids)
            self.hidden.update(gpu_id for gpu_ids in found.coming.values() for gpu_id in gpu_ids)
            for gpu_ids in found.back.values():
                self._stock.take(gpu_ids)

    def free_on(self, place: int) -> Iterator[tuple[int, int]]:
        """The jobs that free cards of a shelf are kept for, each with how many."""
        for job_id, claim in self._held.items():
            if gpu_ids := claim.back.get(place):
                yield job_id, len(gpu_ids)

    def _needed(self, promised: Iterable[int], kind: Kind) -> _Cards:
        """So many of the cards as the job takes: on one shelf, where one is enough for it."""
        stock = self._stock
        back: dict[int, list[int]] = {}
        coming: dict[int, list[int]] = {}
        for gpu_id in sorted(promised):
            place = stock.shelf_of.get(gpu_id)
            if place is None or place not in kind.shelves:
                continue
            if gpu_id in self._coming:
                coming.setdefault(place, []).append(gpu_id)
            elif any(gpu.id == gpu_id for gpu in stock.free[place]):
                back.setdefault(place, []).append(gpu_id)
        places = sorted(back.keys() | coming.keys())
        if not kind.gang and places:
            places = [max(places, key=lambda place: (self._reach(place, coming, kind.gpus), -place))]
        left, kept = kind.gpus, _Cards({}, {})
        for part, cards in ((kept.back, back), (kept.coming, coming)):
            for place in places:
                taken = cards.get(place, [])[:left]
                if taken:
                    part[place] = taken
                    left -= len(taken)
        if kind.gang or (places and self._reach(places[0], coming, kind.gpus) == kind.gpus):
            for place in places:  # what makes up its number with them
                mine = kept.back.get(place, [])
                others = [gpu.id for gpu in stock.free[place] if gpu.id not in mine][:left]
                if others:
                    kept.back[place] = [*mine, *others]
                    left -= len(others)
        return kept

    def _reach(self, place: int, coming: Mapping[int, list[int]], need: int) -> int:
        """How many of the cards that a job needs a shelf has for it, those that lie free there anyway among them."""
        return min(need, len(self._stock.free[place]) + len(coming.get(place, ())))

    def open(self, entry: Ranked, soon: Soon | None) -> dict[int, int]:
        """It is the turn of a job that has a claim: its cards are to be had, by it first. How many, by shelf."""
        claim = self._held.pop(entry.job.job_id, None)
        found: dict[int, int] = {}
        if claim is None:
            return found
        self._give(claim, soon, first=True)
        for part in (claim.back, claim.coming):
            for place, gpu_ids in part.items():
                found[place] = found.get(place, 0) + len(gpu_ids)
        return found

    def lend(self, entry: Ranked, soon: Soon | None) -> bool:
        """What is kept for jobs that this one outranks is to be had until settle(); whether there is any."""
        for job_id, claim in self._held.items():
            if job_id not in self._lent and entry.outranks(claim.entry):
                self._give(claim, soon)
                self._lent.append(job_id)
        return bool(self._lent)

    def settle(self, soon: Soon | None) -> None:
        """What was lent and not used is kept again."""
        for job_id in self._lent:
            claim = self._held[job_id]
            claim.back = {
                place: self._left(gpu_ids, self._stock.free[place]) for place, gpu_ids in claim.back.items()
            }
            for gpu_ids in claim.back.values():
                self._stock.take(gpu_ids)
            for place, gpu_ids in claim.coming.items():
                if soon is not None:
                    claim.coming[place] = self._left(gpu_ids, soon.get(place, ()))
                    soon[place] = [gpu for gpu in soon.get(place, ()) if gpu.id not in gpu_ids]
                self.hidden.update(claim.coming[place])
            if not any(claim.back.values()) and not any(claim.coming.values()):
                del self._held[job_id]
        self._lent.clear()

    def _give(self, claim: _Claim, soon: Soon | None, first: bool = False) -> None:
        for gpu_ids in claim.back.values():
            self._stock.give(gpu_ids)
        for place, gpu_ids in claim.coming.items():
            self.hidden.difference_update(gpu_ids)
            if soon is not None:
                mine, others = [self._stock.gpu_of[gpu_id] for gpu_id in gpu_ids], soon.get(place, [])
                soon[place] = [*mine, *others] if first else [*others, *mine]

    @staticmethod
    def _left(gpu_ids: Iterable[int], among: Iterable[Gpu]) -> list[int]:
        ids = {gpu.id for gpu in among}
        return [gpu_id for gpu_id in gpu_ids if gpu_id in ids]
