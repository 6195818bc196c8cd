"""How fast jobs are taken, each durable before its answer, beside a bare handler in the same run: `make bench-submit`.

And whether the server answers others while it reads as many job files in one request.

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
YAML_S_AT_MOST = 1.0
GAP_S_AT_MOST = 0.5  # a host is silent where nothing of it is heard for a second
PING_S = 0.02
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


def yaml_body(count: int) -> bytes:
    """One request with that many job files, as people write them."""
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in SPEC.items()]
    files = [
        {"text": f"# a job\nname: file-{n}\n{''.join(lines)}", "source": f"{n}.yaml"} for n in range(count)
    ]
    return json.dumps({"jobs": files, "user": "bench"}).encode()


class Pings:
    """Asks a server for its health all the time, over a connection of its own. gap_s: the longest between answers."""

    def __init__(self, service: Service) -> None:
        self._connection = Connection(service)
        self._over = threading.Event()
        self.gap_s = 0.0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Pings:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        last = time.perf_counter()
        while not self._over.wait(PING_S):
            self._connection.get("/api/v1/health")
            now = time.perf_counter()
            self.gap_s, last = max(self.gap_s, now - last), now


def measure_yaml(side: Side, count: int) -> tuple[float, float]:
    """Seconds that as many job files take in one request, and the longest gap between answers to others meanwhile."""
    whole, taken, gaps = yaml_body(count), [], []
    for _ in range(BATCHES):
        with Pings(side.service) as pings:
            taken.append(side.send([whole]))
        gaps.append(pings.gap_s)
    return statistics.median(taken), max(gaps)


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
            yaml_s, gap_s = measure_yaml(sides[0], count)
            loaded = pss_bytes(ours.pid)
    mine, bare = sides
    print(f"{'':<26}{'1 client, jobs/s':>18}{f'{CLIENTS} clients':>12}{f'{count:,} at once, ms':>20}")
    for side in sides:
        print(
            f"{side.name:<26}{statistics.median(side.one):>18.0f}{statistics.median(side.several):>12.0f}"
            f"{statistics.median(side.batch_s) * 1000:>20.0f}"
        )
    print(
        f"{count:,} YAML files in one request: {yaml_s:.2f} s, at most {gap_s * 1000:.0f} ms between answers"
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
        "yaml_s": round(yaml_s, 3),
        "yaml_s_at_most": YAML_S_AT_MOST,
        "yaml_gap_s": round(gap_s, 3),
        "yaml_gap_s_at_most": GAP_S_AT_MOST,
        "idle_mib": round(idle / 2**20, 1),
        "idle_mib_at_most": IDLE_AT_MOST_MIB,
    }
    met = (
        ratio >= RATIO_AT_LEAST
        and batch_ratio <= BATCH_RATIO_AT_MOST
        and yaml_s <= YAML_S_AT_MOST
        and gap_s <= GAP_S_AT_MOST
        and idle <= IDLE_AT_MOST_MIB * 2**20
        and statistics.median(mine.several) > statistics.median(mine.one)
    )
    return finish({**result, "met": met})


if __name__ == "__main__":
    sys.exit(main())
