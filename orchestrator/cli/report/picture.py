"""A report as a picture, by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.units import GiB, gib
from orchestrator.cli.render.plot_style import PARTS, Theme, ink_on, part_name
from orchestrator.cli.render.plots import heading, label_end, new_figure, save, title
from orchestrator.cli.report.facts import Facts

OTHER = "#777777"


def draw_report(facts: Facts, path: Path, dark: bool = False) -> None:
    """Memory by part, loss, memory by step, speed. Raises UsageError."""
    figure, (bars, loss, peak, speed), theme = new_figure(2, 7.0, 4.2, dark, rows=2)
    job = facts.job
    heading(figure, f"{facts.label}: {job['method']} of {job['model']}, {job['state']}", theme)
    _memory(bars, facts, theme)
    trained, tested = facts.curve("loss"), facts.curve("eval_loss")
    for name, values, colour, marker in (
        ("training", trained, theme.plain, ""),
        ("evaluation", tested, theme.bad, "o"),
    ):
        if values:
            loss.plot(*zip(*values, strict=True), color=colour, marker=marker, markersize=4, linewidth=1.8)
            if trained and tested:
                label_end(loss, values, name, colour, values is trained)
    loss.margins(y=0.12)
    loss.set(xlabel="step", ylabel="loss, nats a token")
    title(loss, "loss", theme)
    _line(peak, facts.curve("device_bytes", GiB), theme)
    for size, name, at in (
        (facts.projected("device_bytes"), "projected", 0.62),
        (facts.projected("upper_bytes"), "upper bound", 0.02),
    ):
        if size:
            peak.axhline(size / GiB, color=theme.mark, linewidth=1.4, linestyle="--")
            peak.annotate(
                *(f"{name} {gib(size)}", (at, size / GiB), (0, 4)),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                color=theme.mark,
                fontsize=10,
            )
    peak.set(xlabel="step", ylabel="GiB")
    peak.margins(y=0.15)
    title(peak, "peak memory on the card so far", theme)
    _line(speed, facts.curve("tokens_per_s"), theme)
    speed.set(xlabel="step", ylabel="tokens/s")
    title(speed, "speed", theme)
    save(figure, path)


def _line(axis: Any, values: list[tuple[float, float]], theme: Theme) -> None:
    if values:
        axis.plot(*zip(*values, strict=True), color=theme.plain, linewidth=1.3)
    else:
        axis.text(0.5, 0.5, "nothing was told", transform=axis.transAxes, color=theme.faint, ha="center")


def _memory(axis: Any, facts: Facts, theme: Theme) -> None:
    """Projected parts, each named in its place where there is room for it, and what was measured."""
    measured, upper = facts.measured("device_bytes"), facts.projected("upper_bytes")
    card = facts.attempt["card_bytes"] if facts.attempt else None
    parts = facts.parts
    most = max([sum(parts.values()), measured or 0, upper or 0], default=0) / GiB or 1.0
    at = 0.0
    small: list[tuple[str, int]] = []
    for name, size in parts.items():
        wide, colour = size / GiB, PARTS.get(name, OTHER)
        axis.barh(1, wide, left=at, color=colour, edgecolor=theme.back, linewidth=0.6, height=0.6)
        if wide / most > 0.0155 * len(part_name(name)) + 0.02:
            style = {"color": ink_on(colour), "fontsize": 10, "ha": "center", "va": "center"}
            axis.text(at + wide / 2, 1, part_name(name), **style)
        elif size:
            small.append((name, size))
        at += wide
    if measured:
        axis.barh(0, measured / GiB, color=theme.plain, height=0.6)
        style = {"color": theme.back, "fontsize": 10, "va": "center", "fontweight": "bold"}
        axis.text(most * 0.015, 0, gib(measured), **style)
    if upper:
        axis.axvline(upper / GiB, color=theme.mark, linestyle="--", linewidth=1.4)
        text = f"upper bound {gib(upper)}"
        axis.text(upper / GiB, 1.5, text, color=theme.mark, fontsize=10, ha="right", va="bottom")
    axis.set_yticks([0, 1], ["measured", "projected"])
    axis.set(ylim=(-1.5, 1.85), xlabel="GiB on the card")
    axis.grid(visible=False, axis="y")
    for number, (name, size) in enumerate(small):
        x, y = most * 0.36 * (number % 3), -0.55 - 0.26 * (number // 3)
        square = {"color": PARTS.get(name, OTHER), "fontsize": 12, "va": "center"}
        axis.text(x, y, "■", **square).set_in_layout(False)
        said = f"{part_name(name)} {gib(size)}"
        axis.text(x + most * 0.03, y, said, color=theme.ink, fontsize=9, va="center").set_in_layout(False)
    has = f", of {gib(card)}" if card else ""
    title(axis, f"memory by part{has}", theme)
