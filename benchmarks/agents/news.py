"""What a host of the benchmark says, by the time and by what it was told last."""

from __future__ import annotations

import json
from typing import Any

from jobs.units import GiB
from tests.profiles import small_profile

LINE_S = 5.0  # between two lines of progress of a trainer
STEPS = 10  # in that time
PAGE = "step {step:>8}  loss 1.2345  learning rate 0.00010000  12345 tokens/s  as long as a line is\n"
PAGE_BYTES = len(PAGE.format(step=0))
CARD_BYTES = 80 * GiB


class HostNews:
    """One host's half of the conversation."""

    def __init__(self, number: int, cards: int) -> None:
        self.name = f"host-{number:04d}"
        self.host_id = self.epoch = 0
        self.orders: dict[str, Any] = {}
        self.answers = 0
        self.cards: list[dict[str, Any]] = [
            {
                "uuid": f"GPU-{number:08x}-0000-0000-0000-{card:012x}",
                "index": card,
                "kind": "cuda",
                "name": "NVIDIA H100 80GB HBM3",
                "memory_bytes": CARD_BYTES,
            }
            for card in range(cards)
        ]
        self._answered: list[dict[str, Any]] = []
        self._since: dict[int, float] = {}  # attempt -> when its trainer came up

    @property
    def running(self) -> int:
        """Attempts that the server has open here."""
        return len(self.orders.get("attempts", ()))

    def join(self) -> bytes:
        """The body of POST /hosts/join."""
        info = {"name": self.name, "machine_id": f"machine-{self.name}", "gpus": self.cards, "named": True}
        info |= {"stack": {"torch": "2.13.0", "transformers": "5.23.0"}, "model_types": ["llama"]}
        info |= {"home": "/var/lib/tuneyard", "output_root": "/var/lib/tuneyard/output"}
        return json.dumps({**info, "version": "0.1.0", "warm": 1}).encode()

    def joined(self, answer: bytes) -> None:
        """Take the answer to it."""
        said = json.loads(answer)
        self.host_id, self.epoch = said["host_id"], said["epoch"]

    def told(self, answer: bytes) -> None:
        """Take the answer to a report."""
        self.orders = json.loads(answer)
        self.answers += 1
        self._answered = [_trace(wanted) for wanted in self.orders["traces"]]

    def report(self, now: float) -> bytes:
        """The body of POST /hosts/ID/report."""
        open_here = self.orders.get("attempts", [])
        keys = [{name: one[name] for name in ("attempt_id", "job_id", "number", "uuid")} for one in open_here]
        said = {
            "epoch": self.epoch,
            "host": self.name,
            "boot": f"boot-of-{self.name}",
            "sent": now,
            "gpus": self.cards,
            "samples": [self._sample(card["uuid"], now, index) for index, card in enumerate(self.cards)],
            "attempts": [news for one in open_here if (news := self._attempt(one, now))],
            "traces": self._answered,
            "ray_ready": True,
            "running": [one["attempt_id"] for one in open_here],
            "here": keys,
            "disks": [_disk()],
        }
        return json.dumps(said, separators=(",", ":")).encode()

    def _sample(self, uuid: str, now: float, index: int) -> dict[str, Any]:
        return {
            "uuid": uuid,
            "ts": now,
            "memory_used_bytes": 60 * GiB + index,
            "utilization": 0.97,
            "power_w": 640.5 + index,
            "power_limit_w": 700.0,
            "temperature_c": 61.0,
            "sm_clock_mhz": 1755.0,
            "memory_clock_mhz": 2619.0,
            "energy_j": 640.0 * now,
            "throttle": 0,
            "ecc_corrected": 0,
            "ecc_uncorrected": 0,
            "process_memory": {str(4000 + index): 60 * GiB},
        }

    def _attempt(self, known: dict[str, Any], now: float) -> dict[str, Any] | None:
        """What the server does not have yet of an attempt's progress and log, as it says itself."""
        attempt_id = known["attempt_id"]
        is_new = attempt_id not in self._since
        since = self._since.setdefault(attempt_id, now)
        last, had = int((now - since) / LINE_S), known["step"] // STEPS
        if not is_new and last <= had and known["log_offset"] >= last * PAGE_BYTES:
            return None
        lines = range(had + 1, last + 1)
        return {
            "attempt_id": attempt_id,
            "number": known["number"],
            "uuid": known["uuid"],
            "started": {"ts": since, "pid": 4000, "create_time": since},
            "progress": [_line(line * STEPS, since + line * LINE_S) for line in lines],
            "log": "".join(PAGE.format(step=line * STEPS) for line in lines),
            "log_offset": had * PAGE_BYTES,
        }


def _line(step: int, ts: float) -> dict[str, Any]:
    done = {"ts": ts, "step": step, "total_steps": 100_000, "loss": 1.2345, "learning_rate": 1e-4}
    done |= {"tokens": step * 8192, "tokens_per_s": 12345.0, "step_s": LINE_S / STEPS}
    return {**done, "allocated_bytes": 2**30, "reserved_bytes": 2**31, "device_bytes": 2**31}


def _trace(wanted: dict[str, Any]) -> dict[str, Any]:
    """A profile of the size of a real one; nobody counts lengths."""
    answer: dict[str, Any] = {"key": wanted.get("key", ""), "data_key": wanted.get("data_key", "")}
    if answer["key"]:
        answer["profile"] = small_profile().as_dict()
    if answer["data_key"]:
        answer["data_error"] = "not available here"
    return answer


def _disk() -> dict[str, Any]:
    path = "/var/lib/tuneyard"
    return {
        "holds": "checkpoints and results",
        "path": path,
        "free_bytes": 2**40,
        "total_bytes": 2**42,
    }
