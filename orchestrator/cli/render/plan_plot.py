"""`tuneyard plan --plot FILE`: memory by part against rung, with the card's line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.units import GiB, gib
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.plot_style import PARTS, Theme, part_name
from orchestrator.cli.render.plots import check_plot, heading, new_figure, save, shown, side_key, title

if TYPE_CHECKING:
    from orchestrator.schemas import PlanCard, PlanShape, Tried

MOST = 4  # cards in one picture
OTHER = "#777777"  # a part of a later version


def draw_plan(plan: PlanShape, path: Path, dark: bool = False) -> None:
    """A panel a card: a stacked bar for each rung at the chosen micro-batch, least checkpointing first.

    Of more than MOST cards, the pick and those next to it in size. Raises UsageError.
    """
    check_plot(path)
    cards = _panels([card for card in plan["cards"] if card["tried"]])
    if not cards:
        note("--plot has nothing to draw: no card was looked at")
        return
    if len(cards) < len(plan["cards"]):
        note(f"--plot shows {len(cards)} of {len(plan['cards'])} cards")
    figure, axes, theme = new_figure(len(cards), width=5.6, height=5.4, dark=dark)
    for axis, card in zip(axes, cards, strict=True):
        _draw(axis, card, theme)
    axes[0].set_ylabel("peak on the card, GiB")
    _name_parts(axes[-1], cards, theme)
    for axis in axes:  # one scale: what is higher is more
        axis.set_ylim(0, max(other.get_ylim()[1] for other in axes))
    of = "" if plan["job"] == "flags" else f"{plan['job']}: "
    heading(figure, f"{of}projected peak by part and checkpointing", theme)
    save(figure, path)


def _name_parts(axis: Any, cards: list[PlanCard], theme: Theme) -> None:
    """The parts beside the last panel, in the order in which they are stacked."""
    bars = [tried["parts"] for card in cards for tried in rungs_of(card)]
    found = dict.fromkeys(name for parts in bars for name in parts)
    known = [part for part in found if any(parts.get(part) for parts in bars)]
    side_key(axis, [(part_name(part), PARTS.get(part, OTHER)) for part in known], theme)


def _panels(cards: list[PlanCard]) -> list[PlanCard]:
    middle = next((i for i, card in enumerate(cards) if card["pick"]), len(cards) - 1)
    first = max(0, min(middle - 1, len(cards) - MOST))
    return cards[first : first + MOST]


def _draw(axis: Any, card: PlanCard, theme: Theme) -> None:
    bars = rungs_of(card)
    places = range(len(bars))
    floor = [0.0] * len(bars)
    for part in dict.fromkeys(name for tried in bars for name in tried["parts"]):
        heights = [tried["parts"].get(part, 0) / GiB for tried in bars]
        if any(heights):
            style = {"color": PARTS.get(part, OTHER), "edgecolor": theme.back, "linewidth": 0.6}
            axis.bar(places, heights, bottom=floor, width=0.78, **style)
            floor = [low + height for low, height in zip(floor, heights, strict=True)]
    uppers = [tried["upper_bytes"] / GiB for tried in bars]
    axis.errorbar(
        places,
        floor,
        yerr=[[0.0] * len(bars), [max(0.0, top - low) for top, low in zip(uppers, floor, strict=True)]],
        fmt="none",
        ecolor=theme.ink,
        elinewidth=1,
        capsize=3,
    )
    has = card["memory_bytes"] / GiB
    axis.axhline(has, color=theme.bad, linewidth=1.6)
    room = max(*uppers, has)
    axis.set_ylim(0, room * 1.1)
    axis.text(
        *(len(bars) - 0.5, has + room * 0.012, f"the card has {gib(card['memory_bytes'])}"),
        color=theme.bad,
        fontsize=10,
        ha="right",
        va="bottom",
        bbox={"facecolor": theme.back, "alpha": 0.88, "edgecolor": "none", "pad": 1.5},
    )
    axis.set_xticks(list(places), [shown(_name(tried)) for tried in bars])
    axis.grid(visible=False, axis="x")
    for tick, tried in zip(axis.get_xticklabels(), bars, strict=True):
        tick.set(rotation=55, ha="right", rotation_mode="anchor", fontsize=10)
        if tried["rung"] == card["rung"]:
            tick.set(color=theme.plain, fontweight="bold")
    size = bars[0]["rung"]
    title(axis, f"{card['card']}, micro-batch {size['micro_batch']}×{size['accumulation']}", theme)


def rungs_of(card: PlanCard) -> list[Tried]:
    """The rungs at the micro-batch that was chosen (else the smallest), least checkpointing first, offload last."""
    size = min(tried["rung"]["micro_batch"] for tried in card["tried"])
    if card["rung"]:
        size = card["rung"]["micro_batch"]
    bars = [tried for tried in card["tried"] if tried["rung"]["micro_batch"] == size]
    return sorted(
        bars,
        key=lambda tried: (
            tried["rung"]["offload"],
            -tried["rung"]["every_n"] if tried["rung"]["every_n"] else float("-inf"),
        ),
    )


def _name(tried: Tried) -> str:
    return str(tried["rung"]["label"]).rpartition(",")[0]
