"""What fit() chose and why, as text of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, Protocol

from jobs.memory.ladder import Choice, Tried
from jobs.memory.profile import MemoryProfile
from jobs.memory.sequence_lengths import Lengths
from jobs.units import gib, span
from workers.fit.card import Here
from workers.fit.request import Request

WIDTH = 80
_INDENT = 10
_ROWS = 6
_PARTS = 4


class Fitted(Protocol):
    """What is told of: workers/fit/fitted.py has it."""

    @property
    def choice(self) -> Choice: ...
    @property
    def changes(self) -> dict[str, tuple[Any, Any]]: ...
    @property
    def here(self) -> Here: ...
    @property
    def request(self) -> Request: ...
    @property
    def profile(self) -> MemoryProfile: ...
    @property
    def lengths(self) -> Lengths | None: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


def report(fitted: Fitted) -> str:
    """Card, rung, memory, time, what was changed, and the ladder around it."""
    lines = [_title(fitted), ""]
    for name, text in _facts(fitted):
        lines += _entry(name, text)
    lines += ["", *_ladder(fitted)]
    for note in fitted.notes:
        lines += ["", *textwrap.wrap(note, WIDTH)]
    return "\n".join(lines)


def _title(fitted: Fitted) -> str:
    method, training = fitted.request.spec.method, fitted.request.spec.training
    how = {
        "full": "full fine-tuning",
        "lora": f"LoRA of rank {method.rank}",
        "qlora": f"QLoRA of rank {method.rank}",
    }
    what = fitted.profile.model_type or "model"
    return "\n".join(
        textwrap.wrap(
            f"tuneyard fit: {how[method.kind]} of a {what} of {_billions(fitted.profile.parameter_count)} in "
            f"{fitted.request.spec.model.dtype}, {training.global_batch} rows a step, up to "
            f"{_longest(fitted):,} tokens each",
            WIDTH,
        )
    )


def _longest(fitted: Fitted) -> int:
    limit, lengths = fitted.request.spec.training.sequence_length, fitted.lengths
    return (
        limit
        if lengths is None
        else lengths.longest_batch_tokens(limit, fitted.request.spec.training.packing)
    )


def _billions(count: int) -> str:
    return f"{count / 1e9:.2f} B weights" if count >= 1e8 else f"{count / 1e6:.1f} M weights"


def _facts(fitted: Fitted) -> Iterator[tuple[str, str]]:
    card, projection, choice = fitted.here.card, fitted.choice.projection, fitted.choice
    others = fitted.here.others_bytes
    held = f", without the {gib(others)} that other processes hold" if others else ""
    yield "card", f"{card.name}: {gib(card.memory_bytes)}{held}"
    yield "chosen", f"checkpointing {projection.rung.label}"
    sure = fitted.request.spec.memory.confidence
    spare = card.memory_bytes - projection.upper_bytes
    yield (
        "memory",
        f"{gib(projection.device_bytes)} projected, at most {gib(projection.upper_bytes)} ({sure:.0%} sure), "
        f"{gib(spare)} to spare",
    )
    yield "", f"{_parts(projection.parts)}; highest at: {projection.phase}"
    slower = f"{choice.slowdown:+.0%} against no checkpointing" if choice.slowdown > 0.005 else "nothing"
    yield "costs", f"{slower}; {_step(projection.step_s)} a step by the card's data sheet"
    if fitted.changes:
        yield "changed", "\n".join(f"{name}: {old} -> {new}" for name, (old, new) in fitted.changes.items())
    else:
        yield "changed", "nothing: the configuration is the one that fits"


def _step(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else span(seconds)


def _parts(parts: Any) -> str:
    largest = sorted(parts.items(), key=lambda part: -part[1])[:_PARTS]
    return ", ".join(f"{name.replace('_', ' ')} {gib(count)}" for name, count in largest if count)


def _entry(name: str, text: str) -> list[str]:
    made: list[str] = []
    for line in text.splitlines():
        made += textwrap.wrap(line, WIDTH - _INDENT, subsequent_indent="  ")
    return [f"{name if not index else '':<{_INDENT}}{line}" for index, line in enumerate(made)]


def _ladder(fitted: Fitted) -> Iterator[str]:
    """A row for each way to checkpoint, those around the chosen one, and the config's own."""
    best = list(_best(fitted))
    at = next(index for index, one in enumerate(best) if one.rung == fitted.choice.rung)
    start = max(0, min(at - _ROWS // 2, len(best) - _ROWS))
    shown = best[start : start + _ROWS]
    own = next((one for one in fitted.choice.tried if one.rung == fitted.request.own), None)
    if own is not None and own not in shown:
        shown = [*shown, own]
    yield f"  {'CHECKPOINTING':<24}{'ROWS':>8}{'PEAK':>12}{'AT MOST':>12}{'FITS':>6}{'TIME':>8}"
    for one in shown:
        yield _row(one, fitted)


def _best(fitted: Fitted) -> Iterator[Tried]:
    """Of each way to checkpoint the fastest micro-batch that fits, else the smallest; the fastest way first."""
    ways: dict[tuple[int, bool], list[Tried]] = {}
    for one in fitted.choice.tried:
        ways.setdefault((one.rung.every_n, one.rung.offload), []).append(one)
    ways[fitted.choice.rung.every_n, fitted.choice.rung.offload].sort(
        key=lambda one: one.rung != fitted.choice.rung
    )
    for tried in ways.values():
        fits = next((one for one in tried if one.fits), None)
        yield fits or min(tried, key=lambda one: one.projection.upper_bytes)


def _row(one: Tried, fitted: Fitted) -> str:
    name, _, rows = one.rung.label.rpartition(", ")
    mark = "*" if one.rung == fitted.choice.rung else " "
    peak, upper = gib(one.projection.device_bytes), gib(one.projection.upper_bytes)
    time = f"{one.relative_time - 1:+.0%}" if one.relative_time > 1.005 else "-"
    yours = "  yours" if one.rung == fitted.request.own != fitted.choice.rung else ""
    fits = "yes" if one.fits else "no"
    return f"{mark} {name:<24}{rows:>8}{peak:>12}{upper:>12}{fits:>6}{time:>8}{yours}"
