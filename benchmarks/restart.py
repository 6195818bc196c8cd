"""How long a server that was killed takes to decide again, with a long queue: `make bench-restart`.

A server has jobs queued, each with the reason why it waits, and is killed (SIGKILL). One more job is put into its
database; the server is started again. Timed is, from the start of its process, when it answers and when that job has
been planned: its reason is written with the first plan. Prints a table, then one JSON object as the last line. The exit
code is 1 when the target is missed.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.agents.__main__ import submit
from benchmarks.common import Service, finish, machine, tuneyard_server
from benchmarks.submit import SPEC
from jobs.state import Code
from orchestrator.client.client import Client
from orchestrator.store import Store
from orchestrator.store.requests import NewJob

DECIDES_S_AT_MOST = 3.0
WAIT_S = 120.0
LOOK_S = 0.02


def until_planned(service: Service, job: int) -> float:
    """CPU seconds of the server by the time that it has said why this job waits."""
    deadline = time.monotonic() + WAIT_S
    with Client(service.url, service.token) as client:
        while client.job(job)["reason"]["code"] == Code.NEW:
            if time.monotonic() > deadline:
                sys.exit(f"job {job} was not planned within {WAIT_S:g} s")
            time.sleep(LOOK_S)
    times = psutil.Process(service.pid).cpu_times()
    return float(times.user + times.system)


def queue(home: Path, count: int) -> None:
    """A home whose server was killed with that many jobs queued and planned."""
    with tuneyard_server(home) as service:
        submit(service, count)
        until_planned(service, count)
        os.kill(service.pid, signal.SIGKILL)


def restart(home: Path) -> tuple[float, float, float]:
    """Seconds until the server answers, until it has planned, and its CPU seconds by then."""
    store = Store(f"sqlite:///{home / 'tuneyard.db'}")
    (job,) = store.submit([NewJob("late", "bench", SPEC, priority=100)], time.time())
    store.close()
    began = time.monotonic()
    with tuneyard_server(home) as service:
        answers_s = time.monotonic() - began
        cpu_s = until_planned(service, job.id)
        decides_s = time.monotonic() - began
        os.kill(service.pid, signal.SIGKILL)
    return answers_s, decides_s, cpu_s


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="make bench-restart ARGS='...'", description=__doc__)
    parser.add_argument("--queued", type=int, default=10_000, help="jobs that wait (default 10000)")
    parser.add_argument("--rounds", type=int, default=5, help="restarts (default 5)")
    given = parser.parse_args()
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="tuneyard-bench-") as folder:
        home = Path(folder)
        queue(home, given.queued)
        rounds = [restart(home) for _ in range(given.rounds)]
    print(f"{'answers after, s':>18}{'decides after, s':>18}{'CPU, s':>9}")
    for answers_s, decides_s, cpu_s in rounds:
        print(f"{answers_s:>18.2f}{decides_s:>18.2f}{cpu_s:>9.2f}")
    answers_s, decides_s, cpu_s = (statistics.median(column) for column in zip(*rounds, strict=True))
    result = {
        "bench": "restart",
        "queued": given.queued,
        "rounds": given.rounds,
        "answers_s": round(answers_s, 2),
        "decides_s": round(decides_s, 2),
        "decides_worst_s": round(max(one[1] for one in rounds), 2),
        "decides_s_at_most": DECIDES_S_AT_MOST,
        "server_cpu_s": round(cpu_s, 2),
        "load": round(os.getloadavg()[0], 1),
    }
    return finish({**result, "met": decides_s < DECIDES_S_AT_MOST})


if __name__ == "__main__":
    sys.exit(main())
