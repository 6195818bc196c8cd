"""How fast jobs are taken, each durable before its answer, beside a bare handler in the same run: `make bench-submit`.

Prints a table, then one JSON object as the last line. The exit code is 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Connection, Service, bare_server, finish, machine, pss_bytes, tuneyard_server

ROUNDS = 4  # of each, in turn: a disk that slows down slows both
CLIENTS = 8
BATCHES = 5
RATIO_AT_LEAST = 0.8
BATCH_RATIO_AT_MOST = 5.0
IDLE_AT_MOST_MIB = 130
WARM_UP = 20
SPEC = {
    "model": {"config": {"model_type": "llama", "hidden_size": 64}, "tokenizer": "org/tokenizer"},
    "data": "org/pairs",
    "method": {"kind": "lora", "rank": 16},
    "training": {"steps": 100, "sequence_length": 1024, "global_batch": 8},
}


class Side:
    """One of the two servers, and the rates it reached."""

    def __init__(self, name: str, service: Service, path: str) -> None:
        self.name = name
        self.service = service
        self.path = path
        self.one: list[float] = []
        self.several: list[float] = []
        self.batch_s: list[float] = []

    def send(self, bodies: Sequence[bytes]) -> float:
        """Seconds that these requests take over one connection, one after another."""
        connection = Connection(self.service)
        began = time.perf_counter()
        for body in bodies:
            connection.post(self.path, body, expect=201)
        taken = time.perf_counter() - began
        connection.close()
        return taken

    def send_from_several(self, bodies: Sequence[bytes]) -> float:
        """Seconds that these requests take from CLIENTS connections at once."""
        threads = [threading.Thread(target=self.send, args=(bodies[n::CLIENTS],)) for n in range(CLIENTS)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - began


def body(names: Sequence[str]) -> bytes:
    """One request with a job of each name."""
    return json.dumps(
        {"jobs": [{"spec": {"name": name, **SPEC}} for name in names], "user": "bench"}
    ).encode()


def measure(sides: Sequence[Side], count: int) -> None:
    """Fill in the rates of both, in turn."""
    each = [body([f"job-{n}"]) for n in range(count // ROUNDS)]
    whole = body([f"job-{n}" for n in range(count)])
    for side in sides:
        side.send(each[:WARM_UP])
    for _ in range(ROUNDS):
        for side in sides:
            side.one.append(len(each) / side.send(each))
    for _ in range(ROUNDS):
        for side in sides:
            side.several.append(len(each) / side.send_from_several(each))
    for _ in range(BATCHES):
        for side in sides:
            side.batch_s.append(side.send([whole]))


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="make bench-submit ARGS='...'", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="jobs to submit (default 1000)")
    count = parser.parse_args().jobs
    print(machine())
    with tempfile.TemporaryDirectory(prefix="tuneyard-bench-") as folder:
        home = Path(folder)
        with tuneyard_server(home) as ours, bare_server(home) as theirs:
            time.sleep(2.0)  # until start-up is over
            idle = pss_bytes(ours.pid)
            sides = [
                Side("tuneyard", ours, "/api/v1/jobs"),
                Side("starlette + one insert", theirs, "/jobs"),
            ]
            measure(sides, count)
            loaded = pss_bytes(ours.pid)
    mine, bare = sides
    print(f"{'':<26}{'1 client, jobs/s':>18}{f'{CLIENTS} clients':>12}{f'{count:,} at once, ms':>20}")
    for side in sides:
        print(
            f"{side.name:<26}{statistics.median(side.one):>18.0f}{statistics.median(side.several):>12.0f}"
            f"{statistics.median(side.batch_s) * 1000:>20.0f}"
        )
    print(f"server, no Ray: {idle / 2**20:.0f} MiB idle, {loaded / 2**20:.0f} MiB afterwards (PSS)")
    ratio = statistics.median(a / b for a, b in zip(mine.one, bare.one, strict=True))
    batch_ratio = statistics.median(a / b for a, b in zip(mine.batch_s, bare.batch_s, strict=True))
    result = {
        "bench": "submit",
        "jobs": count,
        "jobs_per_s": round(statistics.median(mine.one), 1),
        "bare_jobs_per_s": round(statistics.median(bare.one), 1),
        "ratio": round(ratio, 2),
        "ratio_at_least": RATIO_AT_LEAST,
        "clients": CLIENTS,
        "clients_jobs_per_s": round(statistics.median(mine.several), 1),
        "clients_bare_jobs_per_s": round(statistics.median(bare.several), 1),
        "batch_s": round(statistics.median(mine.batch_s), 4),
        "batch_ratio": round(batch_ratio, 2),
        "batch_ratio_at_most": BATCH_RATIO_AT_MOST,
        "idle_mib": round(idle / 2**20, 1),
        "idle_mib_at_most": IDLE_AT_MOST_MIB,
    }
    met = (
        ratio >= RATIO_AT_LEAST
        and batch_ratio <= BATCH_RATIO_AT_MOST
        and idle <= IDLE_AT_MOST_MIB * 2**20
        and statistics.median(mine.several) > statistics.median(mine.one)
    )
    return finish({**result, "met": met})


if __name__ == "__main__":
    sys.exit(main())
