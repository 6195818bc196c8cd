"""The curves of a training: as text in a terminal, and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.commands.jobs.columns import loss
from orchestrator.cli.render.plots import heading, label_end, new_figure, save, title

if TYPE_CHECKING:
    from orchestrator.schemas import MetricPoint, Metrics

HEIGHT = 16  # lines of a text plot
NARROWEST = 30
Curve = list[tuple[int, float]]


def curve(points: Sequence[MetricPoint], name: str) -> Curve:
    """Step and value of what was told; NaN where it was no number."""
    found: Curve = []
    for point in points:
        value = dict(point)[name]
        if name in point["not_finite"]:
            found.append((point["step"], math.nan))
        elif isinstance(value, (int, float)):
            found.append((point["step"], float(value)))
    return found


def text_plot(points: Sequence[MetricPoint], width: int, height: int = HEIGHT) -> str:
    """Loss (*) and evaluation loss (o) against the step, in plain text at most `width` wide.

    A loss that is no number stands as ! above all others. Several points in one place are shown by their mean.
    """
    curves = {"*": curve(points, "loss"), "o": curve(points, "eval_loss")}
    finite = [value for found in curves.values() for _, value in found if math.isfinite(value)]
    steps = [step for found in curves.values() for step, _ in found]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    high = high if high > low else low + (abs(low) or 1.0) * 0.1
    labels = [loss(high), loss((low + high) / 2), loss(low)]
    margin = max(map(len, labels))
    columns = max(NARROWEST, width) - margin - 2
    first, last = (min(steps), max(steps)) if steps else (0, 1)
    grid = [[" "] * columns for _ in range(height)]
    nowhere: set[int] = set()
    for mark, found in curves.items():
        for column, values in _binned(found, first, last, columns).items():
            numbers = [value for value in values if math.isfinite(value)]
            if numbers:
                mean = sum(numbers) / len(numbers)
                grid[height - 1 - round((height - 1) * (mean - low) / (high - low))][column] = mark
            if len(numbers) < len(values):
                nowhere.add(column)
    for column in nowhere:  # last: no other mark hides it
        grid[0][column] = "!"
    left = {0: labels[0], height // 2: labels[1], height - 1: labels[2]}
    lines = [f"{left.get(at, '').rjust(margin)} |{''.join(row)}".rstrip() for at, row in enumerate(grid)]
    ends = f"{first}{str(last).rjust(max(1, columns - len(str(first))))}"
    legend = ["* loss"] + (["o evaluation loss"] if curves["o"] else [])
    if any(math.isnan(value) for found in curves.values() for _, value in found):
        legend.append("! not finite")
    return "\n".join(
        [
            *lines,
            f"{'':{margin}} +{'-' * columns}",
            f"{'':{margin}}  {ends}",
            f"{'':{margin}}  step; {', '.join(legend)}",
        ]
    )


def _binned(found: Curve, first: int, last: int, columns: int) -> dict[int, list[float]]:
    """Values by the column that their step falls into."""
    by_column: dict[int, list[float]] = {}
    for step, value in found:
        at = round((columns - 1) * (step - first) / max(1, last - first))
        by_column.setdefault(at, []).append(value)
    return by_column


def draw_metrics(found: Metrics, path: Path, dark: bool = False) -> None:
    """Loss and evaluation loss, learning rate, tokens/s, side by side."""
    points = found["points"]
    figure, (left, middle, right), theme = new_figure(3, width=5.0, dark=dark)
    trained, tested = curve(points, "loss"), curve(points, "eval_loss")
    for name, values, colour, marker in (
        ("training", trained, theme.plain, ""),
        ("evaluation", tested, theme.bad, "o"),
    ):
        if values:
            left.plot(*zip(*values, strict=True), color=colour, marker=marker, markersize=4, linewidth=1.8)
            if tested and trained:
                label_end(left, values, name, colour, values is trained)
    nowhere = sorted({step for step, value in (*trained, *tested) if math.isnan(value)})
    for at, step in enumerate(nowhere):
        left.axvline(step, color=theme.mark, linewidth=1, alpha=0.7)
        if at == 0:
            left.annotate(
                *("not finite", (step, 1), (3, -12)),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                color=theme.mark,
                fontsize=10,
            )
    left.margins(y=0.12)
    left.set(xlabel="step", ylabel="loss, nats a token")
    named = f"job {found['job']} ({found['name']})" if found["name"] else f"job {found['job']}"
    heading(figure, f"{named}, {found['state']}", theme)
    title(left, "loss", theme)
    for axes, name, label in (
        (middle, "learning_rate", "learning rate"),
        (right, "tokens_per_s", "tokens/s"),
    ):
        if values := curve(points, name):
            axes.plot(*zip(*values, strict=True), color=theme.plain, linewidth=1.8)
        axes.set(xlabel="step", ylabel=label)
        title(axes, label, theme)
    save(figure, path)
