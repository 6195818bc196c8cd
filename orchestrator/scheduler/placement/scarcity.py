"""Cards that only some of the waiting jobs can use: others leave them alone while they have an alternative."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.scheduler.job_class import Demand, JobClass
from orchestrator.scheduler.placement.capacity import Capacity
from orchestrator.scheduler.placement.card_groups import CardSet
from orchestrator.scheduler.policy import Ranked, Rules, since


@dataclass
class _Reach:
    """Card groups that some classes of waiting jobs can use, all of them and no other. wanted: GPUs by priority."""

    groups: frozenset[int]
    free: int
    wanted: dict[int, int] = field(default_factory=dict)


class Scarcity:
    """How many cards each reach has free, and how many are asked for by jobs that can go nowhere else."""

    def __init__(self, capacity: Capacity, rules: Rules, now: float, demand: Iterable[Demand]) -> None:
        """demand: the classes of the jobs that wait, and what they ask for."""
        self.rules, self.now = rules, now
        self._reaches: dict[frozenset[int], _Reach] = {}
        self._of_group: dict[int, list[_Reach]] = {}
        self._narrower: dict[int, list[_Reach]] = {}
        found = list(demand)
        groups = {one.job_class.group_set: one.job_class.groups for one in found}.values()
        # Where all jobs can use the same cards none are scarce.
        self.uniform = len(set(groups)) < 2
        if self.uniform and not any(one.job_class.shares for one in found):
            return
        for reach in groups:
            self._add(reach, sum(len(capacity.free[group]) for group in reach))
        for one in found:
            wanted = self._reaches[one.job_class.groups].wanted
            for priority, gpus in one.wanted.items():
                wanted[priority] = wanted.get(priority, 0) + gpus

    def _add(self, groups: frozenset[int], free: int) -> None:
        if groups in self._reaches:
            return
        made = self._reaches[groups] = _Reach(groups, free)
        for group in groups:
            self._of_group.setdefault(group, []).append(made)

    def served(self, entry: Ranked, cards: CardSet | None) -> None:
        """A job no longer waits for cards; cards: what it drew."""
        if not self._reaches:
            return
        job_class = entry.job_class
        self._reaches[job_class.groups].wanted[entry.job.priority] -= job_class.gpus
        if cards is not None and not cards.side:
            for group, gpus in cards.parts:
                for reach in self._of_group.get(group, ()):
                    reach.free -= len(gpus)

    def rather(self, beside: CardSet, alone: CardSet, job_class: JobClass) -> bool:
        """Whether a job that shares should rather run beside others than take an idle card.

        Where more cards are asked for than are idle, so that somebody else needs it. Otherwise only where its own
        policy prefers the shared card: `fastest` as far as it is faster by more than what running beside others may
        cost.
        """
        group = alone.parts[0][0]
        for reach in self._of_group.get(group, ()):
            asked = sum(gpus for gpus in reach.wanted.values() if gpus > 0)
            if (
                asked - (job_class.gpus if reach.groups == job_class.groups else 0)
                > reach.free - job_class.gpus
            ):
                return True
        if job_class.policy == "fastest":
            return beside.choice.step_s * self.rules.share_slowdown < alone.choice.step_s
        shared, own = beside.parts[0][0], group
        first = next(tier for tier in job_class.tiers if shared in tier.groups or own in tier.groups)
        return own not in first.groups

    def excluded(self, entry: Ranked) -> frozenset[int]:
        """Card groups that a job leaves to those that can go nowhere else.

        For a while only, and not to lower priorities: the order of the queue counts for more in the end.
        """
        job_class = entry.job_class
        if self.uniform or len(job_class.tiers) < 2 or self.now - since(entry.job) >= self.rules.yield_s:
            return frozenset()
        narrower = self._narrower.get(job_class.number)
        if narrower is None:
            narrower = [reach for reach in self._reaches.values() if reach.groups < job_class.groups]
            self._narrower[job_class.number] = narrower
        found: frozenset[int] = frozenset()
        for reach in narrower:
            wanted = sum(
                gpus for priority, gpus in reach.wanted.items() if priority >= entry.job.priority and gpus > 0
            )
            if wanted and reach.free - job_class.gpus < wanted:
                found |= reach.groups
        return found
