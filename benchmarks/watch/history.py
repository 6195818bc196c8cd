"""The telemetry of 500 hosts' last hour, and of one card's week, through the API of a real server.

A month of minutes lies behind it: of every host, of the fleet and of the cards of one host, made in SQL. On SQLite and
PostgreSQL. The time is that of a whole request, read to its end.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from benchmarks.common import Service, finish, machine, tuneyard_server
from benchmarks.telemetry import join
from orchestrator.store import Store, upgrade
from orchestrator.store.engine.database import Database
from orchestrator.store.history.fields import CARD, COLUMNS, FLEET, HOST, MINUTE_S, QUARTER_S, VALUES
from orchestrator.store.history.rollup import MINUTES, QUARTERS, SAMPLES_GONE, set_state
from tests.postgres import binaries, running

HOSTS = 500
FLEET_MS_AT_MOST, WEEK_MS_AT_MOST = 200.0, 500.0
TIMES = 9


def fill(store: Database, days: float) -> int:
    """Minutes and quarters as far back; how many rows."""
    end = int(time.time() // QUARTER_S) * QUARTER_S
    names = ", ".join(COLUMNS)
    values = ", ".join(
        "(42000000000 + {ts} % 977 * 1000000)" if name.startswith("memory_used") else "({ts} % 6007)"
        for name in VALUES
    )
    rows = 0
    with store.write() as connection:
        for scope, subjects in (
            (FLEET, "SELECT 0 AS id"),
            (HOST, "SELECT id FROM hosts"),
            (CARD, "SELECT id FROM gpus WHERE id <= 8"),
        ):
            for width in (MINUTE_S, QUARTER_S):
                count = int(days * 86400 / width)
                steps = _series(store.is_sqlite, count)
                at = f"({end} - {width} * s.n)"
                chosen = (
                    f"SELECT {scope}, o.id, {width}, {at}, {width}, 59000, 8, 0, 2.5e6, "
                    + values.format(ts=at)
                )
                made = connection.execute(
                    sa.text(
                        f"INSERT INTO history ({names}) {chosen} FROM ({subjects} ORDER BY 1) o CROSS JOIN ({steps}) s"
                    )
                )
                rows += made.rowcount
        for name, ts in ((MINUTES, end), (QUARTERS, end), (SAMPLES_GONE, end)):
            set_state(connection, name, ts)
    with store._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))
    return rows


def _series(sqlite: bool, count: int) -> str:
    """Whole numbers from count down to 1: time goes on, as it does in a real database."""
    if sqlite:
        return f"WITH RECURSIVE c(n) AS (SELECT {count} UNION ALL SELECT n - 1 FROM c WHERE n > 1) SELECT n FROM c"
    return f"SELECT generate_series({count}, 1, -1) AS n"


def asked(service: Service, path: str) -> dict[str, Any]:
    """The median and worst time of a request, and what came."""
    parts = urlsplit(service.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    took, size, found = [], 0, {}
    for _ in range(TIMES + 1):
        began = time.perf_counter()
        connection.request("GET", f"/api/v1{path}", headers={"Authorization": f"Bearer {service.token}"})
        answer = connection.getresponse()
        body = answer.read()
        took.append(1000 * (time.perf_counter() - began))
        if answer.status != 200:
            sys.exit(f"GET {path} answered {answer.status}: {body[:300]!r}")
        size = len(body)
        found = json.loads(body)
    connection.close()
    told = sum(sum(1 for n in line["n"] if n) for line in found["series"])
    return {
        "ms": round(statistics.median(took[1:]), 1),
        "worst_ms": round(max(took[1:]), 1),
        "bytes": size,
        "lines": len(found["series"]),
        "steps_told": told,
        "source": found["source"],
    }


def measure(url: str, home: Path, days: float) -> dict[str, Any]:
    """Both questions to a server on this database."""
    upgrade(url)
    store, patient = Store(url), Database(url, patient=True)
    join(store, HOSTS)
    began = time.monotonic()
    rows = fill(patient, days)
    filled_s = time.monotonic() - began
    patient.close()
    store.close()
    home.mkdir()
    with tuneyard_server(home, "--database", url) as service:
        hour = asked(service, "/series?kind=host&since=1h&points=60")
        week = asked(service, "/series?kind=card&of=host-0/0&since=7d&points=2000")
    if (
        hour["lines"] != HOSTS
        or hour["steps_told"] < HOSTS * 40
        or week["steps_told"] < min(1, days / 7) * 900
    ):
        sys.exit(f"the answers lack what is there: {hour}, {week}")
    return {"rows_behind": rows, "filled_s": round(filled_s), "hour_of_hosts": hour, "week_of_card": week}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=30.0, help="of history behind")
    given = parser.parse_args()
    print(machine())
    result: dict[str, Any] = {"bench": "watch.history", "days": given.days}
    met = True
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tuneyard-bench-")))
        urls = {"sqlite": f"sqlite:///{folder / 'tuneyard.db'}"}
        if (found := binaries()) is not None:
            urls["postgresql"] = stack.enter_context(running(found, "fsync=on"))
        for name, url in urls.items():
            result[name] = one = measure(url, folder / name, given.days)
            hour, week = one["hour_of_hosts"]["ms"], one["week_of_card"]["ms"]
            print(
                f"{name:<12}{one['rows_behind']:>12,} rows  hour of hosts {hour:.0f} ms  week of a card {week:.0f} ms"
            )
            met &= hour <= FLEET_MS_AT_MOST and week <= WEEK_MS_AT_MOST
    met &= "postgresql" in result
    return finish(
        {**result, "hour_ms_at_most": FLEET_MS_AT_MOST, "week_ms_at_most": WEEK_MS_AT_MOST, "met": met}
    )


if __name__ == "__main__":
    sys.exit(main())
