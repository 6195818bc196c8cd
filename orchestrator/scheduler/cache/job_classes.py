"""The classes of jobs in a fleet, worked out once for all jobs of a shape: cards change hands, classes do not."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from jobs.memory.ladder import Choice, preference
from jobs.state import Reason
from orchestrator.scheduler.feasibility import Chooser, Option, Profiles, options_of
from orchestrator.scheduler.fleet import Host, NoProfile, PendingJob
from orchestrator.scheduler.job_class import JobClass, Tier
from orchestrator.scheduler.placement.card_groups import Layout

MOST = 100_000  # of each that is kept; those of jobs long gone are among them


@dataclass
class _OfLayout:
    """What holds while the hosts, and the cards in them that may be used, are the same.

    by_shape: with the profiles that a class was worked out from; joined: card groups in order, by the blocks that they
    come in; derived: classes made from others, by the number of the first.
    """

    key: Hashable
    by_shape: dict[Hashable, tuple[tuple[object, ...], JobClass]] = field(default_factory=dict)
    joined: dict[tuple[tuple[int, ...], ...], tuple[int, ...]] = field(default_factory=dict)
    sets: dict[tuple[int, ...], frozenset[int]] = field(default_factory=dict)
    numbers: dict[Hashable, int] = field(default_factory=dict)
    derived: dict[Hashable, JobClass] = field(default_factory=dict)


class JobClasses:
    """The class of each job (orchestrator.scheduler.job_class.Classes). Holds no truth.

    Numbers of classes and of card groups rise and never come again: what is kept elsewhere by number is never taken for
    another's.
    """

    def __init__(self, chooser: Chooser) -> None:
        self._chooser = chooser
        self._numbers = count(1)
        self._host_classes: dict[Hashable, int] = {}
        self._options: dict[Hashable, tuple[object, list[Option] | Reason]] = {}
        self._of = _OfLayout(())
        self._layout = Layout(())
        self._profiles: Profiles = {}
        self._known: dict[Hashable, JobClass] = {}

    def look(self, layout: Layout, profiles: Profiles) -> None:
        """Classes are of this fleet from now on."""
        numbers = [
            self._host_classes.setdefault(one.key, len(self._host_classes)) for one in layout.host_classes
        ]
        key = tuple(
            (number, one.host_ids, one.names, tuple(one.groups.items()))
            for number, one in zip(numbers, layout.host_classes, strict=True)
        )
        if self._of.key != key:
            self._of = _OfLayout(key)
        self._layout, self._profiles, self._known = layout, profiles, {}

    def forget(self) -> None:
        """The chooser has learnt something."""
        self._host_classes, self._options, self._of, self._known = {}, {}, _OfLayout(()), {}

    def of(self, job: PendingJob) -> JobClass:
        """The class of a job, worked out once for all of its shape."""
        shape = job.job_id if job.shape is None else job.shape
        found = self._known.get(shape)
        if found is None:
            made = self._made(job) if job.shape is None else self._of_shape(job)
            found = self._known[shape] = made
        return found

    def _of_shape(self, job: PendingJob) -> JobClass:
        """The class of a shape from an earlier plan, unless one of its profiles is another now."""
        profiles = tuple(self._profiles.get(key) for key in job.keys.values())
        by_shape = self._of.by_shape
        kept = by_shape.get(job.shape)
        if kept is not None and all(map(_same, kept[0], profiles)):
            return kept[1]
        if len(by_shape) >= MOST:
            by_shape.clear()
        found = self._made(job)
        by_shape[job.shape] = (profiles, found)
        return found

    def on_host(self, job_class: JobClass, host_id: int) -> JobClass | None:
        """The same on one host alone, None where that host could not take it."""
        key = (job_class.number, host_id)
        found = self._of.derived.get(key)
        if found is None:
            mine = frozenset(group for group in job_class.groups if self._host(group).id == host_id)
            tiers = [
                self._tier(tier, tuple(group for group in tier.groups if group in mine))
                for tier in job_class.tiers
            ]
            kept = tuple(tier for tier in tiers if tier.groups)
            found = self._derive(key, replace(job_class, tiers=kept, groups=mine))
        return found if found.tiers else None

    def with_host(self, job_class: JobClass, host_id: int) -> JobClass | None:
        """The same for a gang that takes cards of this host among others, None where the host could not take part."""
        key = (job_class.number, host_id, "among others")
        found = self._of.derived.get(key)
        if found is None:
            home = frozenset(group for group in job_class.groups if self._host(group).id == host_id)
            found = self._derive(key, replace(job_class, home=home))
        return found if found.home else None

    def leaving(
        self, job_class: JobClass, local: JobClass, sooner: tuple[int, ...], waited: bool
    ) -> JobClass:
        """The tiers that are worth leaving home for (sooner), home, and the rest once it has waited."""
        key = (job_class.number, local.number, sooner, waited)
        found = self._of.derived.get(key)
        if found is not None:
            return found
        first = [job_class.tiers[index] for index in sooner]
        rest = [
            self._tier(tier, tuple(group for group in tier.groups if group not in local.groups))
            for index, tier in enumerate(job_class.tiers)
            if waited and index not in sooner
        ]
        tiers = (*first, *local.tiers, *(tier for tier in rest if tier.groups))
        groups = job_class.groups
        if not waited:
            groups = frozenset(group for tier in tiers for group in tier.groups)
        return self._derive(key, replace(job_class, tiers=tiers, groups=groups))

    def _derive(self, key: Hashable, made: JobClass) -> JobClass:
        if len(self._of.derived) >= MOST:
            self._of.derived.clear()
        group_set = self._set_number(tuple(sorted(made.groups)), made.home)
        found = replace(made, number=next(self._numbers), group_set=group_set)
        self._of.derived[key] = found
        return found

    def _tier(self, tier: Tier, groups: tuple[int, ...]) -> Tier:
        return Tier(tier.choice, groups, tier.key, self._set_number(groups))

    def _set_number(self, groups: tuple[int, ...], home: frozenset[int] = frozenset()) -> int:
        """The same for the same card groups, of which a gang takes one of home."""
        key = (groups, home) if home else groups
        found = self._of.numbers.get(key)
        if found is None:
            found = self._of.numbers[key] = next(self._numbers)
        return found

    def _host(self, group: int) -> Host:
        return self._layout.groups[group].host

    def _made(self, job: PendingJob) -> JobClass:
        need = job.spec.resources
        tiers: dict[tuple[object, ...], tuple[Choice, tuple[float, ...], list[tuple[int, ...]]]] = {}
        misfits: dict[str, Reason] = {}
        most = 0
        for hosts in self._layout.host_classes:
            found = self._options_of(job, hosts.first, self._host_classes[hosts.key])
            if isinstance(found, Reason):
                misfits |= dict.fromkeys(hosts.names, found)
                continue
            for option in found:
                first = option.gpus[0]
                wanted = preference(need.policy, first.card, option.choice)
                for shaky, groups in self._by_trust(job, hosts.groups[first.name, first.memory_bytes]):
                    key = (float(shaky), *wanted)
                    # Ranks on several hosts must have the same libraries.
                    stack = hosts.first.stack_id if job.across else ""
                    same = (key, first.name, option.choice.rung, stack)
                    entry = tiers.setdefault(same, (option.choice, key, []))
                    entry[2].append(groups)
                    most = max(most, len(option.gpus))
        ordered = sorted(tiers.values(), key=lambda entry: entry[1])
        groups = self._joined([block for _, _, groups in ordered for block in groups])
        return JobClass(
            need.gpus,
            job.across,
            job.shares,
            tuple(self._ranked_tier(choice, groups, key) for choice, key, groups in ordered),
            misfits,
            most,
            self._set(groups),
            need.policy,
            job.apart,
            number=next(self._numbers),
            group_set=self._set_number(groups),
        )

    def _ranked_tier(self, choice: Choice, blocks: Sequence[tuple[int, ...]], key: tuple[float, ...]) -> Tier:
        groups = self._joined(blocks)
        return Tier(choice, groups, key, self._set_number(groups))

    def _options_of(self, job: PendingJob, host: Host, number: int) -> list[Option] | Reason:
        """What options_of() says, asked once. number: of the host and all that are like it."""
        if job.shape is None:
            return options_of(job, host, self._profiles, self._chooser)
        profile = self._profiles.get(job.keys.get(host.stack_id, ""))
        at = (job.shape, number)
        known = self._options.get(at)
        if known is not None and _same(known[0], profile):
            return known[1]
        if len(self._options) >= MOST:
            self._options.clear()
        found = options_of(job, host, self._profiles, self._chooser)
        self._options[at] = (profile, found)
        return found

    def _by_trust(self, job: PendingJob, groups: tuple[int, ...]) -> Iterator[tuple[bool, tuple[int, ...]]]:
        """Card groups of trusted hosts; then those of hosts that let the job down, or all where it may span hosts."""
        if not job.shaky:
            yield False, groups
            return
        for wanted in (False, True):
            found = tuple(group for group in groups if (self._host(group).id in job.shaky) is wanted)
            if wanted and job.across:
                found = groups
            if found:
                yield wanted, found

    def _joined(self, blocks: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Card groups in order. Most classes have the same: worked out once."""
        key = tuple(sorted(blocks))
        found = self._of.joined.get(key)
        if found is None:
            found = self._of.joined[key] = tuple(sorted(group for block in blocks for group in block))
        return found

    def _set(self, groups: tuple[int, ...]) -> frozenset[int]:
        """One object for equal ones, which are compared at a glance."""
        found = self._of.sets.get(groups)
        if found is None:
            found = self._of.sets[groups] = frozenset(groups)
        return found


def _same(one: object, other: object) -> bool:
    """Whether a profile is the one it was; two that are being traced are the same."""
    return one is other or (isinstance(one, NoProfile) and one == other)
