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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median
from typing import Any, Generic, Literal, TypeVar

from jobs.cards import Allocator, CardKind, roomy
from jobs.jobfile.spec import JobSpec
from jobs.memory.projection import Margin, error, half_the_risk, prior

T = TypeVar("T")
RAN_OUT = "oom"
Part = Literal["live", "beside"]  # of device bytes: those of tensors, and what stands beside them
PARTS: tuple[Part, ...] = ("live", "beside")
FIGURES = ("allocated", "reserved", "device")
LEAST_RUNS = (
    19  # attempts before a group sets the interval: what 95 % takes, the job file's default confidence
)
# Why an attempt's memory is no measure of its projection: it did not get to its peak, or nobody can tell it there.
NO_PEAK, ROOMY = INCOMPARABLE = ("no_peak", "roomy_card")
# An error above this share is an outlier unless OUTLIERS_ARE_RIGHT jobs, and most of its family and method on that
# card, had such: it counts as no more. What one job did for a reason of its own must not close the cards to its kind.
OUTLIER = {"cuda": 0.5, "cpu": 1.0}
OUTLIERS_ARE_RIGHT = 3
LEAST_TIMES = 3  # attempts whose step time a group needs before wider groups are not asked


@dataclass(frozen=True)
class Group:
    """What attempts have in common whose residuals are alike.

    family: the model_type, or the model's path where nobody has read its config; quantisation: of the base weights,
    "none" without; card: its name; stack: the library versions, as stack_name() writes them.
    """

    family: str
    method: str
    quantisation: str
    card: str
    stack: str

    @property
    def kind(self) -> CardKind:
        return "cpu" if self.card == "cpu" else "cuda"

    def at(self, level: int) -> tuple[str, ...]:
        """What this group is called at a level of LEVELS."""
        return (str(level), *(getattr(self, name) for name in LEVELS[level]))

    def label(self, level: int) -> str:
        """The same for people."""
        names = {"none": "", "cpu": "cpu card"}
        words = [
            names.get(getattr(self, name), getattr(self, name)) for name in LEVELS[level] if name != "stack"
        ]
        return ", ".join(word for word in words if word) + (
            ", this stack" if "stack" in LEVELS[level] else ""
        )


# From the narrowest group to the widest: the first with enough attempts for the confidence sets the interval.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("family", "method", "quantisation", "card", "stack"),
    ("family", "method", "quantisation", "card"),
    ("method", "quantisation", "card"),
    ("method", "card"),
    ("card",),
    ("kind",),
)
_OWN = 1  # LEVELS up to here hold jobs of the same family and method


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One ended attempt, projected beside measured. Memory in bytes, times in seconds; None: not known.

    job_id: whose attempts are one voice together, 0: not known, and a voice of its own;
    card_bytes: what its card has; measured: of its first rank; measured_step_s: None unless it made at least two
    steps, and only in the second is memory at its peak, for the first makes the optimizer's state; projected_step_s:
    what the model of time says, without what was measured before; confidence, margin_group, phase, sequence_length:
    of the projection that it was placed by; expandable: whether torch's segments could expand, None: no CUDA.
    """

    attempt_id: int = 0
    job_id: int = 0
    ts: float = 0.0
    trace_key: str | None = None
    architecture: str = ""
    family: str
    method: str
    quantisation: str = "none"
    card: str
    card_bytes: int | None = None
    stack: Mapping[str, str] = field(default_factory=dict)
    rung: Mapping[str, Any] = field(default_factory=dict)
    outcome: str = "succeeded"
    phase: str | None = None
    sequence_length: int | None = None
    confidence: float | None = None
    margin_group: str | None = None
    expandable: bool | None = None
    projected_allocated_bytes: int | None = None
    projected_reserved_bytes: int | None = None
    projected_device_bytes: int | None = None
    projected_upper_bytes: int | None = None
    projected_live_upper_bytes: int | None = None
    projected_step_s: float | None = None
    measured_allocated_bytes: int | None = None
    measured_reserved_bytes: int | None = None
    measured_device_bytes: int | None = None
    measured_step_s: float | None = None

    @cached_property
    def group(self) -> Group:
        return Group(self.family, self.method, self.quantisation, self.card, stack_name(self.stack))

    @property
    def ran_out(self) -> bool:
        return self.outcome == RAN_OUT

    @property
    def counts(self) -> bool:
        """Whether its memory says something of its projection."""
        return self.incomparable is None

    @property
    def incomparable(self) -> str | None:
        """Why it does not, one of INCOMPARABLE; None where it does."""
        made_two = self.measured_step_s is not None
        return incomparable(
            self.group.kind, self.ran_out, made_two, self.card_bytes or 0, self.projected_upper_bytes or 0
        )

    def residual(self, figure: str = "device") -> float | None:
        """measured / projected - 1 of one of FIGURES; None where it was not measured.

        Of an attempt that ran out, device bytes are at least what its card has: more was asked for than there was.
        """
        projected = getattr(self, f"projected_{figure}_bytes")
        measured = getattr(self, f"measured_{figure}_bytes")
        if self.ran_out and figure == "device":
            measured = wanted(measured, self.card_bytes or self.projected_upper_bytes or 0)
        return error(projected, measured) if self.counts else None

    @property
    def beside_residual(self) -> float | None:
        """How much more stood on the card beside live bytes than projected, as a share of projected device bytes."""
        device, live = self.projected_device_bytes, self.projected_allocated_bytes
        measured, measured_live = self.measured_device_bytes, self.measured_allocated_bytes
        if not self.counts or not device or live is None or measured is None or measured_live is None:
            return None
        return ((measured - measured_live) - (device - live)) / device

    @property
    def covered(self) -> bool | None:
        """Whether its device bytes stayed under the upper bound that placed it; None where that can't be said."""
        if self.ran_out:
            return False
        if not self.counts or self.measured_device_bytes is None or not self.projected_upper_bytes:
            return None
        return self.measured_device_bytes <= self.projected_upper_bytes

    def covered_part(self, part: Part) -> bool | None:
        """Whether one part of its device bytes stayed under its own bound; None where that can't be said.

        Of an attempt that ran out nobody saw which part it was.
        """
        live, whole = self.measured_allocated_bytes, self.measured_device_bytes
        bound, upper = self.projected_live_upper_bytes, self.projected_upper_bytes
        if not self.counts or self.ran_out or live is None or whole is None or bound is None or upper is None:
            return None
        return live <= bound if part == "live" else whole - live <= upper - bound

    @property
    def pace(self) -> float | None:
        """Measured step time over the projected one."""
        if not self.measured_step_s or not self.projected_step_s:
            return None
        return self.measured_step_s / self.projected_step_s


