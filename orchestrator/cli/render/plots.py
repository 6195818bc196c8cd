"""Pictures for `--plot FILE`: what they share, and the drawings. matplotlib is an extra, imported when one is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.errors import UsageError
from jobs.units import GiB, counted

if TYPE_CHECKING:
    from orchestrator.schemas import Accuracy

SUFFIXES = (".png", ".svg", ".pdf")
GOOD, BAD, PLAIN, FAINT = (
    "#2a9d5c",
    "#d1495b",
    "#30638e",
    "#b8bfc6",
)  # distinct to the colour-blind, and in grey


def check_plot(path: Path | None) -> None:
    """Raises UsageError where no picture could be written there: before anything else is done."""
    if path is None:
        return
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"--plot {path}: give it a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        )
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot {path}: the folder {path.absolute().parent} does not exist")
    _pyplot()


def new_figure(columns: int = 1, width: float = 7.0, height: float = 4.5) -> tuple[Any, list[Any]]:
    """A figure and its axes, side by side. Raises UsageError without matplotlib. Sizes in inches, `width` each."""
    figure, axes = _pyplot().subplots(
        1, columns, figsize=(width * columns, height), squeeze=False, layout="constrained"
    )
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.set_axisbelow(True)
    return figure, list(axes[0])


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
        figure.savefig(path, dpi=144)
    except OSError as error:
        raise UsageError(f"--plot {path} can't be written: {error.strerror or error}") from None
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


def draw_accuracy(found: Accuracy, path: Path) -> bool:
    """Measured against projected device bytes with each upper bound; beside it, how errors are spread.

    False, and no file, where no attempt was measured to its peak.
    """
    rows = [row for row in found["attempts"] if row["error"] is not None]
    if not rows:
        return False
    figure, (left, right) = new_figure(2)
    sides: list[float] = []
    for row in rows:
        x = (row["projected"]["device_bytes"] or 0) / GiB
        y = (1 + (row["error"] or 0.0)) * x
        upper = (row["projected"]["upper_bytes"] or 0) / GiB
        colour = BAD if row["covered"] is False else GOOD
        left.plot([x, x], [min(x, y), upper], color=FAINT, linewidth=1, zorder=1)
        left.plot(x, upper, marker="_", color=FAINT, zorder=1)
        left.plot(x, y, marker="^" if row["outcome"] == "oom" else "o", color=colour, markersize=5, zorder=2)
        sides += [x, y, upper]
    ends = [min(sides) * 0.9, max(sides) * 1.1]
    left.plot(ends, ends, color=PLAIN, linewidth=1, zorder=0)
    log_axes(left)
    left.set(xlim=ends, ylim=ends)
    left.set(xlabel="projected peak on the card, GiB", ylabel="measured, GiB")
    left.set_title("each attempt, and the bound it had to stay under", fontsize=10)
    errors = sorted(100 * (row["error"] or 0.0) for row in rows)
    right.step(
        errors, [100 * (rank + 1) / len(errors) for rank in range(len(errors))], color=PLAIN, where="post"
    )
    right.axvline(0, color=FAINT, linewidth=1)
    right.set(xlabel="measured over projected, %", ylabel="share of attempts with less, %", ylim=(0, 102))
    coverage = found["coverage"]
    share = "" if coverage["share"] is None else f": {coverage['share']:.0%} under the bound"
    right.set_title(f"{counted(len(rows), 'attempt')}{share}", fontsize=10)
    save(figure, path)
    return True
