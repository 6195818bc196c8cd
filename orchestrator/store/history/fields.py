"""What is kept of each step of history, and in which units: whole numbers, of which SQLite keeps few bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MINUTE_S, QUARTER_S = 60, 900
FLEET, HOST, CARD = 0, 1, 2  # scopes; the fleet is one subject, of id 0
FLEET_ID = 0

# By field of a sample, how many of a column's units make one of it: 0.0001 of utilisation, 0.1 W, 0.1 degrees.
SCALES = {
    "memory_used_bytes": 1,
    "utilization": 10_000,
    "power_w": 10,
    "temperature_c": 10,
    "sm_clock_mhz": 1,
    "memory_clock_mhz": 1,
}
FIELDS = tuple(SCALES)
STATS = ("mean", "min", "max")
HEAD = ("n", "until_ms", "cards", "faults", "energy_j")
VALUES = tuple(f"{name}_{stat}" for name in FIELDS for stat in STATS)
COLUMNS = ("scope", "subject_id", "width_s", "ts", *HEAD, *VALUES)


@dataclass(frozen=True)
class Bucket:
    """One step of one subject. values: as VALUES, in columns' units; None where no sample told."""

    subject_id: int
    ts: int
    n: int
    until_ms: int
    cards: int
    faults: int
    energy_j: float | None
    values: tuple[int | None, ...]

    def row(self, scope: int, width_s: int) -> tuple[Any, ...]:
        """As COLUMNS has it."""
        head = (self.n, self.until_ms, self.cards, self.faults, self.energy_j)
        return (scope, self.subject_id, width_s, self.ts, *head, *self.values)


def merged(buckets: Sequence[Bucket]) -> Bucket:
    """Several buckets of one step as one: means by the number of samples, energy in sum."""
    if len(buckets) == 1:
        return buckets[0]
    values: list[int | None] = []
    for at in range(0, len(VALUES), 3):
        told = [(one.n, one.values[at : at + 3]) for one in buckets if one.values[at] is not None]
        count = sum(n for n, _ in told)
        if not count:
            values += [None, None, None]
            continue
        values.append(round(sum(n * (three[0] or 0) for n, three in told) / count))
        values.append(min(three[1] for _, three in told if three[1] is not None))
        values.append(max(three[2] for _, three in told if three[2] is not None))
    drawn = [one.energy_j for one in buckets if one.energy_j is not None]
    return Bucket(
        buckets[0].subject_id,
        buckets[0].ts,
        sum(one.n for one in buckets),
        max(one.until_ms for one in buckets),
        max(one.cards for one in buckets),
        sum(one.faults for one in buckets),
        sum(drawn) if drawn else None,
        tuple(values),
    )
