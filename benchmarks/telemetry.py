"""What telemetry costs the store, on SQLite and PostgreSQL: `make bench-telemetry`.

Hosts of 8 cards report once a second; their samples go through Store.record_reports, as the server's do, in a process
of their own whose CPU time is counted. Prints a table, then one JSON object as the last line. The exit code is 1 when
a target is missed.
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
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.common import CHECKOUT, finish, machine
from jobs.messages.reports import GpuInfo, GpuSample, HostInfo, HostReport
from jobs.units import GiB
from orchestrator.store import Store, upgrade
from orchestrator.store.history.fields import FLEET, FLEET_ID, MINUTE_S
from orchestrator.store.history.rollup import read_buckets
from tests.postgres import binaries, running

CARDS = 8  # a host
TICKS = 4  # transactions a second: the server writes what has come in since the last one
CORE_AT_MOST = 0.5
RATE_AT_LEAST = 0.99  # of the rows that were due


def reports(hosts: int, second: float) -> list[HostReport]:
    """What every host sends for one second. Built without validation: parsing is the API's work, not the store's."""
    made = []
    for host in range(hosts):
        samples = [
            GpuSample.model_construct(
                uuid=f"GPU-{host}-{card}",
                ts=second,
                memory_used_bytes=60 * GiB + card,
                utilization=0.97,
                power_w=640.0 + card,
                power_limit_w=700.0,
                temperature_c=61.0,
                sm_clock_mhz=1755.0,
                memory_clock_mhz=2619.0,
                energy_j=640.0 * second,
                throttle=0,
                ecc_corrected=0,
                ecc_uncorrected=0,
            )
            for card in range(CARDS)
        ]
        made.append(HostReport.model_construct(boot="b", sent=second, gpus=[], samples=samples))
    return made


def join(store: Store, hosts: int) -> list[int]:
    """The ids of that many hosts."""
    now = time.time()
    return [store.join_host(_info(host), now) for host in range(hosts)]


def _info(host: int) -> HostInfo:
    gpus = [
        GpuInfo(uuid=f"GPU-{host}-{card}", index=card, kind="cuda", name="H100", memory_bytes=80 * GiB)
        for card in range(CARDS)
    ]
    return HostInfo(
        name=f"host-{host}",
        machine_id=f"machine-{host}",
        gpus=gpus,
        stack={},
        model_types=["llama"],
        output_root="/",
        version="0.1.0",
        warm=0,
    )


def write(url: str, hosts: int, seconds: int) -> dict[str, Any]:
    """Write telemetry on schedule for that long, and roll it up as the controller does; what it cost this process.

    minutes: that were rolled up; core: CPU seconds a second; lag_s: the longest that a transaction ended after its
    reports were due.
    """
    store = Store(url)
    ids = join(store, hosts)
    began_cpu, began = sum(os.times()[:2]), time.monotonic()
    first = float(int(time.time()))
    lags, commits = [], []
    for tick in range(seconds * TICKS):
        due = began + tick / TICKS
        time.sleep(max(0.0, due - time.monotonic()))
        if tick % TICKS == 0:
            everything = list(zip(ids, reports(hosts, first + tick // TICKS), strict=True))
        asked = time.monotonic()
        store.record_reports(everything[tick % TICKS :: TICKS], time.time())
        commits.append(time.monotonic() - asked)
        lags.append(time.monotonic() - due)
        store.roll_up(time.time())
    wall = time.monotonic() - began
    cpu = sum(os.times()[:2]) - began_cpu
    stored = sum(len(store.samples(gpu.id, 0.0, first + seconds)) for gpu in store.gpus()[:CARDS]) * hosts
    with store.read() as connection:
        minutes = len(read_buckets(connection, FLEET, [FLEET_ID], MINUTE_S, 0.0, first + seconds))
    store.close()
    return {
        "rows": stored,
        "minutes": minutes,
        "rows_per_s": round(stored / max(wall, seconds), 1),
        "core": round(cpu / wall, 3),
        "lag_s": round(max(lags), 3),
        "commit_ms": round(statistics.median(commits) * 1000, 1),
    }


def main() -> int:
    """Measure both databases, print, judge."""
    parser = argparse.ArgumentParser(prog="make bench-telemetry ARGS='...'", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rows", type=int, default=4000, help="rows a second; a multiple of 8")
    parser.add_argument("--into", metavar="URL", help=argparse.SUPPRESS)
    given = parser.parse_args()
    hosts = given.rows // CARDS
    if given.into:
        print(json.dumps(write(given.into, hosts, given.seconds)))
        return 0
    print(machine())
    print(
        f"{given.rows:,} rows/s for {given.seconds} s, {hosts} hosts, {TICKS} durable transactions a second\n"
    )
    print(f"{'':<12}{'rows/s':>10}{'of a core':>12}{'commit, ms':>12}{'worst lag, s':>14}")
    result: dict[str, Any] = {"bench": "telemetry", "seconds": given.seconds, "rows_per_s_due": given.rows}
    met = True
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tuneyard-bench-"))
        urls = {"sqlite": f"sqlite:///{Path(folder) / 'tuneyard.db'}"}
        if (found := binaries()) is not None:
            urls["postgresql"] = stack.enter_context(running(found, "fsync=on"))
        for name, url in urls.items():
            upgrade(url)
            result[name] = measured = _in_a_process(url, given.seconds, given.rows)
            print(
                f"{name:<12}{measured['rows_per_s']:>10,.0f}{measured['core']:>12.2f}"
                f"{measured['commit_ms']:>12.1f}{measured['lag_s']:>14.2f}"
            )
            met &= measured["core"] <= CORE_AT_MOST and measured["rows_per_s"] >= RATE_AT_LEAST * given.rows
    if "postgresql" not in result:
        print("PostgreSQL is not installed (apt-get install postgresql): not measured")
        met = False
    return finish({**result, "core_at_most": CORE_AT_MOST, "met": met})


def _in_a_process(url: str, seconds: int, rows: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.telemetry", "--into", url]
    options = ["--seconds", str(seconds), "--rows", str(rows)]
    done = subprocess.run([*command, *options], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


if __name__ == "__main__":
    sys.exit(main())
