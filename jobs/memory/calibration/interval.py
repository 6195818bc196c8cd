"""Measured against projected: the interval around a projection, and how a step's time compares.

What was measured widens or narrows the interval, and never moves the projected figure itself: others found that a
fitted correction makes models that nobody has seen yet worse (leave-one-model-out error went from 4.8 % to between 6.8
and 9.2 %). The interval is split conformal prediction: of n residuals of attempts like this
one, the ceil((n + 1) c)-th smallest is what the next one stays under with probability at least c, whatever their
distribution, as long as they are exchangeable (Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World, 2005,
section 4; Lei et al.: Distribution-Free Predictive Inference for Regression, JASA 113, 2018, section 2.2). The
projection is the fixed predictor: no residual has a part in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median

from jobs.cards import Allocator
from jobs.memory.calibration.observations import LEVELS, OWN, Group, Observation
from jobs.memory.calibration.residuals import Residual, Values, Voices, cap
from jobs.memory.projection import Margin, half_the_risk, prior

LEAST_RUNS = (
    19  # attempts before a group sets the interval: what 95 % takes, the job file's default confidence
)
LEAST_TIMES = 3  # attempts whose step time a group needs before wider groups are not asked


class Calibration:
    """What a set of observations says of the next attempt. Immutable; answers are kept."""

    def __init__(self, observations: Iterable[Observation] = ()) -> None:
        self._residuals: dict[tuple[str, ...], list[Residual]] = {}
        self._paces: dict[tuple[str, ...], list[float]] = {}
        self._margins: dict[tuple[Group, float, Allocator], Margin | None] = {}
        self._speeds: dict[Group, float] = {}
        seen = list(observations)
        residuals, paces = Voices[Residual](), Voices[float]()
        for place, one in enumerate(seen):
            voice = one.job_id or -place - 1
            if (whole := one.residual()) is not None:
                parts = (one.residual("allocated"), one.beside_residual)
                residuals.add(one.group, voice, Residual(one.attempt_id, whole, *parts, one.ran_out))
            if one.pace is not None:
                paces.add(one.group, voice, one.pace)
        #: Attempts whose error counts as OUTLIER, and no more.
        self.outliers: frozenset[int] = cap(residuals)
        for key, voices in residuals.by_level().items():
            self._residuals[key] = [max(said, key=lambda one: one.whole) for said in voices]
        for key, told in paces.by_level().items():
            self._paces[key] = [median(said) for said in told]

    def margin(self, group: Group, confidence: float, allocator: Allocator = "") -> Margin | None:
        """The interval of measured / projected - 1 for an attempt of this group; None: the prior is all there is.

        Above the upper bound it comes with a probability of at most 1 - confidence, below the lower likewise. On a CUDA
        card live bytes and what stands beside them have an interval each, by their own residuals, at half the risk. It
        is that of the narrowest group with enough attempts for this confidence, and LEAST_RUNS at least; else the
        prior's (allocator: Card.allocator, which it depends on). What the narrower groups saw widens it all the same,
        where they have LEAST_RUNS or are of the very family and method: a miss counts in the next plan, not in the
        nineteenth, and more confidence never makes it narrower. The projected figure itself is always inside.
        """
        key = (group, confidence, allocator)
        if key not in self._margins:
            self._margins[key] = self._margin(group, confidence, allocator)
        return self._margins[key]

    def _margin(self, group: Group, confidence: float, allocator: Allocator) -> Margin | None:
        before = prior(group.kind, confidence, allocator)
        told_apart = any(one.told_apart for one in self._residuals.get(group.at(len(LEVELS) - 1), ()))
        if not told_apart:
            return self._interval(group, confidence, confidence, before, (0,))
        return self._interval(group, half_the_risk(confidence), confidence, before, (1, 2))

    def _interval(
        self, group: Group, each: float, confidence: float, before: Margin, parts: tuple[int, ...]
    ) -> Margin | None:
        """Of the narrowest group with enough attempts for `each`, what every bound of these parts must hold with."""
        narrower: list[Values] = []
        name = ""
        for level in range(len(LEVELS)):
            seen = self._residuals.get(group.at(level), [])
            values = [one.values(group.kind, confidence) for one in seen]
            found = [conformal(_column(values, part), each) for part in parts]
            if len(seen) >= LEAST_RUNS and None not in found:
                (low, high), *others = [ends for ends in found if ends is not None]
                beside = others[0] if others else None
                return _widened(Margin(low, high, len(seen), group.label(level), beside), narrower, name)
            if seen and (level <= OWN or len(seen) >= LEAST_RUNS):
                narrower, name = values, group.label(level)  # each group holds those before it
        if not narrower:
            return None
        return _widened(replace(before, count=len(narrower)), narrower, name)

    def speed(self, group: Group) -> float:
        """Measured over projected step time: the median of the narrowest group with LEAST_TIMES attempts.

        Where none has as many, of the narrowest that has any; 1 where none has.
        """
        if group not in self._speeds:
            known = [paces for level in range(len(LEVELS)) if (paces := self._paces.get(group.at(level)))]
            enough = [paces for paces in known if len(paces) >= LEAST_TIMES] or known
            self._speeds[group] = median(enough[0]) if enough else 1.0
        return self._speeds[group]


def conformal(residuals: Sequence[float], confidence: float) -> tuple[float, float] | None:
    """(low, high) of which the next residual passes each with a probability of at most 1 - confidence.

    None where there are too few for that: the finite-sample rank ceil((n + 1) confidence) is beyond the last.
    """
    count = len(residuals)
    rank = math.ceil((count + 1) * confidence - 1e-9)  # 20 x 0.95 is 19, whatever floating point says
    if count == 0 or rank > count:
        return None
    ordered = sorted(residuals)
    return min(0.0, ordered[count - rank]), max(0.0, ordered[rank - 1])


def _column(values: Sequence[Values], part: int) -> list[float]:
    """What is known of the whole (0), of live bytes (1), of those beside them (2)."""
    return [value for row in values if (value := row[part]) is not None]


def _widened(margin: Margin, values: Sequence[Values], name: str) -> Margin:
    """As wide as these residuals: of the whole, or of live bytes and of those beside them."""
    if not values:
        return margin
    whole, live, beside = (_column(values, part) for part in range(3))
    own = whole if margin.beside is None else live
    wider = replace(margin, low=min([margin.low, *own]), high=max([margin.high, *own]))
    if margin.beside is not None:
        least, most = margin.beside
        wider = replace(wider, beside=(min([least, *beside]), max([most, *beside])))
    return wider if wider == margin else replace(wider, group=f"{margin.group}, widened by {name}")
