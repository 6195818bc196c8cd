"""What `tuneyard plan` says: the cards, the peak of each by part, every rung that was tried."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from jobs.memory.bottleneck import cannot_help, moment, why_not
from jobs.units import gib, span
from orchestrator.cli.render import words
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Cell, Column, Row, is_terminal, show, show_heading, show_line

if TYPE_CHECKING:
    from orchestrator.schemas import PlanCard, PlanData, PlanShape, ProjectionShape
    from orchestrator.schemas import Tried as TriedShape

BAR = 32  # characters for all of a card's memory
PARTS = 4  # of the peak that have a line each without --details
RUNNERS_UP = 2
EIGHTHS = " ▏▎▍▌▋▊▉█"
LEVELS = "▁▂▃▄▅▆▇█"
COLOURS = {
    "weights": "blue",
    "adapters": "bright_blue",
    "reference": "cyan",
    "gradients": "magenta",
    "optimizer": "bright_magenta",
    "activations": "green",
    "boundaries": "bright_green",
    "logits_and_loss": "yellow",
    "transients": "bright_yellow",
}

CARD_COLUMNS = (
    Column(" "),
    Column("CARD", flexible=True),
    Column("MEMORY", right=True, keep=6),
    Column("FREE", right=True, keep=2),
    Column("FITS"),
    Column("PEAK", right=True),
    Column("UPPER", right=True, keep=4),
    Column("CHECKPOINTING", keep=8, flexible=True),
    Column("SLOWDOWN", right=True, keep=4),
    Column("STEP", right=True, keep=3),
    Column("TOKENS/S", right=True, keep=5),
    Column("TAKES", right=True, keep=9),
    Column("PRICE", right=True, keep=9),
)
TRIED_COLUMNS = (
    Column(" "),
    Column("CHECKPOINTING"),
    Column("PEAK", right=True),
    Column("UPPER", right=True, keep=5),
    Column("HIGHEST IN", keep=3),
    Column("STEP", right=True, keep=4),
    Column("TIME", right=True),
    Column("FITS"),
)


def tell(plan: PlanShape, explain: bool) -> None:
    """Print a plan for the reader of stdout: a line a card, and the parts of the pick; explain: all there is."""
    if not plan["cards"]:
        note(plan["reason"] or "no cards: no host has joined; --local plans on this machine")
        for line in [*plan["advice"], *plan["notes"]]:
            note(f"  - {line}")
        return
    show(CARD_COLUMNS, [_card_row(card) for card in plan["cards"]])
    _tell_misfits(plan["cards"], explain)
    shown = plan["cards"] if explain else _foremost(plan["cards"])
    for card in shown:
        if card["projection"]:
            _tell_card(plan, card, card["projection"], explain)
        if explain:
            sys.stdout.write("\n")
            show(TRIED_COLUMNS, [_tried_row(tried, card) for tried in card["tried"]])
    if plan["data"]:
        (_tell_data if explain else _sum_up_data)(plan, plan["data"])
    if plan["reason"] and not any((card["reason"] or "-") in plan["reason"] for card in plan["cards"]):
        sys.stdout.write("\n")
        show_line("", Cell(plan["reason"], "red"))
    heading = show_heading if explain or plan["advice"] else show_line  # a screen has 24 lines
    for title, lines in (("what would help", plan["advice"]), ("worth knowing", plan["notes"])):
        if lines:
            heading(title)
        for line in lines:
            show_line("  - ", line)
    if len(shown) < len(plan["cards"]):
        show_line("--details (-v) has the parts of every card, and every rung that was tried")


def _tell_misfits(cards: list[PlanCard], explain: bool) -> None:
    """A line for each card that won't do; those with the same reason share one."""
    named: dict[str, list[str]] = {}
    for card in cards:
        if not card["fits"]:
            named.setdefault(card["reason"] or "does not fit", []).append(card["card"])
    if named and (explain or not any(card["fits"] for card in cards)):
        sys.stdout.write("\n")
    for reason, names in named.items():
        show_line(f"{', '.join(names)}: ", Cell(reason, "red"))


def _foremost(cards: list[PlanCard]) -> list[PlanCard]:
    """The pick; without one the card that comes nearest."""
    picks = [card for card in cards if card["pick"]] or [card for card in cards if card["fits"]][:1]
    return picks or cards[-1:]


