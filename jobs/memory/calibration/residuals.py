"""Residuals of attempts by group: one job is one voice, and outliers are capped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from jobs.cards import CardKind
from jobs.memory.calibration.observations import LEVELS, OWN, Group
from jobs.memory.projection import prior

T = TypeVar("T")
# An error above this share is an outlier unless OUTLIERS_ARE_RIGHT jobs, and most of its family and method on that
# card, had such: it counts as no more. What one job did for a reason of its own must not close the cards to its kind.
OUTLIER = {"cuda": 0.5, "cpu": 1.0}
OUTLIERS_ARE_RIGHT = 3

Values = tuple[float, float | None, float]  # of the whole, of live bytes, of those beside them


@dataclass(frozen=True)
class Residual:
    """measured / projected - 1 of device bytes; live, beside: as Margin has both, None where nobody saw them apart.

    at_least: the attempt ran out, and more was wanted.
    """

    attempt_id: int
    whole: float
    live: float | None = None
    beside: float | None = None
    at_least: bool = False

    def capped(self, most: float) -> Residual:
        """No more than that of anything."""
        live, beside = (None if part is None else min(part, most) for part in (self.live, self.beside))
        return replace(self, whole=min(self.whole, most), live=live, beside=beside)

    @property
    def told_apart(self) -> bool:
        return self.live is not None and self.beside is not None and not self.at_least

    def values(self, kind: CardKind, confidence: float) -> Values:
        """Of the whole, of live bytes, of those beside them.

        Where nobody told the two apart all of it counts as beside live bytes: both are shares of the same. Where the
        attempt ran out nobody saw how much more it wanted either: it has the prior on top.
        """
        whole = self.whole
        if self.at_least:
            whole = (1 + whole) * (1 + prior(kind, confidence).high) - 1
        if self.told_apart and self.live is not None and self.beside is not None:
            return (whole, self.live, self.beside)
        return (whole, None, whole)


class Voices(Generic[T]):
    """What attempts say, by group and by job: a job that was tried five times is one voice."""

    def __init__(self) -> None:
        self.said: dict[Group, dict[int, list[T]]] = {}

    def add(self, group: Group, voice: int, said: T) -> None:
        self.said.setdefault(group, {}).setdefault(voice, []).append(said)

    def by_level(self) -> dict[tuple[str, ...], list[list[T]]]:
        """By each name of a group, what each of its jobs says."""
        found: dict[tuple[str, ...], dict[int, list[T]]] = {}
        for group, voices in self.said.items():
            for level in range(len(LEVELS)):
                mine = found.setdefault(group.at(level), {})
                for voice, said in voices.items():
                    mine.setdefault(voice, []).extend(said)
        return {key: list(voices.values()) for key, voices in found.items()}


def cap(residuals: Voices[Residual]) -> frozenset[int]:
    """Caps outliers where they are. The attempts whose they are."""
    together: dict[tuple[str, ...], list[tuple[Group, int]]] = {}
    for group, voices in residuals.said.items():
        together.setdefault(group.at(OWN), []).extend((group, voice) for voice in voices)
    found: set[int] = set()
    for members in together.values():
        most = OUTLIER[members[0][0].kind]
        beyond = [
            (group, voice)
            for group, voice in members
            if any(one.whole > most for one in residuals.said[group][voice])
        ]
        jobs, all_jobs = ({voice for _, voice in some} for some in (beyond, members))
        if len(jobs) >= OUTLIERS_ARE_RIGHT and 2 * len(jobs) > len(all_jobs):
            continue
        for group, voice in beyond:
            said = residuals.said[group][voice]
            found |= {one.attempt_id for one in said if one.whole > most}
            residuals.said[group][voice] = [one.capped(most) for one in said]
    return frozenset(found)
