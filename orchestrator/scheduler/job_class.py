"""Kinds of jobs, which fit the same cards in the same way; what of them is known from earlier plans."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from jobs.jobfile.spec import Policy
from jobs.memory.ladder import Choice
from jobs.memory.profile import MemoryProfile
from jobs.state import Code, Reason
from orchestrator.scheduler.fleet import Host, NoProfile, Waiting
from orchestrator.scheduler.placement.place import Chooser, Option, options_of, overall

Profiles = Mapping[str, MemoryProfile | NoProfile]
MOST_FITS = 100_000  # kept; those of jobs long gone are among them


@dataclass(frozen=True, slots=True)
class Tier:
    """Shelves that do equally well for a kind of job: one rung, one speed."""

    choice: Choice
    shelves: tuple[int, ...]
    key: tuple[float, ...]


@dataclass(frozen=True)
class Kind:
    """Jobs that fit the same cards in the same way.

    tiers: where they could run, best first; shelves: of all of them; misfits: for each host that could never take them
    as it is now, why; most: cards of its largest shelf; apart: jobs that it does not share a card with; home: shelves
    of which a gang over several hosts takes one in any case, for its checkpoint lies there; empty: any will do.
    """

    gpus: int
    across: bool
    shares: bool
    tiers: tuple[Tier, ...]
    misfits: Mapping[str, Reason]
    most: int
    shelves: frozenset[int]
    policy: Policy = "smallest_card"
    apart: frozenset[int] = frozenset()
    home: frozenset[int] = frozenset()

    @cached_property
    def step_s(self) -> float:
        """Of an optimizer step where it runs best."""
        return self.tiers[0].choice.step_s

    @cached_property
    def lacks(self) -> Reason:
        """Why no host could take it as it is now."""
        return overall(self.misfits)

    @cached_property
    def untraced(self) -> bool:
        """Whether somewhere it waits for its profile, or for the lengths of its data."""
        return any(reason.code is Code.PROFILE_PENDING for reason in self.misfits.values())

    @property
    def gang(self) -> bool:
        """Whether it needs several hosts."""
        return self.gpus > self.most


@dataclass
class Kept:
    """Kinds by shape, each with the profiles that it was worked out from, while the fleet has one layout.

    layout: hosts, and the cards in them that may be used; joins, reaches: shelves of kinds, one object for equal ones.
    """

    layout: Hashable
    kinds: dict[Hashable, tuple[tuple[object, ...], Kind]] = field(default_factory=dict)
    joins: dict[tuple[tuple[int, ...], ...], tuple[int, ...]] = field(default_factory=dict)
    reaches: dict[tuple[int, ...], frozenset[int]] = field(default_factory=dict)


class Fits:
    """What options_of() said of a shape of job and a host, kept from plan to plan: cards change hands, these do not.

    Whoever keeps it forgets it when the chooser has learnt something. Holds no truth.
    """

    def __init__(self) -> None:
        self._hosts: dict[Hashable, int] = {}
        self._found: dict[Hashable, tuple[object, list[Option] | Reason]] = {}
        self._kept = Kept(())

    def forget(self) -> None:
        self._hosts, self._found, self._kept = {}, {}, Kept(())

    def kept(self, layout: Hashable) -> Kept:
        """What was worked out of a fleet with this layout; nothing, if the last one had another."""
        if self._kept.layout != layout:
            self._kept = Kept(layout)
        return self._kept

    def number(self, alike: Hashable) -> int:
        """One for all hosts that are alike."""
        return self._hosts.setdefault(alike, len(self._hosts))

    def options(
        self, job: Waiting, host: Host, number: int, fleet: Profiles, chooser: Chooser
    ) -> list[Option] | Reason:
        """What options_of() says, asked once. number: of the host and all that are like it."""
        if job.shape is None:
            return options_of(job, host, fleet, chooser)
        profile = fleet.get(job.keys.get(host.stack_id, ""))
        at = (job.shape, number)
        known = self._found.get(at)
        if known is not None and (
            known[0] is profile or (isinstance(profile, NoProfile) and known[0] == profile)
        ):
            return known[1]
        if len(self._found) >= MOST_FITS:
            self._found.clear()
        found = options_of(job, host, fleet, chooser)
        self._found[at] = (profile, found)
        return found
