"""What the benchmarks share: a server of their own, a bare handler to compare with, clients, memory, the last line."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from workers.ports import free_port

READY_S = 60.0
CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Service:
    """A process that answers HTTP."""

    pid: int
    url: str
    token: str = ""


class Connection:
    """One keep-alive connection, with as little of the client's own time as the standard library allows."""

    def __init__(self, service: Service) -> None:
        parts = urlsplit(service.url)
        self._http = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        self._headers = {"Content-Type": "application/json"}
        if service.token:
            self._headers["Authorization"] = f"Bearer {service.token}"

    def post(self, path: str, body: bytes, expect: int) -> bytes:
        """The answer's body. Ends the benchmark when the status is another."""
        return self._ask("POST", path, body, expect)

    def get(self, path: str) -> bytes:
        """The same of GET, which is to answer 200."""
        return self._ask("GET", path, None, 200)

    def _ask(self, method: str, path: str, body: bytes | None, expect: int) -> bytes:
        self._http.request(method, path, body, self._headers)
        answer = self._http.getresponse()
        text = answer.read()
        if answer.status != expect:
            sys.exit(f"{method} {path} answered {answer.status}: {text.decode(errors='replace')[:500]}")
        return text

    def close(self) -> None:
        self._http.close()


def clean_environment(home: Path) -> dict[str, str]:
    """This environment with a tuneyard home of the benchmark's own and no other setting of tuneyard's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TUNEYARD_")}
    return kept | {"TUNEYARD_HOME": str(home), "PYTHONPATH": str(CHECKOUT)}


@contextlib.contextmanager
def tuneyard_server(home: Path, *arguments: str) -> Iterator[Service]:
    """`tuneyard serve` on a free port, without Ray."""
    port = free_port()
    command = [sys.executable, "-m", "orchestrator.cli.main", "serve", "--no-ray", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with process([*command, *arguments], home, clean_environment(home), f"{url}/api/v1/health") as child:
        token = json.loads((home / "config.json").read_text())["token"]
        yield Service(child.pid, url, token)


@contextlib.contextmanager
def bare_server(home: Path) -> Iterator[Service]:
    """benchmarks/bare.py under uvicorn: what a durable insert behind HTTP costs at the least."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "benchmarks.bare", str(home / "bare.db"), str(port)]
    with process(command, home, clean_environment(home), f"{url}/health") as child:
        yield Service(child.pid, url)


@contextlib.contextmanager
def process(
    command: Sequence[str], home: Path, environment: Mapping[str, str], health: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A child that answers 200 at `health`; ended with the block. Ends the benchmark when it does not come up."""
    path = home / f"{Path(command[2]).name}.log"
    with path.open("wb") as log:
        child = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=CHECKOUT)
    try:
        deadline = time.monotonic() + READY_S
        while not _answers(health):
            if child.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{' '.join(command)} did not come up:\n{path.read_text()}")
            time.sleep(0.05)
        yield child
    finally:
        child.terminate()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def pss_bytes(pid: int) -> int:
    """Proportional set size of a process: shared pages count by share (proc_pid_smaps_rollup(5))."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise KeyError(f"/proc/{pid}/smaps_rollup has no Pss")


def machine() -> str:
    """One line about where this ran."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, load {load:.1f} at start"


def finish(result: dict[str, Any]) -> int:
    """Print the result as the last line; the exit code: 1 when a target is missed."""
    print(json.dumps(result))
    return 0 if result["met"] else 1