def _card_row(card: PlanCard) -> Row:
    projection, fits = card["projection"], card["fits"]
    slow = card["slowdown"]
    return [
        Cell("*" if card["pick"] else "", "bold green"),
        Cell(card["card"], "bold" if card["pick"] else ""),
        gib(card["memory_bytes"]),
        f"{card['free']} of {card['count']}" if card["count"] else "",
        Cell("yes" if fits else "no", "green" if fits else "red"),
        Cell(words.size(projection["device_bytes"]) if projection else "", "green" if fits else "red"),
        words.size(projection["upper_bytes"]) if projection else "",
        card["rung"]["label"] if card["rung"] else "",
        "" if slow is None else _slower(slow),
        words.duration(card["step_s"]),
        "" if card["tokens_per_s"] is None else _count(card["tokens_per_s"]),
        "" if card["hours"] is None else span(card["hours"] * 3600),
        _price(card),
    ]


def _price(card: PlanCard) -> str:
    """Of the whole job, where its length is known; else of an hour."""
    if card["cost"] is not None:
        return f"{card['cost']:.2f}"
    return "" if card["price"] is None else f"{card['price']:.2f}/h"


def _tell_card(plan: PlanShape, card: PlanCard, projection: ProjectionShape, explain: bool) -> None:
    """The peak by part, a bar each, against all that the card has; then what it means."""
    has, device = card["memory_bytes"], projection["device_bytes"]
    least = min(card["tried"], key=lambda tried: tried["upper_bytes"], default=None)
    nearest = f"does not fit, nearest is {least['rung']['label']}" if least else "does not fit"
    show_heading(f"{card['card']}, {gib(has)}: {card['rung']['label'] if card['rung'] else nearest}")
    parts = [(name, count) for name, count in projection["parts"].items() if count]
    if not explain:
        parts = _largest(parts)
    widest = max((len(name) for name, _ in parts), default=0)
    scale = max(has, device)
    for name, count in parts:
        lead = f"  {name.replace('_', ' ').ljust(widest)}  {gib(count).rjust(10)}  "
        show_line(lead, Cell(_bar(count / scale), COLOURS.get(name, "cyan")))
    share = f"{device / has:.0%}" if has else ""
    lead = f"  {'peak'.ljust(widest)}  {gib(device).rjust(10)}  "
    where = f"{share} of the card, {moment(projection['phase'])}"
    show_line(lead, Cell(where, "" if card["fits"] else "red"))
    for name, text in [
        *_facts(plan, card, projection, explain),
        *(_explained(projection) if explain else []),
    ]:
        show_line(f"  {name.ljust(widest)}  ", text)


