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
from jobs.memory.allocator.residuals import CONFIDENCES
from jobs.memory.projection import half_the_risk
from jobs.units import GiB

GOALS = {
    "allocated": {"mean": 0.01, "worst": 0.03},
    "reserved": {"mean": 0.03, "worst": 0.08},
    "upper": {"exceeded": 0.05, "slack": 0.08},
}
CONFIDENCE = 0.95
WORDS = {
    "expandable": "segments that expand,",
    "default": "torch's default,",
    "alike": "rows of one length",
    "varied": "rows of all lengths",
}


def run(runs: Sequence[Run]) -> dict[str, Any]:
    """A table for people, and the figures. Runs whose reserve the card's end held back say nothing of it."""
    judged = [one for one in runs if one.case.shape in JUDGED and not one.capped]
    groups: dict[str, Any] = {}
    for figure in ("allocated", "reserved"):
        pairs = [(_words(one), _error(one, figure)) for one in judged]
        groups[figure] = {
            **results.by_group(pairs),
            "all": results.figures([error for _, error in pairs]),
        }
    bounds = _bounds(runs, judged)
    print("\n".join(table(groups["allocated"], groups["reserved"], bounds)))
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


def table(allocated: dict[str, Any], reserved: dict[str, Any], upper: dict[str, Any]) -> list[str]:
    """Figures of each way of running beside the goals. The bound is of residuals of the fitted half alone."""
    made = [
        f"{'judged half':42} {'runs':>4}   {'allocated':>15}   {'reserved':>15}   {'bound':>6} {'slack':>6}",
        f"{'':42} {'':4}   {'mean':>7} {'worst':>7}   {'mean':>7} {'worst':>7}   {'passed':>6} {'mean':>6}",
        _line("goal", "", GOALS["allocated"], GOALS["reserved"], GOALS["upper"]),
    ]
    for key in (" ".join(key) for key in fit.KEYS):
        if key in upper:
            words = " ".join(WORDS[word] for word in key.split())
            made.append(_line(words, upper[key]["count"], allocated[key], reserved[key], upper[key]))
    if upper["all"]["count"]:
        made.append(_line("all", upper["all"]["count"], allocated["all"], reserved["all"], upper["all"]))
    return made


def _line(
    words: str, count: object, allocated: dict[str, Any], reserved: dict[str, Any], upper: dict[str, Any]
) -> str:
    shares = "   ".join(f"{one['mean']:7.2%} {one['worst']:7.2%}" for one in (allocated, reserved))
    return f"{words:42} {count!s:>4}   {shares}   {upper['exceeded']:6.1%} {upper['slack']:6.1%}"


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
        known = fit.of_projections(key, [one for one in runs if fit.key_of(one) == key], ["fitted"])
        place = CONFIDENCES.index(half_the_risk(CONFIDENCE))
        live = fit.quantiles([residual for _, residual, _ in known], fit.NOT_SHOWN)[place][1]
        ends[key] = live, fit.quantiles([rest for _, _, rest in known])[place][1]
    slacks: dict[str, list[float]] = {"all": []}
    for one in judged:
        live, rest = ends[fit.key_of(one)]
        said = one.said
        upper = said.device_bytes + live * said.allocated_bytes + rest * said.device_bytes
        slack = upper / (one.reserved + card_of(one.case).context_bytes) - 1
        for name in ("all", _words(one)):
            slacks.setdefault(name, []).append(slack)
    return {name: _of_slacks(found) for name, found in slacks.items()}


def _of_slacks(found: Sequence[float]) -> dict[str, Any]:
    return {
        "count": len(found),
        "exceeded": round(fmean(slack < 0 for slack in found), 4) if found else None,
        "slack": round(fmean(max(0.0, slack) for slack in found), 4) if found else None,
    }


def plot(runs: Sequence[Run], path: Path) -> None:
    """Measured against projected reserved bytes on the judged half, a colour for each allocator setting."""
    import matplotlib  # here: an extra that only this asks for

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(figsize=(7, 5))
    for key in fit.KEYS:
        own = [one for one in runs if fit.key_of(one) == key and one.case.shape in JUDGED and not one.capped]
        axes.scatter(
            [one.said.reserved_bytes / GiB for one in own],
            [100 * (one.reserved / one.said.reserved_bytes - 1) for one in own],
            s=14,
            label=" ".join(WORDS[word] for word in key),
        )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(
        xlabel="projected reserved, GiB",
        ylabel="measured above projected, %",
        title="Reserved bytes on the CUDA double (real allocator, no GPU)",
    )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ticker.ScalarFormatter())
    axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
