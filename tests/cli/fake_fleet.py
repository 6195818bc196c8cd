"""GET /fleet of the fake server, from its cards and jobs as the other routes tell of them."""

from __future__ import annotations

import time
from typing import Any

STATES = {"away": "away", "stopped": "away", "draining": "closed", "drained": "closed", "faulty": "closed"}


def columns(rows: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in names}


def fleet(gpus: list[dict[str, Any]], jobs: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
    """One page. query: as it was asked for."""
    names = sorted({gpu["host"] for gpu in gpus})
    hosts = [_host(number, name, gpus) for number, name in enumerate(names, 1)]
    ids = {host["name"]: host["id"] for host in hosts}
    cards = [_card(gpu, ids[gpu["host"]]) for gpu in gpus]
    running = [_running(job) for job in jobs if job["state"] == "running"]
    queue = [_queued(job) for job in jobs if job["state"] == "queued"]
    offset, limit = int(query.get("offset", 0)), int(query.get("limit", 1000))
    page = hosts[offset : offset + limit]
    mine = [card for card in cards if card["host"] in {host["id"] for host in page}]
    states = [card["state"] for card in cards]
    return {
        "at": time.time(),
        "version": "0.1.0",
        "totals": {
            "hosts": len(hosts),
            "hosts_online": sum(host["state"] not in ("away", "stopped") for host in hosts),
            "cards": len(cards),
            "states": {state: states.count(state) for state in sorted(set(states))},
            "running": len(running),
            "waiting": len(queue),
            "memory_bytes": sum(card["memory_bytes"] for card in cards),
            "used_bytes": sum(card["used_bytes"] or 0 for card in cards),
            "power_w": round(sum(card["power_w"] or 0 for card in cards)),
        },
        "hosts": columns(page, ("id", "name", "state", "cards", "free", "last_seen", "fault")),
        "cards": columns(mine, tuple(_card(_NONE, 0))),
        "running": columns(running, tuple(_running({}))),
        "queue": columns(queue[: int(query.get("queue", 500))], tuple(_queued({}))),
        "matching": len(hosts),
    }


_NONE: dict[str, Any] = {"jobs": [], "sample": None, "host_state": "online", "fault": None, "job": None}


def _host(number: int, name: str, gpus: list[dict[str, Any]]) -> dict[str, Any]:
    mine = [gpu for gpu in gpus if gpu["host"] == name]
    free = sum(gpu["job"] is None and gpu["fault"] is None for gpu in mine)
    state, seen = mine[0]["host_state"], mine[0].get("host_seen")
    return {"id": number, "name": name, "state": state, "cards": len(mine), "free": free} | {
        "last_seen": seen if state in ("away", "stopped") else None,
        "fault": None,
    }


def _card(gpu: dict[str, Any], host: int) -> dict[str, Any]:
    sample = (gpu["sample"] or {}) if gpu["host_state"] not in ("away", "stopped") else {}
    state = "busy" if gpu["job"] is not None else "free"
    state = STATES.get(gpu["host_state"], "faulty" if gpu["fault"] else state)
    told = {"id": gpu.get("id"), "host": host, "index": gpu.get("index"), "name": gpu.get("name")}
    told |= {"kind": gpu.get("kind"), "memory_bytes": gpu.get("memory_bytes"), "state": state}
    told |= {"used_bytes": sample.get("memory_used_bytes"), "utilization": sample.get("utilization")}
    told |= {"power_w": sample.get("power_w"), "temperature_c": sample.get("temperature_c")}
    told |= {"projected_bytes": None, "upper_bytes": None, "fault": gpu["fault"], "job": gpu["job"]}
    return told | {"attempt": None, "holders": len(gpu["jobs"]), "idle_since": None}


def _running(job: dict[str, Any]) -> dict[str, Any]:
    names = ("id", "name", "user", "project", "priority", "started_at")
    progress = job.get("progress") or {}
    told = {name: job.get(name) for name in names} | {
        "attempt": job.get("attempts"),
        "cards": job.get("gpus"),
    }
    told |= {name: progress.get(name) for name in ("step", "total_steps", "loss", "tokens_per_s", "eta_s")}
    return told | {"stalled": progress.get("stalled", False)}


def _queued(job: dict[str, Any]) -> dict[str, Any]:
    told = {name: job.get(name) for name in ("id", "name", "user", "project", "priority", "submitted_at")}
    reason, start = job.get("reason") or {}, job.get("start") or {}
    told |= {"reason": reason.get("code"), "text": reason.get("text")}
    return told | {"earliest": start.get("earliest"), "latest": start.get("latest")}
