"""Rows of the store -> the fleet as it is now, by column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

from orchestrator.api.context import Services
from orchestrator.api.responses.presence import is_online
from orchestrator.api.responses.views import host_state
from orchestrator.api.responses.views import progress as shown_progress
from orchestrator.store import unreadable
from orchestrator.store.hosts.live import LiveRows
from orchestrator.web.site import site

MOST_QUEUED = 500
IDLE_UTILIZATION, IDLE_S = 0.05, 60.0  # a held card that does less for so long is idle


class FleetReader:
    """Reads the state. Of cards it remembers since when they do nothing, of attempts what they were projected to take.

    For one thread at a time.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._projected: dict[tuple[int, str], tuple[int | None, int | None]] = {}  # by attempt's id and uuid
        self._idle: dict[int, tuple[int, float]] = {}  # by card: the attempt that holds it, and since when

    def read(self) -> dict[str, Any]:
        """The state (schemas.FleetState, but for what a query adds)."""
        known = self._services
        now = known.controller.clock()
        with unreadable.leaving_out() as noted:
            rows = known.store.live_rows(MOST_QUEUED)
            projected = self._projections(rows)
            held = {gpu_id for gpu_id, _ in rows.held}
            busy = {row.host_id for row in rows.cards if row.id in held}
            states = {row.id: host_state(row, row.id in busy, is_online(known, row)) for row in rows.hosts}
            cards = self._cards(rows, states, projected, now)
            state: dict[str, Any] = {
                "at": round(now, 1),
                "version": _version(),
                "build": site().build,
                "hosts": _hosts(rows, states, cards),
                "cards": cards,
                "running": _running(rows, cards, now),
                "queue": self._queue(rows),
            }
            state["totals"] = _totals(state, rows.waiting)
        if noted:
            state["unreadable"] = [
                {"kind": one.kind, "id": one.key, "why": one.why} for one in noted.values()
            ]
        return state

    def _projections(self, rows: LiveRows) -> dict[int, tuple[int | None, int | None]]:
        """By open attempt: device bytes and their upper bound. An attempt's projection never changes."""
        named = {(row.id, row.uuid): row.id for row in rows.attempts}
        found = self._services.store.projections(
            [id_ for key, id_ in named.items() if key not in self._projected]
        )
        self._projected = {
            key: self._projected[key] if key in self._projected else _bytes_of(found.get(id_, {}))
            for key, id_ in named.items()
        }
        return {id_: self._projected[key] for key, id_ in named.items()}

    def _cards(
        self,
        rows: LiveRows,
        states: Mapping[int, str],
        projected: Mapping[int, tuple[int | None, int | None]],
        now: float,
    ) -> dict[str, list[Any]]:
        read = {row.gpu_id: row for row in rows.samples}
        holders: dict[int, list[int]] = {}
        for gpu_id, attempt_id in rows.held:
            holders.setdefault(gpu_id, []).append(attempt_id)
        jobs = {row.id: row.job_id for row in rows.attempts}
        made: dict[str, list[Any]] = {name: [] for name in CARD_COLUMNS}
        append = [column.append for column in made.values()]
        idle: dict[int, tuple[int, float]] = {}
        for id_, host_id, index, uuid, name, kind, memory, fault, _ in rows.cards:
            host_state = states.get(host_id, "away")
            held = holders.get(id_, ())
            sample = read.get(id_) if host_state not in ("away", "stopped") else None
            used, utilization, power, temperature = sample[2:6] if sample is not None else (None,) * 4
            since = None
            if held and utilization is not None and utilization < IDLE_UTILIZATION:
                first, since = self._idle.get(id_, (held[0], now))
                since = since if first == held[0] else now
                idle[id_] = (held[0], since)
            sizes = [projected.get(one, (None, None)) for one in held]
            values = (
                *(id_, host_id, index, uuid, name, kind, memory, used),
                *(_sum(size for size, _ in sizes), _sum(size for _, size in sizes)),
                None if utilization is None else round(utilization, 2),
                *(_whole(power), _whole(temperature)),
                card_state(host_state, fault, bool(held), since is not None and now - since >= IDLE_S),
                *(fault, jobs.get(held[0]) if held else None, held[0] if held else None, len(held)),
                None if since is None else round(since),
            )
            for add, value in zip(append, values, strict=True):
                add(value)
        self._idle = idle
        return made

    def _queue(self, rows: LiveRows) -> dict[str, list[Any]]:
        starts = self._services.controller.likely.starts
        queued = rows.queued
        likely = [starts.get(row.id) for row in queued]
        return {
            **_named(queued),
            "reason": [row.reason_code for row in queued],
            "text": [row.reason_text for row in queued],
            "submitted_at": [row.submitted_at for row in queued],
            "earliest": [None if one is None else round(one.earliest) for one in likely],
            "latest": [None if one is None or one.latest is None else round(one.latest) for one in likely],
        }


