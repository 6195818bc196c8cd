"""A small fleet with jobs in every state, as the API would tell of it."""

from __future__ import annotations

import time
from typing import Any

from jobs.units import GiB
from tests.cli.fake_server import FakeServer

A100 = "A100-40GB"


def rung(every_n: int, micro_batch: int, accumulation: int, label: str) -> dict[str, Any]:
    return {
        "every_n": every_n,
        "micro_batch": micro_batch,
        "accumulation": accumulation,
        "offload": False,
        "label": label,
    }


PROJECTION: dict[str, Any] = {
    "parts": {"weights": 2 * GiB, "optimizer": GiB // 4, "activations": 3 * GiB},
    "phase": "backward",
    "phases": {"load": 2 * GiB, "backward": 6 * GiB},
    "intervals": {"allocated": [5 * GiB, 7 * GiB], "reserved": [6 * GiB, 8 * GiB]},
    "allocated_bytes": 6 * GiB,
    "reserved_bytes": int(6.6 * GiB),
    "device_bytes": 7 * GiB,
    "upper_bytes": int(7.5 * GiB),
    "step_s": 0.5,
}
MEASURED = {
    "allocated_bytes": int(5.9 * GiB),
    "reserved_bytes": int(6.7 * GiB),
    "device_bytes": int(6.9 * GiB),
    "step_s": 0.52,
    "tokens_per_s": 5123.0,
}


ERRORS = {
    name: MEASURED[name] / PROJECTION[name] - 1
    for name in ("allocated_bytes", "reserved_bytes", "device_bytes", "step_s")
}


def attempt(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {
        "id": 6 + number,
        "number": number,
        "host": "box-1",
        "hosts": ["box-1"],
        "gpus": [{"id": 1, "uuid": "GPU-1", "name": A100, "host": "box-1"}],
        "rung": rung(1, 2, 4, "every layer, 2×4"),
        "projection": PROJECTION,
        "measured": MEASURED,
        "errors": ERRORS,
        "not_comparable": None,
        "card_bytes": 40 * GiB,
        "outcome": None,
        "message": None,
        "steps": 41,
        "total_steps": 100,
        "first_loss": 2.5,
        "last_loss": 1.234,
        "opened_at": time.time() - 700,
        "started_at": time.time() - 690,
        "ended_at": None,
        "last_checkpoint": "step-00000040",
        "result": None,
        **fields,
    }


def running(server: FakeServer, **fields: Any) -> dict[str, Any]:
    return server.add(
        **{
            "name": "docs-lora",
            "state": "running",
            "reason": {"code": "training", "text": "training", "figures": {}},
            "attempts": 1,
            "host": "box-1",
            "hosts": ["box-1"],
            "cards": [A100],
            "rung": "every layer, 2×4",
            "projected_bytes": 7 * GiB,
            "measured_bytes": int(6.9 * GiB),
            "started_at": time.time() - 50,
            "progress": {
                "step": 41,
                "total_steps": 100,
                "loss": 1.234,
                "tokens_per_s": 5123.0,
                "eta_s": 421.0,
            },
            "attempts_detail": [attempt()],
            "events": [
                {
                    "ts": time.time() - 50,
                    "kind": "started",
                    "text": "on box-1",
                    "attempt": 1,
                    "by": None,
                    "address": None,
                }
            ],
            **fields,
        }
    )


def waiting(server: FakeServer, **fields: Any) -> dict[str, Any]:
    text = "needs 91.20 GiB at least; the largest card has 39.56 GiB"
    reason = {"code": "memory", "text": text, "figures": {"needed_bytes": 91 * GiB}}
    return server.add(**{"name": "too-big", "reason": reason, **fields})


def gpu(number: int, **fields: Any) -> dict[str, Any]:
    sample = {
        "uuid": f"GPU-{number}",
        "ts": time.time(),
        "memory_used_bytes": 30 * GiB,
        "utilization": 0.98,
        "power_w": 310.4,
        "temperature_c": 61.0,
    }
    return {
        "id": number,
        "uuid": f"GPU-{number}",
        "host": "box-1",
        "host_state": "online",
        "index": number - 1,
        "kind": "cuda",
        "name": A100,
        "memory_bytes": 40 * GiB,
        "fault": None,
        "job": None,
        "jobs": [fields["job"]] if fields.get("job") else [],
        "attempt": None,
        "sample": sample,
        **fields,
    }


def host(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "name": name,
        "state": "online",
        "drained": False,
        "labels": {"rack": "b4"},
        "gpus": 2,
        "free": 1,
        "last_seen": time.time(),
        "stack": {"torch": "2.13.0"},
        "version": "0.1.0",
        "ray_ready": True,
        "fault": None,
        "aside": [],
        "tried_again_at": None,
        **fields,
    }


def tried(every_n: int, label: str, gib: float, fits: bool, relative_time: float) -> dict[str, Any]:
    peak = int(gib * GiB)
    return {
        "rung": rung(every_n, 4, 2, label),
        "parts": {"weights": 2 * GiB, "activations": peak - 2 * GiB},
        "phase": "backward",
        "device_bytes": peak,
        "upper_bytes": int(1.07 * peak),
        "step_s": 0.5 * relative_time,
        "fits": fits,
        "excluded": False,
        "relative_time": relative_time,
    }


def plan(**changed: Any) -> dict[str, Any]:
    """Two card types: one that the job does not fit, one that is picked."""
    every = [
        tried(0, "off, 4×2", 45, False, 1.0),
        tried(2, "every 2 layers, 4×2", 25, True, 1.31),
        tried(1, "every layer, 4×2", 7, True, 1.5),
    ]
    small = {
        "card": "NVIDIA T4",
        "short": "t4",
        "kind": "cuda",
        "memory_bytes": 15 * GiB,
        "count": 4,
        "free": 0,
        "fits": False,
        "rung": None,
        "projection": {**PROJECTION, "device_bytes": 16 * GiB, "upper_bytes": 17 * GiB},
        "lower_bytes": 15 * GiB,
        "basis": "prior",
        "saves_bytes": 38 * GiB,
        "slowdown": None,
        "step_s": None,
        "speed": 1.0,
        "tokens_per_s": None,
        "hours": None,
        "price": None,
        "cost": None,
        "notes": [],
        "reason": "even every layer, 1×8 takes 17.00 GiB",
        "pick": False,
        "tried": every[:1],
    }
    picked = {
        **small,
        "card": A100,
        "short": "a100-40gb",
        "memory_bytes": 40 * GiB,
        "count": 2,
        "free": 1,
        "fits": True,
        "rung": rung(2, 4, 2, "every 2 layers, 4×2"),
        "projection": PROJECTION,
        "lower_bytes": int(6.5 * GiB),
        "basis": "llama, lora, A100-40GB: 23 attempts",
        "slowdown": 0.31,
        "step_s": 0.65,
        "tokens_per_s": 12603.2,
        "hours": 1.5,
        "price": 1.2,
        "cost": 1.8,
        "reason": None,
        "pick": True,
        "tried": every,
    }
    return {
        "job": "docs",
        "gpus": 1,
        "policy": "smallest_card",
        "confidence": 0.95,
        "sequence_length": 1024,
        "length": 1024,
        "global_batch": 8,
        "steps": 8307,
        "data": None,
        "advice": [],
        "notes": [],
        "reason": None,
        "replaced": [],
        "cards": [small, picked],
        **changed,
    }
