"""How fast queued jobs are started by the real controller, loop, plan and store: `make bench-admission`.

1,000 no-op jobs wait; the dispatcher is a fake that hands nothing to Ray. Once with a free card for each of them, and
once with 100 cards, where hosts report each job's end as soon as it was handed over, so that the loop takes turns.
Each admission is a job read, planned for, moved, leased its card, noted, committed, made an assignment of and handed
over. A process of its own for each database, both durable (fsync). Prints a table, then one JSON object as the last
line; the exit code is 1 when a target is missed. --profile shows where the time of one tick for all of them goes.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.common import CHECKOUT, finish, machine
from jobs.messages.reports import AttemptReport, Ended, GpuInfo, HostInfo, HostReport, Started, TraceResult
from jobs.state import JobState, Outcome
from jobs.units import GiB
from orchestrator.config import Settings
from orchestrator.control.controller import Controller
from orchestrator.dispatch.dispatcher import DispatchState, Part
from orchestrator.store import Store, upgrade
from orchestrator.store.requests import NewJob
from tests.postgres import binaries, running
from tests.profiles import small_profile

AT_LEAST = {"sqlite": 100.0, "postgresql": 300.0}  # admissions a second
CARDS = 8  # of a host
FEW = 104
LIMIT_S = 60.0
REPORT_S = 0.05
SPEC: dict[str, Any] = {
    "model": {"config": {"model_type": "llama", "hidden_size": 64}, "tokenizer": "org/tokenizer"},
    "data": "org/pairs",
    "training": {"steps": 1, "sequence_length": 64, "global_batch": 4},
}


class NoOps:
    """A dispatcher whose jobs do nothing. handed: (attempt, number, host) of those that nobody reported yet."""

    def __init__(self) -> None:
        self.address: str | None = "127.0.0.2:1"
        self.generation = 1
        self.handed: list[tuple[int, int, str]] = []
        self.count = 0
        self.last = 0.0
        self.lock = threading.Lock()

    def start(self, attempt_id: int, parts: list[Part]) -> bool:
        json.dumps(parts)  # as the real one writes them to its child
        with self.lock:
            self.handed.append((attempt_id, parts[0]["assignments"][0]["number"], parts[0]["host"]))
            self.count, self.last = self.count + 1, time.monotonic()
        return True

    def state(self) -> DispatchState:
        return DispatchState(ready=True)

    def pool(self, warm: dict[str, int]) -> None:
        """No actors."""

    def events(self) -> list[dict[str, Any]]:
        return []

    def taken(self) -> list[tuple[int, int, str]]:
        """What was handed over since the last look."""
        with self.lock:
            taken, self.handed = self.handed, []
        return taken


class Yard:
    """A store with hosts, queued jobs and their profile, and a controller that is not open yet."""

    def __init__(self, url: str, folder: Path, jobs: int, cards: int) -> None:
        self.store = Store(url)
        self.cards = cards
        self.hosts = {f"host-{n}": self._join(n) for n in range(-(-cards // CARDS))}
        self.dispatch = NoOps()
        settings = Settings(home=folder, database=url, token="none", ray=False)
        self.controller = Controller(self.store, self.dispatch, settings)
        self._trace()
        self.store.submit([NewJob("no-op", "bench", SPEC) for _ in range(jobs)], time.time())
        self.dispatch.taken()
        self.dispatch.count = 0

    def _gpus(self, host: int) -> list[GpuInfo]:
        return [
            GpuInfo(uuid=f"GPU-{host}-{n}", index=n, kind="cuda", name="NVIDIA L4", memory_bytes=24 * GiB)
            for n in range(min(CARDS, self.cards - CARDS * host))
        ]

    def _join(self, host: int) -> int:
        info = HostInfo(
            name=f"host-{host}",
            machine_id=f"machine-{host}",
            gpus=self._gpus(host),
            stack={"torch": "2.13.0"},
            model_types=["llama"],
            home="/srv/tuneyard",
            output_root="/srv/tuneyard/output",
            version="0.1.0",
            warm=0,
        )
        return self.store.join_host(info, time.time())

    def report(self, **news: dict[str, Any]) -> None:
        """All hosts report, those named in news with what they have to say."""
        reports = [
            (
                host_id,
                HostReport(
                    boot="b", sent=time.time(), gpus=self._gpus(n), ray_ready=True, **news.get(name, {})
                ),
            )
            for n, (name, host_id) in enumerate(self.hosts.items())
        ]
        self.store.record_reports(reports, time.time())

    def _trace(self) -> None:
        """One job goes first: its profile is traced, and it ends."""
        self.store.submit([NewJob("first", "bench", SPEC)], time.time())
        self.report()
        self.controller.tick(time.time())
        (wanted,), host_id = self.store.pending_profiles(), next(iter(self.hosts.values()))
        (count,) = self.store.pending_lengths([host_id])
        profile = small_profile().as_dict()
        answer = TraceResult(key=wanted.key, profile=profile, data_key=count.key, data_error="not here")
        self.report(**{"host-0": {"traces": [answer]}})
        self.controller.tick(time.time())
        self.end(self.dispatch.taken())
        self.controller.tick(time.time())
        (first,) = self.store.jobs(limit=2)
        assert first.state is JobState.SUCCEEDED, first.reason

    def end(self, handed: list[tuple[int, int, str]]) -> None:
        """Hosts report that these attempts began and ended."""
        now = time.time()
        news: dict[str, dict[str, Any]] = {}
        for attempt_id, number, host in handed:
            said = AttemptReport(
                attempt_id=attempt_id,
                number=number,
                started=Started(ts=now, pid=attempt_id, create_time=now),
                ended=Ended(ts=now, outcome=Outcome.SUCCEEDED, steps=1),
            )
            news.setdefault(host, {"attempts": []})["attempts"].append(said)
        self.report(**news)

    def run(self, jobs: int, ends: bool) -> float:
        """Seconds from the opening of the loop until the last job is handed over, or LIMIT_S are over.

        ends: report each one's end.
        """
        began = time.monotonic()
        self.controller.open()
        self.controller.wake()
        told = began
        while self.dispatch.count < jobs and time.monotonic() - began < LIMIT_S:
            time.sleep(REPORT_S)
            handed = self.dispatch.taken() if ends else []
            if handed or time.monotonic() - told >= 1.0:
                told = time.monotonic()
                self.end(handed)
            if handed:
                self.controller.wake()
        self.controller.close()
        return self.dispatch.last - began


def measure(url: str, jobs: int, few: bool, profile: bool) -> float:
    """Admissions a second."""
    with tempfile.TemporaryDirectory(prefix="tuneyard-bench-") as folder:
        yard = Yard(url, Path(folder), jobs, FEW if few else jobs)
        if profile:
            profiler = cProfile.Profile()
            profiler.runcall(yard.controller.tick, time.time())
            pstats.Stats(profiler, stream=sys.stderr).sort_stats("cumulative").print_stats(45)
            return 0.0
        taken_s = yard.run(jobs, ends=few)
        yard.store.close()
    return yard.dispatch.count / taken_s


def main() -> int:
    """Measure both databases, print, judge."""
    parser = argparse.ArgumentParser(prog="make bench-admission ARGS='...'", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--into", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--few", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.into:
        print(json.dumps(measure(given.into, given.jobs, given.few, given.profile)))
        return 0
    print(machine())
    print(f"{given.jobs:,} queued no-op jobs; admissions a second\n")
    print(f"{'':<12}{'a card for each':>18}{f'{FEW} cards, in turn':>22}{'at least':>10}")
    result: dict[str, Any] = {"bench": "admission", "jobs": given.jobs}
    met = True
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tuneyard-bench-"))
        found = binaries()
        server = None if found is None else stack.enter_context(running(found, "fsync=on"))
        for name, least in AT_LEAST.items():
            if name == "postgresql" and server is None:
                print("PostgreSQL is not installed (apt-get install postgresql): not measured")
                met = False
                continue
            rates = []
            for few in (False, True):
                url = f"sqlite:///{Path(folder) / f'{few}.db'}" if name == "sqlite" else _made(server, few)
                upgrade(url)
                rates.append(_in_a_process(url, given, few))
            result[name] = {
                "per_s": round(rates[0], 1),
                "in_turn_per_s": round(rates[1], 1),
                "at_least": least,
            }
            print(f"{name:<12}{rates[0]:>18,.0f}{rates[1]:>22,.0f}{least:>10,.0f}")
            met &= rates[0] >= least
    return finish({**result, "met": met})


def _made(server: str | None, few: bool) -> str:
    """A new database on the server."""
    import psycopg
    import sqlalchemy as sa

    url = sa.make_url(server or "")
    name = f"admission_{int(few)}"
    with psycopg.connect(host=str(url.query["host"]), user=url.username, dbname="postgres") as connection:
        connection.autocommit = True
        connection.execute(f"CREATE DATABASE {name}".encode())
    return url.set(database=name).render_as_string(hide_password=False)


def _in_a_process(url: str, given: argparse.Namespace, few: bool) -> float:
    command = [sys.executable, "-m", "benchmarks.admission", "--into", url, "--jobs", str(given.jobs)]
    command += ["--few"] if few else []
    command += ["--profile"] if given.profile else []
    done = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout))


if __name__ == "__main__":
    sys.exit(main())