CARD_COLUMNS = (
    *("id", "host", "index", "uuid", "name", "kind", "memory_bytes", "used_bytes"),
    *("projected_bytes", "upper_bytes", "utilization", "power_w", "temperature_c", "state", "fault"),
    *("job", "attempt", "holders", "idle_since"),
)


def card_state(host: str, fault: str | None, held: bool, idle: bool) -> str:
    """What a card does, one word. host: the state of its host."""
    if host in ("away", "stopped"):
        return "away"
    if fault:
        return "faulty"
    if held:
        return "idle" if idle else "busy"
    return "free" if host == "online" else "closed"


def _hosts(rows: LiveRows, states: Mapping[int, str], cards: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    every = Counter(cards["host"])
    free = Counter(host for host, state in zip(cards["host"], cards["state"], strict=True) if state == "free")
    return {
        "id": [row.id for row in rows.hosts],
        "name": [row.name for row in rows.hosts],
        "state": [states[row.id] for row in rows.hosts],
        "cards": [every[row.id] for row in rows.hosts],
        "free": [free[row.id] for row in rows.hosts],
        "last_seen": [row.last_seen if states[row.id] in ("away", "stopped") else None for row in rows.hosts],
        "fault": [row.fault for row in rows.hosts],
    }


def _running(rows: LiveRows, cards: Mapping[str, list[Any]], now: float) -> dict[str, list[Any]]:
    tries = {row.job_id: row for row in rows.attempts}
    width = Counter(job for job in cards["job"] if job is not None)
    lines: list[Mapping[str, Any]] = []
    for row in rows.running:
        attempt = tries.get(row.id)
        line = None if attempt is None else rows.progress.get(attempt.id)
        lines.append({} if line is None else shown_progress(line, now))
    found: dict[str, list[Any]] = {
        **_named(rows.running),
        "attempt": [tries[row.id].number if row.id in tries else 0 for row in rows.running],
        "cards": [width[row.id] for row in rows.running],
        "started_at": [tries[row.id].started_at if row.id in tries else None for row in rows.running],
        "stalled": [bool(line.get("stalled")) for line in lines],
    }
    return found | {
        name: [line.get(name) for line in lines]
        for name in ("step", "total_steps", "loss", "tokens_per_s", "eta_s")
    }


def _named(rows: Collection[Any]) -> dict[str, list[Any]]:
    return {
        name: [getattr(row, name) for row in rows] for name in ("id", "name", "user", "project", "priority")
    }


def _totals(state: Mapping[str, Any], waiting: int) -> dict[str, Any]:
    cards, hosts = state["cards"], state["hosts"]
    return {
        "hosts": len(hosts["id"]),
        "hosts_online": sum(one not in ("away", "stopped") for one in hosts["state"]),
        "cards": len(cards["id"]),
        "states": dict(Counter(cards["state"])),
        "running": len(state["running"]["id"]),
        "waiting": waiting,
        "memory_bytes": sum(cards["memory_bytes"]),
        "used_bytes": _sum(cards["used_bytes"]) or 0,
        "power_w": _sum(cards["power_w"]) or 0,
    }


def _bytes_of(projection: Mapping[str, Any]) -> tuple[int | None, int | None]:
    device, upper = (projection.get(name) for name in ("device_bytes", "upper_bytes"))
    return device if isinstance(device, int) else None, upper if isinstance(upper, int) else None


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


@cache
def _version() -> str:
    return version("tuneyard")
