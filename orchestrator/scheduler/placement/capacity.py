"""Capacity: which cards of the fleet are free, and which of them suit a class of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from jobs.memory.ladder import Choice
from orchestrator.scheduler.fleet import Fleet, Gpu, RunningJob
from orchestrator.scheduler.job_class import JobClass, Tier
from orchestrator.scheduler.placement.card_groups import CardSet, Layout


@dataclass
class Capacity:
    """What is free in a fleet.

    free: by card group, the cards that nobody holds, in the order of their index; left_bytes: of memory left on cards
    that are shared; on: jobs by shared card.
    """

    layout: Layout
    free: list[tuple[Gpu, ...]] = field(default_factory=list)
    left_bytes: dict[int, int] = field(default_factory=dict)
    on: dict[int, frozenset[int]] = field(default_factory=dict)
    # By the card groups of classes, how many cards none of them has free: in a plan they only get fewer, but by give().
    _lacks: dict[int, int] = field(default_factory=dict, compare=False)
    _wholes: dict[int, list[int]] = field(default_factory=dict, compare=False)
    _before_change: Callable[[], None] | None = field(default=None, compare=False)

    @classmethod
    def of(cls, fleet: Fleet) -> Capacity:
        """The cards of a fleet as its hosts and its running jobs say."""
        layout = Layout.of(fleet.hosts)
        made = cls(
            layout,
            [
                tuple(gpu for gpu in group.gpus if gpu.held_by is None) if group.host.takes else ()
                for group in layout.groups
            ],
        )
        shared: dict[int, int] = {}
        cleared = {gpu_id for job in fleet.running if job.stopping_for is not None for gpu_id in job.gpu_ids}
        for job in fleet.running:
            for gpu_id in job.gpu_ids:
                if job.shares:
                    shared[gpu_id] = shared.get(gpu_id, 0) + job.upper_bytes
                    made.on[gpu_id] = made.on.get(gpu_id, frozenset()) | {job.job_id}
        made.take(gpu_id for job in fleet.running for gpu_id in job.gpu_ids)
        made.left_bytes = {
            gpu_id: layout.gpu_of[gpu_id].memory_bytes - used
            for gpu_id, used in shared.items()
            if gpu_id in layout.gpu_of
            and gpu_id not in cleared
            and layout.groups[layout.group_of[gpu_id]].host.takes
        }
        return made

    def copy(self) -> Capacity:
        """One to plan with: taking from it leaves this one as it is."""
        return Capacity(self.layout, [*self.free], {**self.left_bytes}, {**self.on})

    def watch(self, before_change: Callable[[], None] | None) -> None:
        """Call this before any card changes hands; None: nothing any more."""
        self._before_change = before_change

    def take(self, gpu_ids: Iterable[int]) -> None:
        """These cards are held now."""
        self._changes()
        held = {
            gpu_id: group for gpu_id in gpu_ids if (group := self.layout.group_of.get(gpu_id)) is not None
        }
        for group in set(held.values()):
            self.free[group] = tuple(gpu for gpu in self.free[group] if gpu.id not in held)

    def give(self, gpu_ids: Iterable[int]) -> None:
        """These cards are free again."""
        self._changes()
        self._lacks.clear()
        self._wholes.clear()
        back: dict[int, list[Gpu]] = {}
        for gpu_id in gpu_ids:
            back.setdefault(self.layout.group_of[gpu_id], []).append(self.layout.gpu_of[gpu_id])
        for group, gpus in back.items():
            self.free[group] = tuple(sorted((*self.free[group], *gpus), key=_index))

    def _changes(self) -> None:
        if self._before_change is not None:
            self._before_change()

    def to_itself(self, job: RunningJob) -> bool:
        """Whether it has its cards to itself, so that they are free once it has gone."""
        return not job.shares or all(self.on.get(gpu_id) == {job.job_id} for gpu_id in job.gpu_ids)

    def fit(self, job_class: JobClass, allows: Callable[[int, Choice], bool] | None = None) -> CardSet | None:
        """Free cards for one job of a job_class: the best tier that has them, and there the fullest card group.

        Where there are none, one that others share, if it shares. allows: whether a job that runs so may use a card
        group's free cards, None: any.
        """
        found = self._alone(job_class, allows)
        return self.beside(job_class, allows) if found is None and job_class.shares else found

    def _alone(self, job_class: JobClass, allows: Callable[[int, Choice], bool] | None) -> CardSet | None:
        need, free = job_class.gpus, self.free
        if not job_class.gang:
            if self._lacks.get(job_class.group_set, need + 1) <= need:
                return None
            for tier in job_class.tiers:
                best, least = -1, 1 << 30
                for group in tier.groups:
                    count = len(free[group])
                    if need <= count < least and (allows is None or allows(group, tier.choice)):
                        best, least = group, count
                        if count == need:
                            break
                if best >= 0:
                    return CardSet(((best, free[best][:need]),), tier.choice)
            if allows is None:
                self._lacks[job_class.group_set] = need
            return None
        if not job_class.across:
            return None
        if allows is not None:
            choice = job_class.tiers[0].choice
            free = [gpus if allows(group, choice) else () for group, gpus in enumerate(free)]
        return self.span(job_class, free)

    def _whole(self, tier: Tier) -> list[int]:
        """Those of which every card is free. In a plan they only get fewer, but by give()."""
        free, sizes = self.free, self.layout.sizes
        known = self._wholes.get(tier.group_set, tier.groups)
        found = self._wholes[tier.group_set] = [group for group in known if len(free[group]) == sizes[group]]
        return found

    def span(self, job_class: JobClass, free: Sequence[Sequence[Gpu]]) -> CardSet | None:
        """Whole hosts, and one more for the remainder, the fullest that has it."""
        sizes = self.layout.sizes
        for tier in job_class.tiers:
            left, parts = job_class.gpus, []
            whole = [group for group in self._whole(tier) if len(free[group]) == sizes[group]]
            if not whole:
                continue  # no card group alone has enough for a gang
            whole.sort(key=lambda group: (group not in job_class.home, -len(free[group])))
            used = set()
            for group in whole:
                if left < len(free[group]):
                    break
                parts.append((group, tuple(free[group])))
                used.add(group)
                left -= len(free[group])
            if left:
                rest = [group for group in tier.groups if group not in used and len(free[group]) >= left]
                if job_class.home and used.isdisjoint(job_class.home):
                    rest = [group for group in rest if group in job_class.home]
                if not rest:
                    continue
                last = min(rest, key=lambda group: len(free[group]))
                parts.append((last, tuple(free[last][:left])))
            if job_class.home and job_class.home.isdisjoint(group for group, _ in parts):
                continue
            return CardSet(tuple(parts), tier.choice)
        return None

    def beside(
        self, job_class: JobClass, allows: Callable[[int, Choice], bool] | None = None
    ) -> CardSet | None:
        """A card that others share and that has room for this job's upper bound; the fullest such."""
        if job_class.gpus != 1 or not self.left_bytes:
            return None
        for tier in job_class.tiers:
            need = tier.choice.projection.upper_bytes
            groups = {group for group in tier.groups if allows is None or allows(group, tier.choice)}
            fitting = [
                (left, gpu_id)
                for gpu_id, left in self.left_bytes.items()
                if left >= need
                and self.layout.group_of[gpu_id] in groups
                and not job_class.apart & self.on[gpu_id]
            ]
            if fitting:
                gpu = self.layout.gpu_of[min(fitting)[1]]
                return CardSet(((self.layout.group_of[gpu.id], (gpu,)),), tier.choice, side=True)
        return None

    def draw(self, cards: CardSet, shares: bool, job_id: int = 0) -> None:
        """Take these cards. job_id: for whom, where it shares them."""
        if shares:
            for gpu in cards.gpus:
                self.on[gpu.id] = (self.on[gpu.id] if cards.side else frozenset()) | {job_id}
        for group, gpus in cards.parts:
            if cards.side:
                self.left_bytes[gpus[0].id] -= cards.choice.projection.upper_bytes
                continue
            taken = {gpu.id for gpu in gpus}
            self.free[group] = tuple(gpu for gpu in self.free[group] if gpu.id not in taken)
            if shares:
                for gpu in gpus:
                    self.left_bytes[gpu.id] = gpu.memory_bytes - cards.choice.projection.upper_bytes


_index = attrgetter("index")
