"""What a report says of a job, asked for and made plain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.client.http import Api, job_path

if TYPE_CHECKING:
    from orchestrator.schemas import Attempt, Host, JobFull, MetricPoint

MOST_POINTS = 2000
Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Facts:
    """job, points: as the API tells of them; hosts: those that the job ran on; server: the server's version; now: when
    that was, Unix seconds.
    """

    job: JobFull
    points: list[MetricPoint]
    hosts: list[Host]
    server: str
    now: float

    @property
    def attempt(self) -> Attempt | None:
        """The last one: it is what the figures are of."""
        made = self.job["attempts_detail"]
        return made[-1] if made else None

    @property
    def label(self) -> str:
        name = self.job["name"]
        return f"job {self.job['id']}" + (f" ({name})" if name else "")

    @property
    def parts(self) -> dict[str, int]:
        """Projected bytes by part, the greatest first; empty without an attempt."""
        projection: Any = (self.attempt["projection"] if self.attempt else None) or {}
        parts: dict[str, int] = projection.get("parts") or {}
        return dict(sorted(((name, size) for name, size in parts.items() if size), key=lambda one: -one[1]))

    def projected(self, name: str) -> int | None:
        """Bytes that the last attempt was projected to take: device_bytes, upper_bytes and so on."""
        projection: Any = (self.attempt["projection"] if self.attempt else None) or {}
        size: int | None = projection.get(name)
        return size

    def measured(self, name: str) -> Any:
        """What was measured of the last attempt."""
        measured: Any = (self.attempt["measured"] if self.attempt else None) or {}
        return measured.get(name)

    def curve(self, name: str, scale: float = 1.0) -> Curve:
        """A figure by step, thinned to MOST_POINTS; what is no number is left out."""
        found: Curve = []
        for point in self.points:
            value: Any = dict(point)[name]
            if isinstance(value, int | float) and math.isfinite(value):
                found.append((float(point["step"]), value / scale))
        return thinned(found)

    @property
    def not_finite(self) -> list[int]:
        """Steps whose loss was no number."""
        return [point["step"] for point in self.points if point["not_finite"]]


def ask(api: Api, name: str, now: float) -> Facts:
    """All of it. Raises what jobs.errors has."""
    job = api.get(job_path(name))
    points = api.get(job_path(str(job["id"]), "/metrics"))["points"]
    there = {host for one in job["attempts_detail"] for host in one["hosts"]}
    hosts = [host for host in api.get("/hosts")["hosts"] if host["name"] in there]
    return Facts(job, points, hosts, str(api.get("/health").get("version", "")), now)


def thinned(curve: Curve, most: int = MOST_POINTS) -> Curve:
    """At most so many points: of each stretch the least and the greatest in their order, so that no peak is lost."""
    if len(curve) <= most:
        return curve
    stretches = max(1, most // 2)
    kept: Curve = []
    for number in range(stretches):
        piece = curve[number * len(curve) // stretches : (number + 1) * len(curve) // stretches]
        ends = {min(piece, key=lambda one: one[1]), max(piece, key=lambda one: one[1])}
        kept += sorted(ends)
    return kept


def ticks(low: float, high: float, wanted: int = 5) -> Sequence[float]:
    """Round numbers between two."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 2.5, 5, 10) if power * times >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(step * at, 12) for at in range(first, math.floor(high / step + 1e-9) + 1)]
