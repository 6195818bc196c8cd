"""What `tuneyard top` takes of a core at 4,000 cards, and how soon `top --once` is there.

`python -m benchmarks.watch.top`. A server that only answers `GET /fleet` stands in another process, with a fleet that
changes each second; `tuneyard top` runs in a terminal of 160 x 50. Prints one JSON object as its last line; the exit
code is 1 when a target is missed.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from benchmarks.cli import RATIO_AT_MOST, interleaved, tuneyard

HOSTS, CARDS = 500, 8
FEW_HOSTS = 10
WARM_UP_S, MEASURED_S = 6.0, 30.0
SHARE_AT_MOST = 0.05
GiB = 2**30


def state(hosts: int, offset: int, limit: int, queue: int) -> dict[str, Any]:
    """A page of a fleet as it is this second."""
    second = int(time.time())
    shown = range(offset, min(hosts, offset + limit))
    cards = [(host, index) for host in shown for index in range(CARDS)]
    ids = [host * CARDS + index + 1 for host, index in cards]
    many = len(cards)
    waiting = range(1, min(queue, 400) + 1)
    return {
        "at": time.time(),
        "version": "0",
        "totals": {
            "hosts": hosts,
            "hosts_online": hosts,
            "cards": hosts * CARDS,
            "running": hosts * CARDS,
            "states": {"busy": hosts * CARDS},
            "waiting": 400,
            "power_w": hosts * CARDS * 600,
            "memory_bytes": hosts * CARDS * 80 * GiB,
            "used_bytes": hosts * CARDS * 61 * GiB,
        },
        "hosts": {
            "id": [host + 1 for host in shown],
            "name": [f"gpu-{host:03d}" for host in shown],
            "state": ["online"] * len(shown),
            "cards": [CARDS] * len(shown),
            "free": [0] * len(shown),
            "last_seen": [None] * len(shown),
            "fault": [None] * len(shown),
        },
        "cards": {
            "id": ids,
            "host": [host + 1 for host, _ in cards],
            "index": [index for _, index in cards],
            "name": ["H100-80GB"] * many,
            "kind": ["cuda"] * many,
            "memory_bytes": [80 * GiB] * many,
            "used_bytes": [(55 + (id_ * 7 + second) % 12) * GiB for id_ in ids],
            "projected_bytes": [66 * GiB] * many,
            "upper_bytes": [70 * GiB] * many,
            "utilization": [(70 + (id_ * 13 + second * 5) % 30) / 100 for id_ in ids],
            "power_w": [500 + (id_ * 17 + second * 11) % 200 for id_ in ids],
            "temperature_c": [60 + (id_ + second) % 15 for id_ in ids],
            "state": ["busy"] * many,
            "fault": [None] * many,
            "job": ids,
            "attempt": ids,
            "holders": [1] * many,
            "idle_since": [None] * many,
        },
        "running": {
            "id": ids,
            "name": [f"lora-{id_}" for id_ in ids],
            **{name: ["x"] * many for name in ("user", "project")},
            **{name: [1] * many for name in ("priority", "attempt", "cards", "started_at")},
            "step": [second % 1000 + id_ % 100 for id_ in ids],
            "total_steps": [2400] * many,
            "loss": [1.2 + (second + id_) % 10 / 100 for id_ in ids],
            "tokens_per_s": [5000.0 + second % 100] * many,
            "eta_s": [3600.0 - second % 100] * many,
            "stalled": [False] * many,
        },
        "queue": {
            "id": [10**5 + one for one in waiting],
            "name": [f"waits-{one}" for one in waiting],
            **{name: ["x"] * len(waiting) for name in ("user", "project", "reason")},
            "priority": [50] * len(waiting),
            "text": ["waits for a card: 400 jobs are ahead of it" for _ in waiting],
            "submitted_at": [time.time() - 600] * len(waiting),
            "earliest": [time.time() + 60 * one for one in waiting],
            "latest": [time.time() + 90 * one for one in waiting],
        },
        "matching": hosts,
    }


class _Fleet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = {
            key: int(one[0]) for key, one in parse_qs(urlsplit(self.path).query).items() if one[0].isdigit()
        }
        hosts: int = self.server.hosts  # type: ignore[attr-defined]
        page = state(hosts, asked.get("offset", 0), asked.get("limit", 1000), asked.get("queue", 500))
        raw = json.dumps(page).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def _serve(hosts: int, ports: Any) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Fleet)
    server.hosts = hosts  # type: ignore[attr-defined]
    ports.put(server.server_address[1])
    server.serve_forever()


def served(hosts: int) -> tuple[multiprocessing.Process, str]:
    """A process that serves a fleet, and where."""
    ports: Any = multiprocessing.Queue()
    child = multiprocessing.Process(target=_serve, args=(hosts, ports), daemon=True)
    child.start()
    return child, f"http://127.0.0.1:{ports.get(timeout=30)}"


def cpu_s(pid: int) -> float:
    """Seconds of a core that a process has taken."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def live(environment: dict[str, str]) -> tuple[float, int]:
    """Share of a core that `tuneyard top` takes once it is up, and bytes that it writes to its terminal a second."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
    env = {**environment, "TERM": "xterm-256color"}
    child = subprocess.Popen([*tuneyard(), "top"], env=env, stdin=its, stdout=its, stderr=its)
    os.close(its)
    try:
        _read(ours, WARM_UP_S)
        began, at = cpu_s(child.pid), time.monotonic()
        written = _read(ours, MEASURED_S)
        spent, took = cpu_s(child.pid) - began, time.monotonic() - at
        os.write(ours, b"q")
        _read(ours, 2.0)
    finally:
        child.terminate()
        child.wait(10)
        os.close(ours)
    return spent / took, round(written / took)


def _read(terminal: int, seconds: float) -> int:
    """What a terminal would: all that is written in that time; how many bytes that was."""
    until, count = time.monotonic() + seconds, 0
    while (left := until - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                count += len(os.read(terminal, 65536))
            except OSError:
                break
    return count


def main() -> int:
    """Measure, print, judge."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TUNEYARD_")}
    with tempfile.TemporaryDirectory(prefix="tuneyard-bench-") as home:
        environment = {**kept, "TUNEYARD_HOME": home, "TUNEYARD_TOKEN": "t"}
        large, url = served(HOSTS)
        small, few_url = served(FEW_HOSTS)
        try:
            share, written = live({**environment, "TUNEYARD_URL": url})
            commands = {
                "click": [sys.executable, "-c", "import click"],
                "once": [*tuneyard(), "top", "--once"],
            }
            times = interleaved(commands, {**environment, "TUNEYARD_URL": few_url})
        finally:
            for child in (large, small):
                child.terminate()
                child.join(10)
    once, click = statistics.median(times["once"]), statistics.median(times["click"])
    result = {
        "bench": "watch.top",
        "cards": HOSTS * CARDS,
        "top_share_of_a_core": round(share, 4),
        "top_share_at_most": SHARE_AT_MOST,
        "terminal_bytes_per_s": written,
        "once_cards": FEW_HOSTS * CARDS,
        "once_s": round(once, 4),
        "import_click_s": round(click, 4),
        "once_ratio": round(once / click, 2),
        "ratio_at_most": RATIO_AT_MOST,
    }
    met = share <= SHARE_AT_MOST and once / click <= RATIO_AT_MOST
    print(json.dumps({**result, "met": met}))
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
