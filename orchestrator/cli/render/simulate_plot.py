"""`tuneyard simulate --plot FILE`: how many jobs were done, and how many had waited no longer, by each policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.cli.render.plot_style import LINES
from orchestrator.cli.render.plots import new_figure, save, shown, title
from orchestrator.simulate.trace import Ran

TICKS = {1: "1s", 10: "10s", 60: "1m", 600: "10m", 3600: "1h", 36_000: "10h", 86_400: "1d", 864_000: "10d"}


def draw_simulation(ran: Mapping[str, Sequence[Ran]], path: Path, dark: bool = False) -> None:
    """Two panels, completion and waiting times: the share of jobs with at most so much, a line a policy."""
    figure, (left, right), theme = new_figure(2, width=6.5, height=4.8, dark=dark)
    for index, (policy, jobs) in enumerate(ran.items()):
        style = {"color": theme.series[index % 4], "linestyle": LINES[index % 4]}
        took = [jct for one in jobs if (jct := one.jct_s) is not None]
        waited = [one.waited_s for one in jobs if one.end_s is not None]
        for axis, seconds in ((left, took), (right, waited)):
            _share(axis, seconds, {**style, "label": shown(policy)})
    # Policies that agree lie over each other, so that a name beside one line would be beside another, too.
    left.legend(frameon=False, fontsize=11, labelcolor=theme.ink, loc="lower right", handlelength=3.2)
    title(left, "from submission to completion", theme)
    title(right, "waited before it began", theme)
    left.set(xlabel="at most so long", ylabel="share of jobs, %")
    right.set(xlabel="at most so long", ylabel="share of jobs, %")
    for axis in (left, right):
        axis.set(xscale="log", ylim=(0, 102))
        low, high = axis.get_xlim()
        axis.set_xticks([at for at in TICKS if low <= at <= high] or [1], minor=False)
        axis.set_xticks([], minor=True)
        axis.xaxis.set_major_formatter(lambda at, _: TICKS.get(round(at), f"{at:g}s"))
    save(figure, path)


def _share(axis: Any, seconds: Sequence[float], style: dict[str, Any]) -> None:
    ordered = sorted(
        max(1.0, value) for value in seconds
    )  # a logarithm has no place for a job that never waited
    shares = [100 * (rank + 1) / len(ordered) for rank in range(len(ordered))]
    axis.step(ordered, shares, where="post", linewidth=1.8, **style)
