"""What a card's readings say of its health, beside what was told of it last: which events that makes. Pure.

A fault is told at once, and that it is over once it has been for QUIET_S; clocks that heat or power hold down alike.
Errors that the card's memory counts are told at once, and then at most once in EVERY_S with all that came since: a card
that flaps or counts by the thousand fills no table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.units import counted
from orchestrator.store.requests import Note

QUIET_S = 60.0
EVERY_S = 600.0
_SEEN_S = 30.0  # how old what is stored of a slow card may be: it is written that often

# NVML's reasons for lower clocks that are none of a healthy card's (nvmlClocksEventReason*, nvml.h of driver 535).
SLOW = {0x08: "hardware slowdown", 0x20: "heat (software)", 0x40: "heat (hardware)", 0x80: "power brake"}
SLOW_MASK = sum(SLOW)

Signs = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """A card at a moment. throttle: NVML's bit mask; ecc_*: since its driver was loaded; None: it can't tell."""

    ts: float
    fault: str | None = None
    throttle: int | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    xids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sign:
    """An event of a card."""

    kind: Note
    text: str
    data: Mapping[str, Any]


def healthy(seen: Seen) -> bool:
    """Whether there is nothing to tell of a card of which nothing was told before."""
    return not (
        seen.fault
        or seen.ecc_corrected
        or seen.ecc_uncorrected
        or seen.xids
        or (seen.throttle and seen.throttle & SLOW_MASK)
    )


def signs_of(told: Any, seen: Seen) -> tuple[Signs | None, list[Sign]]:
    """What is known of the card from now on, None: nothing; and what happened to it. told: what was known before."""
    known: Signs = dict(told) if isinstance(told, dict) else {}
    found = [
        *_faults(known, seen),
        *_slow(known, seen),
        *_errors(known, seen, "ecc_uncorrected", Note.CARD_ECC, "uncorrected"),
        *_errors(known, seen, "ecc_corrected", Note.CARD_ECC_CORRECTED, "corrected"),
        *_driver(known, seen),
    ]
    return known or None, found


def _faults(known: Signs, seen: Seen) -> Iterable[Sign]:
    before, at = known.get("fault"), _number(known.get("fault_at"))
    if seen.fault:
        known.pop("well_at", None)
        if not before or (seen.fault != before and seen.ts - at >= QUIET_S):
            known |= {"fault": seen.fault, "fault_at": seen.ts}
            yield Sign(Note.CARD_FAULT, f"takes no work: {seen.fault}", {"fault": seen.fault})
    elif before:
        since = known.setdefault("well_at", seen.ts)
        if seen.ts - _number(since) >= QUIET_S:
            for name in ("fault", "fault_at", "well_at"):
                known.pop(name, None)
            yield Sign(Note.CARD_WELL, "takes work again", {"since": since})


def _slow(known: Signs, seen: Seen) -> Iterable[Sign]:
    now, before = (seen.throttle or 0) & SLOW_MASK, known.get("slow")
    if now and not before:
        known |= {"slow": now, "slow_at": seen.ts, "slow_from": seen.ts}
        why = " and ".join(word for bit, word in SLOW.items() if now & bit)
        yield Sign(Note.CARD_SLOW, f"its clocks are held down: {why}", {"reasons": now})
    elif now:
        if seen.ts - _number(known.get("slow_at")) >= _SEEN_S:
            known["slow_at"] = seen.ts
    elif before and seen.throttle is not None:
        last = _number(known.get("slow_at"))
        if seen.ts - last >= QUIET_S:
            since = _number(known.get("slow_from"))
            for name in ("slow", "slow_at", "slow_from"):
                known.pop(name, None)
            data = {"since": since, "until": last}
            yield Sign(Note.CARD_FULL_SPEED, "its clocks are not held down any more", data)


def _errors(known: Signs, seen: Seen, name: str, kind: Note, word: str) -> Iterable[Sign]:
    count: int | None = getattr(seen, name)
    if count is None:
        return
    told, at = int(_number(known.get(name))), f"{name}_at"
    if count < told:  # its driver was loaded again
        told = 0
    if count == 0:
        known.pop(name, None)
        known.pop(at, None)
    elif count > told and (at not in known or seen.ts - _number(known[at]) >= EVERY_S):
        known |= {name: count, at: seen.ts}
        text = f"{counted(count - told, f'{word} memory error')}, {count:,} since its driver was loaded"
        yield Sign(kind, text, {"new": count - told, "count": count})


def _driver(known: Signs, seen: Seen) -> Iterable[Sign]:
    if seen.xids and seen.ts > _number(known.get("xid_at")):  # a report may come twice
        known["xid_at"] = seen.ts
        for number in seen.xids:
            yield Sign(Note.CARD_XID, f"error of the driver: XID {number}", {"xid": number})


def _number(value: Any) -> float:
    """What another version or a wrong hand may have stored as no number counts as none."""
    return float(value) if isinstance(value, int | float) else 0.0
