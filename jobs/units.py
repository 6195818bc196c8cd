"""Sizes and durations as people write them, read to bytes and seconds and back."""

from __future__ import annotations

import re
from collections.abc import Sequence

KiB, MiB, GiB, TiB = 2**10, 2**20, 2**30, 2**40
_SIZES = {
    "B": 1,
    "KIB": KiB,
    "MIB": MiB,
    "GIB": GiB,
    "TIB": TiB,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
}
_TIMES = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*")
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*")


def parse_size(text: str) -> int:
    """Bytes of a size such as "24GiB" or "700 MiB". Raises ValueError with what would be right."""
    match = _SIZE.fullmatch(text)
    unit = match and _SIZES.get(match[2].upper())
    if not match or not unit or len(match[1]) > 30:
        raise ValueError("not a size: write a number and a unit, such as 24GiB or 700MiB")
    return int(float(match[1]) * unit)


def exact_size(count: int) -> str:
    """Bytes as parse_size() reads them back, in the largest unit of which they are a whole number: 700MiB."""
    units = (("TiB", TiB), ("GiB", GiB), ("MiB", MiB), ("KiB", KiB))
    return next(
        (f"{count // size}{name}" for name, size in units if count and count % size == 0), f"{count}B"
    )


def parse_duration(text: str) -> float:
    """Seconds of a duration such as "90s", "4h" or "1h30m". Raises ValueError with what would be right."""
    stripped = text.strip()
    parts = list(_TIME.finditer(stripped))
    covered = "".join(match[0] for match in parts) == stripped
    if not parts or not covered or any(match[2] not in _TIMES for match in parts):
        raise ValueError(
            "not a duration: write a number and a unit of s, m, h or d, such as 90s, 4h or 1h30m"
        )
    return sum(float(match[1]) * _TIMES[match[2]] for match in parts)


def counted(count: int, noun: str, plural: str = "") -> str:
    """How many there are, in words: 1 step, 2 steps, 1,000 rows. plural: where that takes more than an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def listed_jobs(ids: Sequence[int], most: int = 5) -> str:
    """Jobs by their ids, in words: job 3, jobs 1, 2, or jobs 1, 2, 3, 4, 5 … where there are more than `most`."""
    numbers = ", ".join(map(str, ids[:most]))
    return f"job{'s' if len(ids) > 1 else ''} {numbers}{' …' if len(ids) > most else ''}"


def gib(count: float) -> str:
    """Bytes for people: GiB with two decimals, MiB below one GiB, KiB and bytes for what is smaller than those."""
    if abs(count) >= GiB:
        return f"{count / GiB:.2f} GiB"
    if abs(count) >= MiB or not count:
        return f"{count / MiB:.0f} MiB"
    return f"{count / KiB:.0f} KiB" if abs(count) >= KiB else f"{count:.0f} bytes"


def apart(one: float, other: float) -> tuple[str, str]:
    """Two sizes for people, such as needed and free: in a unit fine enough to tell them apart, except equal ones."""
    texts = gib(one), gib(other)
    for size, name in ((MiB, "MiB"), (KiB, "KiB"), (1, "bytes")):
        if texts[0] != texts[1]:
            break
        texts = f"{one / size:,.0f} {name}", f"{other / size:,.0f} {name}"
    return texts


def span(seconds: float) -> str:
    """Seconds for people: 42s, 3m12s, 2h05m, 3d04h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
