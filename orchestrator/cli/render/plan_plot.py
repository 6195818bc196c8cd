"""`tuneyard plan --plot FILE`: memory by part against rung, with the card's line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.units import GiB, gib
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.plots import BAD, PLAIN, check_plot, new_figure, save

if TYPE_CHECKING:
    from orchestrator.schemas import PlanCard, PlanShape, Tried

MOST = 4  # cards in one picture
COLOURS = {
    "weights": "#264653",
    "adapters": "#3f6f8a",
    "gradients": "#6a4c93",
    "optimizer": "#a06cd5",
    "activations": "#2a9d8f",
    "boundaries": "#8ab17d",
    "logits_and_loss": "#e9c46a",
    "transients": "#f4a261",
    "ddp_buffers": "#e76f51",
    "allocator": "#adb5bd",
    "context": "#ced4da",
    "nccl": "#dee2e6",
}


def draw_plan(plan: PlanShape, path: Path) -> None:
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
    figure, axes = new_figure(len(cards), width=6.0, height=5.0)
    for axis, card in zip(axes, cards, strict=True):
        _draw(axis, card)
    axes[0].set_ylabel("peak on the card, GiB")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    figure.suptitle(f"{plan['job']}: projected peak by part", fontsize=11)
    save(figure, path)


def _panels(cards: list[PlanCard]) -> list[PlanCard]:
    middle = next((i for i, card in enumerate(cards) if card["pick"]), len(cards) - 1)
    first = max(0, min(middle - 1, len(cards) - MOST))
    return cards[first : first + MOST]


def _draw(axis: Any, card: PlanCard) -> None:
    bars = rungs_of(card)
    names = [_name(tried) for tried in bars]
    floor = [0.0] * len(bars)
    for part in dict.fromkeys(name for tried in bars for name in tried["parts"]):
        heights = [tried["parts"].get(part, 0) / GiB for tried in bars]
        if any(heights):
            label, colour = part.replace("_", " "), COLOURS.get(part, "#777777")
            axis.bar(names, heights, bottom=floor, color=colour, width=0.75, label=label)
            floor = [low + height for low, height in zip(floor, heights, strict=True)]
    uppers = [tried["upper_bytes"] / GiB for tried in bars]
    axis.errorbar(
        range(len(bars)),
        floor,
        yerr=[[0.0] * len(bars), [max(0.0, top - low) for top, low in zip(uppers, floor, strict=True)]],
        fmt="none",
        ecolor="#222222",
        elinewidth=1,
        capsize=3,
        label="upper bound",
    )
    axis.axhline(card["memory_bytes"] / GiB, color=BAD, linewidth=1.5, label="what the card has")
    for tick, tried in zip(axis.get_xticklabels(), bars, strict=True):
        tick.set(rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
        if tried["rung"] == card["rung"]:
            tick.set(color=PLAIN, fontweight="bold")
    size = bars[0]["rung"]
    title = f"{card['card']}, {gib(card['memory_bytes'])}; micro-batch {size['micro_batch']}×{size['accumulation']}"
    axis.set_title(title, fontsize=9)


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
