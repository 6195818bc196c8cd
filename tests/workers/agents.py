"""A host agent under test: the real one on CPU cards, with a pretended raylet and pretended trainers."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jobs.messages.reports import GpuInfo, HostInfo, Kept, TraceRequest, TraceResult
from jobs.units import GiB
from tests.workers.builders import make_assignment
from tests.workers.fake_server import TOKEN, FakeServer
from workers.agent.agent import Agent
from workers.agent.dcgm_mapping import DcgmMapping
from workers.agent.server_client import Link
from workers.attempt_folder import AttemptFolder, yard_root
from workers.gpus import CpuCards

REPOSITORY = Path(__file__).parent.parent.parent

# attempt id, home, and what it does after its first words: a statement that has `folder` and `steps(n)`.
_TRAINER = """
import os, sys, time
import psutil
from jobs.messages.reports import Ended, Progress, Started
from jobs.state import Outcome
from workers.attempt_folder import AttemptFolder

folder = AttemptFolder(sys.argv[1], int(sys.argv[2]))
folder.path.mkdir(parents=True, exist_ok=True)
own = psutil.Process()

def steps(first, last):
    for step in range(first, last + 1):
        with folder.log_path.open("a") as log:
            log.write(f"step {step} ✓\\n")
        folder.append_progress(Progress(ts=time.time(), step=step, total_steps=100, loss=1 / step))

def end(outcome, **more):
    folder.write_ended(Ended(ts=time.time(), outcome=outcome, **more))

folder.write_started(Started(ts=time.time(), pid=own.pid, create_time=own.create_time()))
"""
OBEYS = """
done = 0
while not folder.stop_requested():
    done += 1
    steps(done, done)
    time.sleep(0.05)
end(Outcome.CANCELLED, message="stopped when asked", steps=done)
"""
IGNORES = "steps(1, 3)\nwhile True: time.sleep(1)"
DIES = "steps(1, 3)\nos._exit(7)"
SUCCEEDS = "steps(1, 5)\nend(Outcome.SUCCEEDED, steps=5)"


class FakeRaylet:
    """Remembers where it was sent."""

    def __init__(self) -> None:
        self.asked: list[tuple[str | None, str, frozenset[int]]] = []
        self.stopped = False

    def follow(self, address: str | None, token: str, trainers: set[int], now: float) -> None:
        asked = (address, token, frozenset(trainers))
        if not self.asked or self.asked[-1] != asked:
            self.asked.append(asked)

    def ready(self, address: str | None) -> bool:
        return address is not None

    def stop(self) -> None:
        self.stopped = True


def host_info(name: str = "alpha") -> HostInfo:
    return HostInfo(
        name=name,
        machine_id="m",
        gpus=[GpuInfo(uuid="x", index=0, kind="cpu", name="cpu", memory_bytes=1)],
        stack={},
        model_types=[],
        output_root="/tmp",
        version="test",
        warm=0,
    )


def no_trace(request: TraceRequest) -> TraceResult:
    return TraceResult(key=request.key, error="this test traces nothing")


class Host:
    """One agent with its home, ticked by the test."""

    def __init__(
        self,
        server: FakeServer,
        home: Path,
        trace: Callable[[TraceRequest], TraceResult] = no_trace,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.server = server
        self.home = home
        self.root = yard_root(home, server.yard)
        self.raylet = FakeRaylet()
        self.trainers: list[subprocess.Popen[bytes]] = []
        cards = CpuCards("alpha", [GiB, 2 * GiB])
        link = Link(server.url, TOKEN)
        self.dcgm_folder = home / "dcgm"
        given = (link, host_info(), home, cards, self.raylet, trace)
        self.agent = Agent(*given, period_s=0.1, chance=chance, dcgm=DcgmMapping(self.dcgm_folder))

    def train(self, attempt_id: int, then: str, uuid: str = "") -> subprocess.Popen[bytes]:
        """A process that is the trainer of an attempt of job 1; returns once it has said so."""
        self.claim(attempt_id, uuid=uuid)
        script = _TRAINER + textwrap.dedent(then)
        command = [sys.executable, "-c", script, str(self.root), str(attempt_id)]
        trainer = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)
        self.trainers.append(trainer)
        wait_until(lambda: self.folder(attempt_id).started_path().exists())
        return trainer

    def folder(self, attempt_id: int) -> AttemptFolder:
        return AttemptFolder(self.root, attempt_id)

    def claim(
        self,
        attempt_id: int,
        job_id: int = 1,
        number: int = 1,
        kept: Sequence[Kept] = (),
        uuid: str = "",
        **sections: Any,
    ) -> None:
        """What a trainer's first act leaves; its card is cpu-alpha-1. sections: of the job file."""
        made = make_assignment(Path("/d"), Path("/t"), attempt_id=attempt_id, job_id=job_id, **sections)
        card = made.gpus[0].model_copy(update={"uuid": "cpu-alpha-1"})
        self.folder(attempt_id).claim(
            made.model_copy(update={"gpus": [card], "number": number, "kept": list(kept), "uuid": uuid})
        )

    def tick_until(self, true: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Tick until it holds; a trainer that died is waited for, as Ray would."""

        def ticked() -> bool:
            self.agent.tick()
            for trainer in self.trainers:
                trainer.poll()
            return true()

        wait_until(ticked, timeout_s)

    def leave(self, grace_s: float) -> None:
        if not self.raylet.stopped:
            self.agent.leave(grace_s)

    def close(self) -> None:
        for trainer in self.trainers:
            trainer.kill()
            trainer.wait()
        self.leave(grace_s=0.0)


def wait_until(true: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
