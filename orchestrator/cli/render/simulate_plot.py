"""`tuneyard simulate --plot FILE`: how many jobs were done, and how many had waited no longer, by each policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.cli.render.plots import new_figure, save
from orchestrator.simulate.trace import Ran

COLOURS = ("#30638e", "#d1495b", "#2a9d5c", "#6a4c93")
LINES = ("-", "--", "-.", ":")
TICKS = {1: "1s", 10: "10s", 60: "1m", 600: "10m", 3600: "1h", 36_000: "10h", 86_400: "1d", 864_000: "10d"}


def draw_simulation(ran: Mapping[str, Sequence[Ran]], path: Path) -> None:
    """Two panels, completion and waiting times: the share of jobs with at most so much, a line a policy."""
    figure, (left, right) = new_figure(2)
    for index, (policy, jobs) in enumerate(ran.items()):
        style = {"color": COLOURS[index % 4], "linestyle": LINES[index % 4], "label": policy}
        _share(left, [jct for one in jobs if (jct := one.jct_s) is not None], style)
        _share(right, [one.waited_s for one in jobs if one.end_s is not None], style)
    left.set(xlabel="submission to completion", ylabel="share of jobs, %")
    right.set(xlabel="waited")
    left.legend(frameon=False)
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
    axis.step(ordered, shares, where="post", linewidth=1.6, **style)
