"""Pictures for `--plot FILE`: what they share, and the drawings. matplotlib is an extra, imported when one is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.errors import UsageError
from jobs.units import GiB, counted
from orchestrator.cli.render.plot_style import DARK, LIGHT, Theme
from orchestrator.cli.render.table import clean

if TYPE_CHECKING:
    from orchestrator.schemas import Accuracy

SUFFIXES = (".png", ".svg", ".pdf")


def check_plot(path: Path | None, flag: str = "--plot") -> None:
    """Raises UsageError where no picture could be written there: before anything else is done."""
    if path is None:
        return
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{flag} {path}: give it a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        )
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{flag} {path}: the folder {path.absolute().parent} does not exist")
    _pyplot()


def check_dark(dark: bool, path: Path | None) -> None:
    """Raises UsageError for --dark without a picture that it could be of."""
    if dark and path is None:
        raise UsageError("--dark is of the picture; give --plot FILE too")


def new_figure(
    columns: int = 1, width: float = 7.0, height: float = 4.5, dark: bool = False, rows: int = 1
) -> tuple[Any, list[Any], Theme]:
    """A figure, its axes row by row, and the colours. Sizes in inches, of each axes. Raises UsageError without
    matplotlib.
    """
    theme = DARK if dark else LIGHT
    figure, axes = _pyplot().subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    figure.set_facecolor(theme.back)
    for axis in axes.flat:
        axis.set_facecolor(theme.back)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(theme.faint)
        axis.tick_params(colors=theme.faint, labelcolor=theme.ink, labelsize=10, length=3)
        axis.grid(color=theme.grid, linewidth=0.8)
        axis.set_axisbelow(True)
        for label in (axis.xaxis.label, axis.yaxis.label):
            label.set(color=theme.ink, fontsize=11)
    return figure, list(axes.flat), theme


def title(axis: Any, text: str, theme: Theme) -> None:
    """What an axes shows, at its left above it."""
    axis.set_title(shown(text), loc="left", fontsize=11, fontweight="bold", color=theme.ink)


def heading(figure: Any, text: str, theme: Theme) -> None:
    """What the picture shows."""
    figure.suptitle(shown(text), x=0.01, ha="left", fontsize=13, fontweight="bold", color=theme.ink)


def shown(text: str) -> str:
    """A text as it stands: without control characters, and no dollar sign begins a formula."""
    return clean(text).replace("$", r"\$")


def side_key(axis: Any, names: Sequence[tuple[str, str]], theme: Theme) -> None:
    """Names beside an axes, each with a square of its colour: (name, colour), from the bottom up as bars stack."""
    for number, (name, colour) in enumerate(names):
        at = 0.02 + 0.062 * number
        style = {"transform": axis.transAxes, "va": "bottom", "clip_on": False}
        axis.text(1.03, at, "■", color=colour, fontsize=13, **style)
        axis.text(1.085, at, shown(name), color=theme.ink, fontsize=10, **style)


def label_end(
    axis: Any, values: Sequence[tuple[float, float]], name: str, colour: str, below: bool = False
) -> None:
    """The name of a line above its end, or below it."""
    known = [(x, y) for x, y in values if math.isfinite(y)]
    if known:
        axis.annotate(
            *(name, known[-1], (-4, -20 if below else 10)),
            textcoords="offset points",
            color=colour,
            fontsize=10,
            ha="right",
        )


def log_axes(axes: Any) -> None:
    """Logarithmic scales, with plain numbers on them."""
    from matplotlib.ticker import LogLocator, NullLocator  # here: as above

    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, _: f"{value:g}")


def save(figure: Any, path: Path) -> None:
    """Write the figure and let go of it. Raises UsageError where that can't be done."""
    try:
        figure.savefig(path, dpi=144, facecolor=figure.get_facecolor())
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}") from None
    finally:
        _pyplot().close(figure)


def _pyplot() -> Any:
    try:
        import matplotlib  # here: an extra, and 0.5 s that only --plot pays
    except ImportError:
        raise UsageError(
            "--plot needs matplotlib, which is not installed: pip install 'tuneyard[plot]'"
        ) from None
    matplotlib.use("Agg")  # a file, never a window
    import matplotlib.pyplot as pyplot  # after the choice above

    return pyplot


def draw_accuracy(found: Accuracy, path: Path, dark: bool = False) -> bool:
    """Measured against projected device bytes with each upper bound; beside it, how errors are spread.

    False, and no file, where no attempt was measured to its peak.
    """
    rows = [row for row in found["attempts"] if row["error"] is not None]
    if not rows:
        return False
    figure, (left, right), theme = new_figure(2, width=6.5, height=5.0, dark=dark)
    sides: list[float] = []
    for row in rows:
        x = (row["projected"]["device_bytes"] or 0) / GiB
        y = (1 + (row["error"] or 0.0)) * x
        upper = (row["projected"]["upper_bytes"] or 0) / GiB
        missed = row["covered"] is False
        left.plot([x, x], [min(x, y), upper], color=theme.faint, linewidth=1, alpha=0.7, zorder=1)
        left.plot(x, upper, marker="_", color=theme.faint, zorder=1)
        sign = "^" if row["outcome"] == "oom" else "D" if missed else "o"
        left.plot(x, y, marker=sign, color=theme.bad if missed else theme.plain, markersize=6, zorder=2)
        sides += [x, y, upper]
    ends = [min(sides) * 0.9, max(sides) * 1.1]
    left.plot(ends, ends, color=theme.mark, linewidth=1.2, zorder=0)
    log_axes(left)
    left.set(xlim=ends, ylim=ends)
    left.set(xlabel="projected peak on the card, GiB", ylabel="measured peak, GiB")
    middle = (ends[0] * ends[1]) ** 0.5
    left.annotate(
        "as projected", (middle, middle), (6, -14), textcoords="offset points", color=theme.mark, fontsize=10
    )
    kinds = [("●  under its bound", theme.plain), ("◆  over its bound", theme.bad)]
    kinds += [("▲  out of memory", theme.ink)] if any(row["outcome"] == "oom" for row in rows) else []
    for number, (text, colour) in enumerate([*kinds, ("–  upper bound", theme.faint)]):
        left.text(
            0.03, 0.96 - 0.055 * number, text, transform=left.transAxes, color=colour, fontsize=10, va="top"
        )
    title(left, "each attempt, and the bound it had to stay under", theme)
    errors = sorted(100 * (row["error"] or 0.0) for row in rows)
    shares = [100 * (rank + 1) / len(errors) for rank in range(len(errors))]
    right.step(errors, shares, color=theme.plain, where="post", linewidth=1.8)
    right.axvline(0, color=theme.mark, linewidth=1.2)
    right.annotate("as projected", (0, 3), (5, 0), textcoords="offset points", color=theme.mark, fontsize=10)
    right.set(xlabel="measured over projected, %", ylabel="share of attempts with less, %", ylim=(0, 102))
    coverage = found["coverage"]
    share = "" if coverage["share"] is None else f": {coverage['share']:.0%} under the bound"
    title(right, f"{counted(len(rows), 'attempt')}{share}", theme)
    save(figure, path)
    return True
