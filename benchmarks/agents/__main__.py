"""How a fleet's reports are taken: hosts of 8 cards, once a second, beside a long queue: `make bench-agents`.

A server on a temporary home has jobs on every card and a queue besides. A process of its own speaks as all hosts, on
the same machine; `tuneyard list` is timed meanwhile. Prints a table, then one JSON object as the last line. The exit
code is 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cli import tuneyard
from benchmarks.common import CHECKOUT, Service, clean_environment, finish, machine, tuneyard_server
from benchmarks.submit import SPEC
from orchestrator.client.client import Client

P99_MS_AT_MOST = 500.0
LIST_S_AT_MOST = 0.5
RATE_AT_LEAST = 0.98  # of the reports that are due
LIST_EVERY_S = 4.0
AT_A_TIME = 5_000  # jobs of one submission


def submit(service: Service, count: int) -> None:
    """Queue that many jobs of one kind, for one card each."""
    with Client(service.url, service.token) as client:
        for start in range(0, count, AT_A_TIME):
            names = range(start, min(count, start + AT_A_TIME))
            client.submit_all([{**SPEC, "name": f"job-{number}"} for number in names])


def measure(service: Service, home: Path, given: argparse.Namespace) -> dict[str, Any]:
    """What the generator saw, with what the server used and the command line took meanwhile."""
    command = [sys.executable, "-m", "benchmarks.agents.speaker", service.url, service.token]
    command += map(str, (given.hosts, given.cards, given.seconds))
    server, lists, failed = psutil.Process(service.pid), list[float](), 0
    environment = clean_environment(home)
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as speaker:
        assert speaker.stdout is not None
        first = speaker.stdout.readline()
        if not first:
            sys.exit("the generator failed")
        used, busy, began = _used_s(server), _machine_s(), time.monotonic()
        while (left_s := given.seconds - (time.monotonic() - began)) > 0:
            asked = time.monotonic()
            done = subprocess.run([*tuneyard(), "list"], env=environment, capture_output=True, check=False)
            failed += bool(done.returncode)
            lists.append(time.monotonic() - asked)
            time.sleep(max(0.0, min(left_s, LIST_EVERY_S) - lists[-1]))
        took_s = time.monotonic() - began
        core, all_cores = (_used_s(server) - used) / took_s, (_machine_s() - busy) / took_s
        seen = json.loads(speaker.stdout.readline())
    load = {"server_core": core, "machine_cores": all_cores, "load": os.getloadavg()[0]}
    return {**seen, **json.loads(first), **load, "list_s": lists, "lists_failed": failed}


def _used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _machine_s() -> float:
    """CPU seconds of all processes on this machine."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def at(values: Sequence[float], share: float) -> float:
    """A quantile of sorted values; 0 where there are none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def judge(seen: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """The figures, and whether they are met."""
    taken = seen["taken_s"]
    lists = sorted(seen["list_s"])
    result = {
        "bench": "agents",
        "hosts": given.hosts,
        "cards": given.cards,
        "queued": given.queued,
        "busy": seen["busy"],
        "seconds": given.seconds,
        "reports_per_s": round(len(taken) / given.seconds, 1),
        "errors": sum(seen["errors"].values()),
        "asked_to_wait": seen["asked_to_wait"],
        "skipped": seen["skipped"],
        "p50_ms": round(at(taken, 0.5) * 1000, 1),
        "p99_ms": round(at(taken, 0.99) * 1000, 1),
        "worst_ms": round(at(taken, 1.0) * 1000, 1),
        "p99_ms_at_most": P99_MS_AT_MOST,
        "list_s": round(statistics.median(lists), 3) if lists else 0.0,
        "list_worst_s": round(at(lists, 1.0), 3),
        "lists_failed": seen["lists_failed"],
        "list_s_at_most": LIST_S_AT_MOST,
        "server_core": round(seen["server_core"], 2),
        "server_ms_a_report": round(seen["server_core"] * 1000 * given.seconds / max(1, len(taken)), 2),
        "generator_core": round(seen["generator_core"], 2),
        "machine_cores": round(seen["machine_cores"], 2),
        "load": round(seen["load"], 1),
    }
    met = (
        not result["errors"]
        and result["reports_per_s"] >= RATE_AT_LEAST * given.hosts
        and result["p99_ms"] < P99_MS_AT_MOST
        and not seen["lists_failed"]
        and result["list_s"] < LIST_S_AT_MOST
    )
    return {**result, "met": met}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="make bench-agents ARGS='...'", description=__doc__)
    parser.add_argument("--hosts", type=int, default=500)
    parser.add_argument("--cards", type=int, default=8, help="of a host, each with a job (default 8)")
    parser.add_argument(
        "--queued", type=int, default=10_000, help="jobs beyond those that run (default 10000)"
    )
    parser.add_argument("--seconds", type=int, default=120)
    given = parser.parse_args(arguments)
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory(prefix="tuneyard-bench-") as folder:
        home = Path(folder)
        with tuneyard_server(home) as service:
            submit(service, given.queued + given.hosts * given.cards)
            seen = measure(service, home, given)
    for text, count in seen["errors"].items():
        print(f"{count} x {text}")
    result = judge(seen, given)
    print(f"{'reports/s':>10}{'p50, ms':>10}{'p99, ms':>10}{'worst':>10}{'list, s':>10}{'server, cores':>15}")
    print(
        f"{result['reports_per_s']:>10}{result['p50_ms']:>10}{result['p99_ms']:>10}{result['worst_ms']:>10}"
        f"{result['list_s']:>10}{result['server_core']:>15}"
    )
    return finish(result)


if __name__ == "__main__":
    sys.exit(main())