def incomparable(
    kind: CardKind, ran_out: bool, made_two: bool, card_bytes: int, upper_bytes: int
) -> str | None:
    """Why measured memory is not comparable with what was projected, one of INCOMPARABLE; None where it is.

    made_two: whether the attempt made two steps, which it takes to reach the peak, or ran out of memory on the way.
    card_bytes: what it had of its card; upper_bytes: what it was to stay under. On a CPU card that is roomy for it
    nobody can tell the peak from what malloc keeps.
    """
    if ran_out:
        return None
    if kind == "cpu" and roomy(card_bytes, upper_bytes):
        return ROOMY
    return None if made_two else NO_PEAK


def wanted(measured: float | None, card_bytes: int) -> float:
    """Device bytes that an attempt wanted at least that ran out of memory: more than there was."""
    return max(measured or 0, card_bytes)


Values = tuple[float, float | None, float]  # of the whole, of live bytes, of those beside them


@dataclass(frozen=True)
class _Residual:
    """measured / projected - 1 of device bytes; live, beside: as Margin has both, None where nobody saw them apart.

    at_least: the attempt ran out, and more was wanted.
    """

    attempt_id: int
    whole: float
    live: float | None = None
    beside: float | None = None
    at_least: bool = False

    def capped(self, most: float) -> _Residual:
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


class Calibration:
    """What a set of observations says of the next attempt. Immutable; answers are kept."""

    def __init__(self, observations: Iterable[Observation] = ()) -> None:
        self._residuals: dict[tuple[str, ...], list[_Residual]] = {}
        self._paces: dict[tuple[str, ...], list[float]] = {}
        self._margins: dict[tuple[Group, float, Allocator], Margin | None] = {}
        self._speeds: dict[Group, float] = {}
        seen = list(observations)
        residuals, paces = _Voices[_Residual](), _Voices[float]()
        for place, one in enumerate(seen):
            voice = one.job_id or -place - 1
            if (whole := one.residual()) is not None:
                parts = (one.residual("allocated"), one.beside_residual)
                residuals.add(one.group, voice, _Residual(one.attempt_id, whole, *parts, one.ran_out))
            if one.pace is not None:
                paces.add(one.group, voice, one.pace)
        #: Attempts whose error counts as OUTLIER, and no more.
        self.outliers: frozenset[int] = _cap(residuals)
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
            if seen and (level <= _OWN or len(seen) >= LEAST_RUNS):
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


class _Voices(Generic[T]):
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


def _cap(residuals: _Voices[_Residual]) -> frozenset[int]:
    """Caps outliers where they are. The attempts whose they are."""
    together: dict[tuple[str, ...], list[tuple[Group, int]]] = {}
    for group, voices in residuals.said.items():
        together.setdefault(group.at(_OWN), []).extend((group, voice) for voice in voices)
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


def family_of(spec: JobSpec, config: Mapping[str, Any] | None = None) -> str:
    """The model_type; where neither the job nor `config` (of a local folder) tells it, the model's path.

    The trace of a model from a hub tells it later (MemoryProfile.model_type).
    """
    known = spec.model.config or config or {}
    return str(known.get("model_type") or spec.model.path)


def quantisation_of(method: str) -> str:
    """How a method packs the base weights."""
    return "nf4" if method == "qlora" else "none"


def stack_name(stack: Mapping[str, str]) -> str:
    """Library versions as one text."""
    return ",".join(f"{name}={version}" for name, version in sorted(stack.items()))
