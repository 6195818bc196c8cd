"""A host in the world of faults: an agent that obeys as the real one does; a trainer is a number of seconds."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from jobs.identity import AttemptKey
from jobs.messages.reports import (
    AttemptReport,
    Ended,
    GpuInfo,
    GpuSample,
    HostInfo,
    HostOrders,
    HostReport,
    Started,
    TraceResult,
)
from jobs.state import Outcome
from jobs.units import GiB
from tests.profiles import small_profile

# Not OOM: such a job may rightly wait for a larger card for ever.
OUTCOMES = (*[Outcome.SUCCEEDED] * 3, Outcome.FAILED, Outcome.LOST)


@dataclass
class Folder:
    """What an attempt has left on the host. over_at: when its trainer ends by itself."""

    key: AttemptKey
    started_at: float
    over_at: float
    outcome: Outcome
    ended: Ended | None = None

    def end(self, outcome: Outcome, now: float) -> None:
        if self.ended is None:
            self.ended = Ended(ts=now, outcome=outcome, steps=10, total_steps=10, message="as drawn")


class Agent:
    """One host: its files outlive it, what it knows of the server does not."""

    def __init__(self, name: str, cards: int, chance: random.Random) -> None:
        self.name, self._chance = name, chance
        self.gpus = [
            GpuInfo(
                uuid=f"{name}-{n}", index=n, kind="cuda", name="NVIDIA H100 80GB HBM3", memory_bytes=80 * GiB
            )
            for n in range(cards)
        ]
        self.folders: dict[int, Folder] = {}
        self.succeeded: set[str] = set()  # uuids of attempts whose trainer came to its end here
        self.paused_until = 0.0
        self.boots = 0
        self.restart()

    def restart(self) -> None:
        """The agent's process is another one: it must join."""
        self.boots += 1
        self.host_id = self.epoch = 0
        self.flight = 0  # the number of the request that it waits for; 0: none
        self.sent_at = 0.0
        self._traces: dict[tuple[str, str], TraceResult] = {}
        self._listed: set[int] = set()

    def info(self) -> HostInfo:
        said: dict[str, Any] = {"stack": {"torch": "2.13.0"}, "model_types": ["llama"], "version": "0"}
        said |= {"home": "/h", "output_root": "/o", "warm": 0, "named": True}
        return HostInfo(name=self.name, machine_id=self.name, gpus=self.gpus, **said)

    def claim(self, key: AttemptKey, now: float) -> None:
        """The dispatcher brings an assignment: the folder's claim decides, so that twice does no harm."""
        if key.attempt_id not in self.folders:
            over_at = now + self._chance.uniform(5, 60)
            self.folders[key.attempt_id] = Folder(key, now, over_at, self._chance.choice(OUTCOMES))

    def train(self, now: float) -> None:
        """Trainers go on, whatever becomes of the agent."""
        for folder in self.folders.values():
            if folder.ended is None and now >= folder.over_at:
                folder.end(folder.outcome, now)
                if folder.outcome is Outcome.SUCCEEDED:
                    self.succeeded.add(folder.key.uuid)

    def report(self, now: float) -> HostReport:
        self._listed = set(self.folders)
        news = [
            AttemptReport(
                attempt_id=one.key.attempt_id,
                number=one.key.number,
                uuid=one.key.uuid,
                started=Started(ts=one.started_at, pid=1, create_time=1.0),
                log="a line\n",
                ended=one.ended,
            )
            for one in self.folders.values()
        ]
        return HostReport(
            epoch=self.epoch,
            host=self.name,
            boot=f"boot {self.boots}",
            sent=now,
            gpus=self.gpus,
            samples=[GpuSample(uuid=gpu.uuid, ts=now, memory_used_bytes=1) for gpu in self.gpus],
            attempts=news,
            traces=list(self._traces.values()),
            ray_ready=True,
            running=[one.key.attempt_id for one in self.folders.values() if one.ended is None],
            here=[one.key for one in self.folders.values()],
        )

    def obey(self, orders: HostOrders, now: float) -> None:
        """As workers.agent.agent.Agent does: stop, fence what the server does not hold open, forget."""
        self._traces = {
            (wanted.key, wanted.data_key): TraceResult(
                key=wanted.key,
                profile=small_profile().as_dict() if wanted.key else None,
                data_key=wanted.data_key,
                data_error="not available here" if wanted.data_key else None,
            )
            for wanted in orders.traces
        }
        for stop in orders.stops:
            if stop.attempt_id in self.folders:
                self.folders[stop.attempt_id].end(Outcome.CANCELLED, now)
        held = {one.attempt_id for one in orders.attempts}
        for attempt_id in self._listed - held:
            if attempt_id in self.folders:
                self.folders[attempt_id].end(Outcome.CANCELLED, now)
        for attempt_id in orders.forget:
            self.folders.pop(attempt_id, None)
