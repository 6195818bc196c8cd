"""Fits the allocator's terms on one half of the shapes, and their residuals: what jobs/memory/allocator ships.

Least squares of relative errors with no term below zero. Residuals are those of shapes that had no part in the fit that
they are measured against: those of the judged half, and each of the fitted half against a fit of the others. torch's
default allocator is simulated, which takes no fit; its terms are for where nothing is simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple
from statistics import NormalDist

import numpy as np

from benchmarks.memory.double.rows import Run, card_of
from benchmarks.memory.double.shapes import FITTED
from jobs.memory.allocator import fitted
from jobs.memory.allocator.fitted import Terms
from jobs.memory.allocator.residuals import CONFIDENCES
from jobs.memory.allocator.terms import THREADS
from jobs.memory.projection import error
from jobs.units import MiB

Key = tuple[str, str]
KEYS: tuple[Key, ...] = tuple(fitted.FITTED)
NOT_SHOWN = 0.005  # deviation of live bytes that the double can't show: what kernels take by themselves on a real card


def key_of(run: Run) -> Key:
    """Which terms it is projected by."""
    return run.case.allocator, "varied" if run.case.varied else "alike"


def for_fitting(runs: Sequence[Run]) -> list[Run]:
    """Those of the fitted half whose reserve nothing held back."""
    return [run for run in runs if run.case.shape in FITTED and not run.capped]


def terms(runs: Sequence[Run]) -> Terms:
    """The terms that fit these runs best."""
    weights = np.array([1 / run.reserved for run in runs])
    moving = np.array([run.moving for run in runs])
    kept = np.array([run.allocated - run.requested for run in runs])
    shares = np.array([moving]).T
    remainders = _least(shares * weights[:, None], kept * weights)[0]
    columns = np.array([[MiB, run.moving, run.transient, run.loss] for run in runs])
    beyond = np.array([run.reserved - run.allocated for run in runs])
    found = _least(columns * weights[:, None], beyond * weights)
    return Terms(round(remainders, 4), round(found[0]) * MiB, *(round(share, 4) for share in found[1:]))


def _least(columns: np.ndarray, wanted: np.ndarray) -> list[float]:
    """Least squares without negative factors: the most negative column is left out until there is none."""
    kept = [index for index in range(columns.shape[1]) if columns[:, index].any()]
    factors = np.zeros(columns.shape[1])
    while kept:
        found, *_ = np.linalg.lstsq(columns[:, kept], wanted, rcond=None)
        if found.min() >= 0:
            factors[kept] = found
            break
        kept.pop(int(found.argmin()))
    return [float(factor) for factor in factors]


def beside(run: Run, made: Terms) -> tuple[float, float]:
    """Bytes beside live ones by these terms: counted as allocated, and reserved beyond that."""
    remainders, segments, moving, transient, loss = astuple(made)
    within = THREADS * _workspace(run) + remainders * run.moving
    return within, segments + moving * run.moving + transient * run.transient + loss * run.loss


def _workspace(run: Run) -> int:
    return card_of(run.case).workspace_bytes


def unseen(
    runs: Sequence[Run], halves: Sequence[str] = ("fitted", "judged")
) -> list[tuple[Run, float, float]]:
    """Runs of these halves with their residuals of live bytes and of those beside, by a fit that knew no such shape.

    runs: of one key. A shape of the judged half meets the terms of the fitted one, one of that the terms of the others.
    """
    own = for_fitting(runs)
    whole = terms(own)
    without = {shape: terms([run for run in own if run.case.shape != shape]) for shape in FITTED}
    return [
        (run, *residuals(run, without.get(run.case.shape, whole)))
        for run in runs
        if not run.capped and ("fitted" if run.case.shape in FITTED else "judged") in halves
    ]


def simulated(
    runs: Sequence[Run], halves: Sequence[str] = ("fitted", "judged")
) -> list[tuple[Run, float, float]]:
    """Runs of these halves with the same residuals, of the projections that were made of them."""
    return [
        (
            run,
            error(run.said.allocated_bytes, run.allocated) or 0.0,
            (run.reserved - run.allocated - run.said.reserved_bytes + run.said.allocated_bytes)
            / run.said.device_bytes,
        )
        for run in runs
        if not run.capped and ("fitted" if run.case.shape in FITTED else "judged") in halves
    ]


def of_projections(
    key: Key, runs: Sequence[Run], halves: Sequence[str] = ("fitted", "judged")
) -> list[tuple[Run, float, float]]:
    """simulated() or unseen(), as runs of this key are projected."""
    return simulated(runs, halves) if key[0] == "default" else unseen(runs, halves)


def residuals(run: Run, made: Terms) -> tuple[float, float]:
    """Of live bytes, and of what stands beside them as a share of device bytes: as jobs/memory/projection.py has
    both.
    """
    within, beyond = beside(run, made)
    device = run.live + within + beyond + card_of(run.case).context_bytes
    live = error(run.live + within, run.allocated)
    return live or 0.0, (run.reserved - run.allocated - beyond) / device


def quantiles(values: Sequence[float], least: float = 0.0) -> tuple[tuple[float, float], ...]:
    """(low, high) of these residuals at each of CONFIDENCES, the projection inside; least: a deviation."""
    made: list[tuple[float, float]] = []
    ordered = sorted(values)
    for confidence in CONFIDENCES:
        rank = min(len(ordered), int(np.ceil((len(ordered) + 1) * confidence)))
        reach = least * max(0.0, NormalDist().inv_cdf(confidence))
        low, high = min(-reach, ordered[-rank]), max(reach, ordered[rank - 1])
        made.append((_away(low), _away(high)))
    return tuple(made)


def _away(value: float) -> float:
    return float(np.sign(value) * np.ceil(abs(value) * 1000) / 1000)


def run(runs: Sequence[Run], say: Callable[[str], None] = print) -> dict[str, object]:
    """Prints the tables of jobs/memory/allocator/fitted.py and residuals.py."""
    by_key = {key: [one for one in runs if key_of(one) == key] for key in KEYS}
    counts: dict[str, int] = {}
    say("FITTED = {")
    for key in KEYS:
        own = for_fitting(by_key[key])
        counts[" ".join(key)] = len(own)
        made = terms(own)
        size = made.segments_bytes // MiB
        shares = ", ".join(f"{share}" for share in (made.moving, made.transient, made.loss))
        say(f"    {key}: Terms({made.remainders}, {size} * MiB, {shares}),  # {len(own)} runs")
    say("}")
    say("RESIDUALS = {")
    for key in KEYS:
        _say_residuals(repr(key), of_projections(key, by_key[key]), say)
    say("}")
    say("ROUGH = {")
    for key in KEYS:
        if key[0] == "default":
            _say_residuals(f'"{key[1]}"', unseen(by_key[key]), say)
    say("}")
    return {"runs": counts}


def _say_residuals(name: str, found: Sequence[tuple[Run, float, float]], say: Callable[[str], None]) -> None:
    say(f"    {name}: Residuals(  # {len(found)} runs")
    say(f"        live={quantiles([live for _, live, _ in found], NOT_SHOWN)},")
    say(f"        beside={quantiles([rest for _, _, rest in found])},")
    say("    ),")
