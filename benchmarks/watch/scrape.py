"""/metrics at 4,000 cards: how long a scrape takes, and what one in 15 seconds is of a core.

A real server on SQLite whose cards have been read for five seconds, a job on none of them. Each scrape is of a state of
its own: the server keeps an answer for five seconds.
"""

from __future__ import annotations

import http.client
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks.common import Service, finish, machine, tuneyard_server
from benchmarks.telemetry import CARDS, join, reports
from orchestrator.api.prometheus.scrape import APART_S
from orchestrator.store import Store, upgrade
from orchestrator.store.schema.tables import gpus

HOSTS = 500
TIMES = 5
MS_AT_MOST = 2000.0  # Prometheus gives up after ten seconds
EVERY_S = 15.0
CORE_AT_MOST = 0.1


def scraped(service: Service) -> dict[str, Any]:
    """Median and worst time, CPU time of the server for one, and the size."""
    parts = urlsplit(service.url)
    server = psutil.Process(service.pid)
    took, used, size, series = [], [], 0, 0
    for _ in range(TIMES):
        time.sleep(APART_S + 0.5)
        before, began = sum(server.cpu_times()[:2]), time.perf_counter()
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {service.token}"})
        answer = connection.getresponse()
        body = answer.read()
        took.append(1000 * (time.perf_counter() - began))
        used.append(sum(server.cpu_times()[:2]) - before)
        connection.close()
        if answer.status != 200:
            sys.exit(f"GET /metrics answered {answer.status}: {body[:300]!r}")
        size, series = len(body), sum(not line.startswith(b"#") for line in body.splitlines())
    cpu_s = statistics.median(used)
    return {
        "ms": round(statistics.median(took), 1),
        "worst_ms": round(max(took), 1),
        "cpu_s": round(cpu_s, 3),
        "core": round(cpu_s / EVERY_S, 4),
        "bytes": size,
        "series": series,
    }


def main() -> int:
    print(machine())
    with tempfile.TemporaryDirectory(prefix="tuneyard-bench-") as folder:
        url = f"sqlite:///{Path(folder) / 'tuneyard.db'}"
        upgrade(url)
        store = Store(url)
        ids, now = join(store, HOSTS), time.time()
        for second in range(-5, 0):
            store.record_reports(list(zip(ids, reports(HOSTS, now + second), strict=True)), now + second)
        with store.write() as connection:
            connection.execute(gpus.update().values(present=True))  # those reports name none
        store.close()
        with tuneyard_server(
            Path(folder), "--database", url, "--away-after", "1h", "--lost-after", "2h"
        ) as service:
            found = scraped(service)
    print(
        f"{found['series']:,} series, {found['bytes']:,} bytes: {found['ms']:.0f} ms, {found['core']:.1%} of a core"
    )
    if found["series"] < HOSTS * CARDS * 10:
        sys.exit("the answer lacks cards")
    met = found["worst_ms"] <= MS_AT_MOST and found["core"] <= CORE_AT_MOST
    return finish(
        {"bench": "watch.scrape", **found, "ms_at_most": MS_AT_MOST, "core_at_most": CORE_AT_MOST, "met": met}
    )


if __name__ == "__main__":
    sys.exit(main())
