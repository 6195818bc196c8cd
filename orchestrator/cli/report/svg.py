"""Charts as SVG: their colours are classes of the page, so that they follow its theme. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from jobs.units import GiB, gib
from orchestrator.cli.render.plot_style import PARTS, ink_on, part_name
from orchestrator.cli.render.table import clean
from orchestrator.cli.report.facts import Curve, ticks

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 16, 40


@dataclass(frozen=True)
class Series:
    """A line. kind: a class of the page: first, second."""

    name: str
    curve: Curve
    kind: str = "first"
    dots: bool = False


def text(value: object) -> str:
    """Anything as text of a page: escaped, without control characters."""
    return escape(clean(str(value)), quote=True)


def number(value: float) -> str:
    """A tick's number."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.3g}"
    return f"{value:,.6g}"


def chart(title: str, unit: str, series: Sequence[Series], levels: Sequence[tuple[float, str]] = ()) -> str:
    """Lines against the step. unit: of what is drawn; levels: values with a dashed line and its name. Empty without a
    point.
    """
    drawn = [one for one in series if one.curve]
    if not drawn:
        return ""
    steps = [x for one in drawn for x, _ in one.curve]
    values = [y for one in drawn for _, y in one.curve] + [value for value, _ in levels]
    low, high = min(values), max(values)
    if high <= low:
        low, high = low - (abs(low) or 1.0) * 0.1, high + (abs(high) or 1.0) * 0.1
    pad = (high - low) * 0.06
    low, high = (low - pad if low < 0 or low - pad > 0 else 0.0), high + pad
    first, last = min(steps), max(max(steps), min(steps) + 1)

    def x_of(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / (last - first)

    def y_of(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    out = [f'<figure><figcaption>{text(title)}<span class="unit">{text(unit)}</span></figcaption>']
    said = text(", ".join(one for one in (title, unit, "by step") if one))
    out.append(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">')
    for value in ticks(low, high):
        y = y_of(value)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(_words("tick", LEFT - 7, y + 4, "end", number(value)))
    for step in ticks(first, last, 6):
        out.append(_words("tick", x_of(step), HEIGHT - BOTTOM + 16, "middle", number(step)))
    out.append(_words("axis", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "middle", "step"))
    for value, name in levels:
        y = y_of(value)
        out.append(f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(_words("levelname", LEFT + 6, y - 5, "start", name))
    for one in drawn:
        points = [(x_of(x), y_of(y)) for x, y in one.curve]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        out.append(f'<polyline class="line {one.kind}" points="{path}"/>')
        if one.dots or len(points) == 1:
            out += [f'<circle class="dot {one.kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points]
        if len(drawn) > 1:
            x, y = points[-1]
            below = one is drawn[0]  # beside each other they would be written over each other
            out.append(_words(f"name {one.kind}", x - 4, y + 20 if below else y - 10, "end", one.name))
    out.append("</svg></figure>")
    return "".join(out)


def _words(kind: str, x: float, y: float, anchor: str, said: str) -> str:
    """A text at a place. kind: its classes; anchor: start, middle or end."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text(said)}</text>'


def _bar(x: float, y: float, width: float, look: str, said: str) -> str:
    """A bar with what it says when somebody points at it. look: its class or fill."""
    size = f'x="{x:.1f}" y="{y:.1f}" width="{max(0.5, width):.1f}" height="38"'
    return f"<rect {size} {look}><title>{text(said)}</title></rect>"


def memory(parts: dict[str, int], measured: int | None, upper: int | None, card: int | None) -> str:
    """Projected parts as one bar, what was measured as another below it, the bound and the card as marks."""
    most = max([sum(parts.values()), measured or 0, upper or 0, card or 0])
    if not most:
        return ""
    width, left, right = 1140, 92, 24

    def x_of(size: float) -> float:
        return left + (width - left - right) * size / most

    said = "Memory on the card, projected by part and measured, GiB"
    out = [f'<svg viewBox="0 0 {width} 170" role="img" aria-label="{said}">']
    for value in ticks(0, most / GiB, 8):
        x = x_of(value * GiB)
        out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="22" y2="132"/>')
        out.append(_words("tick", x, 149, "middle", number(value)))
    out.append(_words("axis", width - right, 166, "end", "GiB on the card"))
    out.append(_words("row", 82, 56, "end", "projected"))
    at = 0
    for name, size in parts.items():
        x, wide = x_of(at), x_of(at + size) - x_of(at)
        fill = PARTS.get(name, "#888888")
        out.append(_bar(x, 32, wide, f'fill="{fill}"', f"{part_name(name)} {gib(size)}"))
        if wide > 7.5 * len(part_name(name)) + 12:
            kind = "inbar" if ink_on(fill) == "#ffffff" else "inbar dark"
            out.append(_words(kind, x + 6, 56, "start", part_name(name)))
        at += size
    if measured:
        out.append(_words("row", 82, 108, "end", "measured"))
        out.append(_bar(left, 84, x_of(measured) - left, 'class="measured"', gib(measured)))
        out.append(_words("inbar own", left + 6, 108, "start", gib(measured)))
    for mark, name in ((upper, "upper bound"), (card, "what the card has")):
        if mark:
            x, at_end = x_of(mark), x_of(mark) > width * 0.8
            out.append(f'<line class="level" x1="{x:.1f}" x2="{x:.1f}" y1="20" y2="132"/>')
            anchor = "end" if at_end else "start"
            out.append(_words("levelname", x + (-5 if at_end else 5), 16, anchor, f"{name} {gib(mark)}"))
    out.append("</svg>")
    return "".join(out)