def _largest(parts: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The weights and the largest other parts, in their order, and the rest as one."""
    if len(parts) <= PARTS + 1:
        return parts
    kept = {name for name, _ in sorted(parts, key=lambda part: (part[0] == "weights", part[1]))[-PARTS:]}
    rest = sum(count for name, count in parts if name not in kept)
    return [*(part for part in parts if part[0] in kept), ("others", rest)]


def _facts(
    plan: PlanShape, card: PlanCard, projection: ProjectionShape, explain: bool
) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    if rung := card["rung"]:
        told.append(("batch", _batch(rung["micro_batch"], rung["accumulation"], plan["gpus"])))
    if card["lower_bytes"] is not None:
        basis = f"measured: {card['basis']}" if explain else "measured"
        basis = "nothing measured yet" if card["basis"] == "prior" else basis
        ends = f"{gib(card['lower_bytes'])} to {gib(projection['upper_bytes'])}"
        told.append(("interval", f"{ends} at {plan['confidence']:.0%} confidence ({basis})"))
    if (saves := card["saves_bytes"]) is not None:
        told.append(("", _checkpointing(card, projection, saves)))
    if explain:
        told.append(("then", _runners_up(card)))
    told += [("note", text) for text in card["notes"]]
    return [(name, text) for name, text in told if text]


def _batch(micro: int, accumulation: int, gpus: int) -> str:
    """What 2×4 means, said once."""
    each = " on each GPU" if gpus > 1 else ""
    rows = "sequence" if micro == 1 else "sequences"
    return (
        f"{micro}×{accumulation}: micro-batches of {micro} {rows}, {accumulation} accumulated per step{each}"
    )


def _explained(projection: ProjectionShape) -> list[tuple[str, str]]:
    """What torch would show of the peak, and how high each phase goes."""
    torch = [
        f"{name} {gib(count)} ({' to '.join(map(gib, projection['intervals'][name]))})"
        for name, count in (
            ("allocated", projection["allocated_bytes"]),
            ("reserved", projection["reserved_bytes"]),
        )
    ]
    phases = [f"{name} {gib(count)}" for name, count in projection["phases"].items()]
    return [("torch", ", ".join(torch)), ("phases", ", ".join(phases))]


def _checkpointing(card: PlanCard, projection: ProjectionShape, saves: int) -> str:
    if cannot_help(saves, projection["device_bytes"]):
        return why_not(projection["phase"], projection["parts"])
    if card["rung"] and card["rung"]["every_n"]:
        return f"checkpointing takes {_slower(card['slowdown'] or 0.0)}; every layer saves {gib(saves)}"
    return f"checkpointing every layer would save {gib(saves)}, and is not needed" if card["rung"] else ""


def _runners_up(card: PlanCard) -> str:
    others = [tried for tried in card["tried"] if tried["fits"] and tried["rung"] != card["rung"]]
    told = []
    for tried in others[:RUNNERS_UP]:
        slower = _slower((tried["relative_time"] or 1) - 1, "same time")
        told.append(f"{tried['rung']['label']} ({gib(tried['device_bytes'])}, {slower})")
    return ", then ".join(told)


def _tried_row(tried: TriedShape, card: PlanCard) -> Row:
    chosen = tried["rung"] == card["rung"]
    slow = tried["relative_time"]
    why = "ran out before" if tried["excluded"] else "no"
    return [
        Cell("*" if chosen else "", "bold green"),
        Cell(tried["rung"]["label"], "bold" if chosen else ""),
        words.size(tried["device_bytes"]),
        words.size(tried["upper_bytes"]),
        tried["phase"],
        words.duration(tried["step_s"]),
        "" if slow is None else f"{slow:.2f}×",
        Cell("yes", "green") if tried["fits"] else Cell(why, "red"),
    ]


def _sum_up_data(plan: PlanShape, data: PlanData) -> None:
    """The data in a line or two, and what to be warned of."""
    lengths = f"tokens: mean {data['mean']:.0f}, p90 {_count(data['p90'])}, longest {_count(data['longest'])}"
    lost = [f"{_count(data['truncated'])} cut"] if data["truncated"] else []
    lost += [f"{_count(data['dropped'])} left out"] if data["dropped"] else []
    padding = [f"{data['padding']:.0%} padding"] if data["padding"] >= 0.005 else []
    sampled = " (a sample)" if data["sampled"] else ""
    show_line("data: ", "; ".join([f"{_count(data['rows'])} rows{sampled}", lengths, *lost, *padding]))
    for warning in data["warnings"]:
        show_line("warning: ", Cell(warning, "yellow"))


def _tell_data(plan: PlanShape, data: PlanData) -> None:
    sampled = ", a sample of them counted" if data["sampled"] else ""
    show_heading(f"data: {_count(data['rows'])} rows{sampled}")
    figures = [
        f"mean {data['mean']:.0f}",
        f"p50 {_count(data['p50'])}",
        f"p90 {_count(data['p90'])}",
        f"p99 {_count(data['p99'])}",
        f"longest {_count(data['longest'])}",
        *([f"{_count(data['truncated'])} cut"] if data["truncated"] else []),
        *([f"{_count(data['dropped'])} left out"] if data["dropped"] else []),
    ]
    show_line("  tokens   ", ", ".join(figures))
    for warning in data["warnings"]:
        show_line("  warning  ", Cell(warning, "yellow"))
    if len(data["histogram"]) > 1:
        show_line("  lengths  ", Cell(_sparkline(data["histogram"]), "cyan"))
    if plan["length"] < plan["sequence_length"]:
        show_line(
            "  planned  ",
            f"for {_count(plan['length'])} of sequence_length {_count(plan['sequence_length'])}",
        )
    if data["padding"] >= 0.005:
        show_line("  padding  ", f"{data['padding']:.0%} of each batch")


def _sparkline(histogram: list[list[int]]) -> str:
    """Sequences by length, from none to the longest, in BAR steps."""
    longest = histogram[-1][0]
    columns = [0] * BAR
    for length, count in histogram:
        columns[min(BAR - 1, length * BAR // (longest + 1))] += count
    top = max(columns)
    levels = LEVELS if is_terminal() else ".:-=+*#@"
    drawn = "".join(" " if not n else levels[-(-n * len(levels) // top) - 1] for n in columns)
    return f"1 |{drawn}| {_count(longest)}"


def _bar(share: float) -> str:
    """A bar of BAR characters for all of it; at least a sliver for anything."""
    if not is_terminal():
        return "#" * max(1, round(share * BAR))
    eighths = max(1, round(share * BAR * 8))
    return EIGHTHS[-1] * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")


def _slower(slow: float, none: str = "none") -> str:
    return none if slow < 0.005 else f"+{slow:.0%}"


def _count(number: Any) -> str:
    return f"{number:,.0f}"
