"""How many projections a second one core makes of profiles that are at hand: the scheduler asks for many."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from jobs.cards import find_card
from jobs.memory.ladder import useful_n
from jobs.memory.profile import MemoryProfile
from jobs.memory.project import Rung, project_many

GOAL_PER_S = 100_000
ROUNDS = 5


def per_second(profile: MemoryProfile, lengths: int = 8, calls: int = 5) -> float:
    """Projections per second of one core's time: each call a whole ladder of batches of 16 at so many lengths."""
    card = find_card("rtx4090")
    steps = [(0, False), (1, True), *((n, False) for n in useful_n(profile.layers))]
    ladder = [Rung(n, size, 16 // size, offload) for n, offload in steps for size in (1, 2, 4, 8, 16)]
    rungs = ladder * lengths
    started = time.process_time()
    for call in range(calls):
        at = [1024 + call + 512 * index for index in range(lengths) for _ in ladder]
        project_many(profile, rungs, sequence_length=at, card=card)
    return calls * len(rungs) / (time.process_time() - started)


def run(profiles: Mapping[str, MemoryProfile]) -> dict[str, Any]:
    """The best of ROUNDS for each profile, as what else the machine does costs time here too."""
    found = {
        name: round(max(per_second(profile) for _ in range(ROUNDS))) for name, profile in profiles.items()
    }
    for name, rate in found.items():
        print(f"{name:16} {rate:9,} a second")
    return {
        "benchmark": "memory, speed",
        "projections_per_s": found,
        "goal_per_s": GOAL_PER_S,
        "met": min(found.values()) >= GOAL_PER_S,
    }
