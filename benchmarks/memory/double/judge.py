"""How right projections are on the half of the shapes that no term was fitted to: errors, coverage, slack, a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.memory import results
from benchmarks.memory.double import fit
from benchmarks.memory.double.rows import Run, card_of
from benchmarks.memory.double.shapes import JUDGED
from jobs.allocator.residuals import CONFIDENCES
from jobs.projection import half_the_risk
from jobs.units import GiB

GOALS = {
    "allocated": {"mean": 0.01, "worst": 0.03},
    "reserved": {"mean": 0.03, "worst": 0.08},
    "upper": {"exceeded": 0.05, "slack": 0.08},
}
CONFIDENCE = 0.95


def run(runs: Sequence[Run]) -> dict[str, Any]:
    """Tables for people, and the figures. Runs whose reserve the card's end held back say nothing of it."""
    judged = [one for one in runs if one.case.shape in JUDGED and not one.capped]
    groups: dict[str, Any] = {}
    for figure in ("allocated", "reserved"):
        pairs = [(_words(one), _error(one, figure)) for one in judged]
        found = {**results.by_group(pairs), "all": results.figures([error for _, error in pairs])}
        groups[figure] = found
        print(f"{figure} bytes, projected / measured - 1")
        print("\n".join(results.lines(found)))
    bounds = _bounds(runs, judged)
    print(f"upper bound at {CONFIDENCE:.0%}, of residuals of the fitted half alone")
    for name, one in bounds.items():
        print(
            f"{name:32} {one['count']:5} exceeded {one['exceeded']:.1%}, slack {one['slack']:.1%} in the mean"
        )
    reached = {
        name: results.within(groups[name]["all"], limits)
        if name in groups
        else _within(bounds["all"], limits)
        for name, limits in GOALS.items()
    }
    return {
        "shapes": sorted({one.case.shape for one in judged}),
        "runs": len(judged),
        **{name: groups[name]["all"] | {"by_allocator": _only(groups[name])} for name in groups},
        "upper": bounds,
        "met": all(reached.values()),
        "reached": reached,
    }


def _only(found: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in found.items() if name != "all"}


def _within(found: dict[str, Any], limits: dict[str, float]) -> bool:
    return bool(found["count"]) and all(found[name] <= limit for name, limit in limits.items())


def _words(one: Run) -> str:
    return " ".join(fit.key_of(one))


def _error(one: Run, figure: str) -> float:
    measured = one.allocated if figure == "allocated" else one.reserved
    return float(getattr(one.said, f"{figure}_bytes") / measured - 1)


def _bounds(runs: Sequence[Run], judged: Sequence[Run]) -> dict[str, Any]:
    """How often device bytes passed their bound, and by how much it was above them where it held."""
    ends: dict[fit.Key, tuple[float, float]] = {}
    for key in fit.KEYS:
        known = fit.unseen([one for one in runs if fit.key_of(one) == key], ["fitted"])
        place = CONFIDENCES.index(half_the_risk(CONFIDENCE))
        live = fit.quantiles([residual for _, residual, _ in known], fit.NOT_SHOWN)[place][1]
        rests = [min(each, fit.GIVEN_BACK) if key == fit.RECORDS else each for _, _, each in known]
        ends[key] = live, fit.quantiles(rests)[place][1]
    slacks: dict[str, list[float]] = {"all": []}
    for one in judged:
        live, rest = ends[fit.key_of(one)]
        said = one.said
        upper = said.device_bytes + live * said.allocated_bytes + rest * said.device_bytes
        slack = upper / (one.reserved + card_of(one.case).context_bytes) - 1
        for name in ("all", _words(one)):
            slacks.setdefault(name, []).append(slack)
    return {
        name: {
            "count": len(found),
            "exceeded": round(fmean(slack < 0 for slack in found), 4),
            "slack": round(fmean(max(0.0, slack) for slack in found), 4),
        }
        for name, found in slacks.items()
        if found
    }


def plot(runs: Sequence[Run], path: Path) -> None:
    """Measured against projected reserved bytes on the judged half, a colour for each allocator setting."""
    import matplotlib  # here: an extra that only this asks for

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for key in fit.KEYS:
        own = [one for one in runs if fit.key_of(one) == key and one.case.shape in JUDGED and not one.capped]
        axes.scatter(
            [one.said.reserved_bytes / GiB for one in own],
            [100 * (one.reserved / one.said.reserved_bytes - 1) for one in own],
            s=14,
            label=f"{key[0]}, rows {'of one length' if key[1] == 'alike' else 'of many lengths'}",
        )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(
        xscale="log",
        xlabel="projected reserved, GiB",
        ylabel="measured above projected, %",
        title="Reserved bytes on the CUDA double (real allocator, no GPU)",
    )
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
