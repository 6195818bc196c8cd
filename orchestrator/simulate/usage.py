"""GPU-seconds of projects and users in a simulation, counted as a server does: decayed, by price, of what runs too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from orchestrator.scheduler.fleet import Host
from orchestrator.scheduler.usage import faded

SETTLE_S = 1800.0  # decay and what runs are counted so often: usage halves in a week

Key = tuple[str, str]  # project, user


@dataclass(frozen=True, slots=True)
class _Held:
    key: Key
    weight: float  # of all its cards together
    began: float


@dataclass
class Usage:
    """weights: of a second on each card, 1 for the cheapest; sums: as they were at `at`, and what ended since."""

    weights: Mapping[int, float]
    sums: dict[Key, float] = field(default_factory=dict)
    at: float = 0.0
    _held: dict[int, _Held] = field(default_factory=dict)

    @classmethod
    def of(cls, hosts: Iterable[Host], since: float = 0.0) -> Self:
        """Nothing yet. A card without a price counts as the cheapest."""
        prices = {gpu.id: gpu.price for host in hosts for gpu in host.gpus}
        least = min((price for price in prices.values() if price), default=1.0)
        return cls({gpu_id: (price or least) / least for gpu_id, price in prices.items()}, at=since)

    def begins(self, job: int, key: Key, gpu_ids: Iterable[int], now: float) -> None:
        """The job holds these cards from now on."""
        self._held[job] = _Held(key, sum(self.weights[gpu_id] for gpu_id in gpu_ids), now)

    def ends(self, job: int, now: float) -> None:
        """It does not any more."""
        self._add(self._held.pop(job), now)

    def look(self, now: float) -> Mapping[Key, float]:
        """The usage, not older than SETTLE_S."""
        if now - self.at >= SETTLE_S:
            left = faded(now - self.at)
            self.sums = {key: used * left for key, used in self.sums.items()}
            for held in self._held.values():
                self._add(held, now)
            self.at = now
        return self.sums

    def _add(self, held: _Held, now: float) -> None:
        """What was held since it was counted last. Until it is settled it would fade by a few thousandths."""
        used = held.weight * (now - max(held.began, self.at))
        self.sums[held.key] = self.sums.get(held.key, 0.0) + used
