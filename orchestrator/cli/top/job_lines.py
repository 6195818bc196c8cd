"""What the screen of one job says: its state, loss and memory as curves, its log. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jobs.units import GiB, gib, span
from orchestrator.cli.render import words
from orchestrator.cli.top.curves import Curve, plot
from orchestrator.cli.top.marks import Line, bar, fit, short

if TYPE_CHECKING:
    from orchestrator.schemas import JobFull, MetricPoint

LEAST_LOG = 5  # lines


def head(job: JobFull, width: int, now: float) -> list[Line]:
    """Two lines: what it is and how it stands."""
    about = f"job {job['id']}  {job['name']}  {job['model']}, {job['method']}, {job['user']}"
    where = ", ".join(job["hosts"])
    if job["cards"]:
        about += f"  on {where} ({words.cards(job['cards'])})"
    first: Line = [(fit(about, width), "title")]
    state = words.state(job["state"], job["cancel_requested"]).text
    role = {"running": "busy", "succeeded": "good", "failed": "bad"}.get(job["state"], "warn")
    second: Line = [(f"{state} ", role)]
    progress = job["progress"]
    if progress and progress["total_steps"]:
        share = progress["step"] / progress["total_steps"]
        second += bar(share, 16, None, "busy")
        said = [f" {progress['step']:,}/{progress['total_steps']:,}"]
        said.append(f"loss {words.loss(progress)}" if words.loss(progress) else "")
        said.append(f"{short(progress['tokens_per_s'])} tokens/s" if progress["tokens_per_s"] else "")
        said.append(f"{span(progress['eta_s'] or 0)} to go" if progress["eta_s"] else "")
        second.append(("  ".join(one for one in said if one), ""))
    reason = words.reason(job, now)
    room = max(0, width - sum(len(text) for text, _ in second) - 2)
    return [first, [*second, ("  " + fit(reason, room), "dim")]]


def curve_of(points: Sequence[MetricPoint], name: str, scale: float = 1.0) -> Curve:
    """Step and value of what was told; what is no number is left out."""
    found: list[tuple[float, float]] = []
    for point in points:
        value: Any = dict(point)[name]
        if isinstance(value, int | float) and math.isfinite(value):
            found.append((point["step"], value / scale))
    return found


def curves(job: JobFull, points: Sequence[MetricPoint], width: int, height: int) -> list[Line]:
    """Loss and memory beside each other, each with its title."""
    left = (width - 2) // 2
    right = width - 2 - left
    attempts = job["attempts_detail"]
    projection: Any = (attempts[-1]["projection"] if attempts else None) or {}
    levels = [
        (value / GiB, f"{name} {gib(value)}")
        for value, name in (
            (projection.get("device_bytes"), "projected"),
            (projection.get("upper_bytes"), "bound"),
        )
        if value
    ]
    loss = plot(curve_of(points, "loss"), left, height - 1, lambda value: f"{value:.3g}", none="no step yet")
    memory = plot(
        *(curve_of(points, "device_bytes", GiB), right, height - 1, lambda value: f"{value:.3g}"),
        levels=levels,
        none="not measured yet",
    )
    steps = f", steps {points[0]['step']:,} to {points[-1]['step']:,}" if points else ""
    lines: list[Line] = [
        [(fit("loss" + steps, left) + "  ", "head"), (fit("memory on the card, GiB", right), "head")]
    ]
    return [*lines, *([*one, ("  ", ""), *other] for one, other in zip(loss, memory, strict=True))]


def log(text: Sequence[str], width: int, height: int, back: int, title: str) -> list[Line]:
    """The last lines of a log that there is room for. back: so many lines before the end."""
    end = max(0, len(text) - back)
    shown = text[max(0, end - (height - 1)) : end]
    said = f"log{title}" + (f", {back:,} lines before its end" if back else "")
    lines: list[Line] = [[(fit(said, width), "head")]]
    lines += [[(fit(line.expandtabs(4), width), "")] for line in shown]
    return lines + [[] for _ in range(height - len(lines))]


def whole(
    job: JobFull | None,
    points: Sequence[MetricPoint],
    text: Sequence[str],
    size: tuple[int, int],
    back: int,
    trouble: str,
    now: float,
) -> list[Line]:
    """The screen. size: its width and height; trouble: why what is shown is not of now."""
    width, height = size
    lines = head(job, width, now) if job else [[(fit("job", width), "title")], []]
    if trouble:
        lines.append([(fit(trouble, width), "bad")])
    if job is None:
        return [*lines, *([] for _ in range(height - len(lines)))]
    room = height - len(lines)
    drawn = max(0, min(16, room - LEAST_LOG - 1, room * 2 // 5))
    if drawn >= 4:
        lines += curves(job, points, width, drawn)
    attempt = f" of attempt {job['attempts']}" if job["attempts"] > 1 else ""
    return lines + log(text, width, height - len(lines), back, attempt)
