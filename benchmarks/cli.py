"""How fast the command line answers, beside `python -c "import click"` in the same run: `make bench-cli`.

Starts a server of its own (without Ray) in a temporary home. Prints a table, then one JSON object as the last line.
The exit code is 1 when a target is missed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.errors import TuneyardError
from orchestrator.client.client import Client

ROUNDS = 21
WARM_UP = 2
FEW, MANY = 20, 20_000
RATIO_AT_MOST = 3.0
MANY_S_AT_MOST = 0.3
READY_S = 60.0
# Medians on another day on the test machine, beside its `import click` of 68 ms (facts measured 2026): context only.
PEERS_MS = {"squeue (C)": 4, "dstack ps 0.22.5": 1969, "sky status 0.14.1": 4964}
PEERS_CLICK_MS = 68
JOB = {
    "model": {"config": {"model_type": "llama"}, "tokenizer": "org/tokenizer"},
    "data": "org/pairs",
    "training": {"steps": 100},
}


def tuneyard() -> list[str]:
    """The console script beside this Python, or the module where it is not installed."""
    script = Path(sys.executable).parent / "tuneyard"
    return [str(script)] if script.exists() else [sys.executable, "-m", "orchestrator.cli.main"]


@contextmanager
def server(home: Path, environment: Mapping[str, str]) -> Iterator[Client]:
    """A server of this checkout on a free port, and a client of it."""
    with (home / "server.log").open("wb") as log:
        command = [*tuneyard(), "serve", "--no-ray", "--port", "0"]
        child = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        with Client(*_await(home, child)) as client:
            yield client
    finally:
        child.terminate()
        child.wait(30)


def _await(home: Path, child: subprocess.Popen[bytes]) -> tuple[str, str]:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and child.poll() is None:
        try:
            config = json.loads((home / "config.json").read_text())
            with Client(config["url"], config["token"]) as client:
                client.health()
            return config["url"], config["token"]
        except (OSError, ValueError, TuneyardError):
            time.sleep(0.05)
    sys.exit(f"the server did not come up:\n{(home / 'server.log').read_text()}")


def submit(client: Client, count: int) -> None:
    """Queue that many jobs. No host ever joins, so that they stay."""
    for start in range(0, count, 5000):
        client.submit_all([{**JOB, "name": f"job-{n}"} for n in range(start, min(count, start + 5000))])


def interleaved(
    commands: Mapping[str, Sequence[str]], environment: Mapping[str, str]
) -> dict[str, list[float]]:
    """Wall seconds of each command, round by round, so that a busy machine is busy for all of them."""
    quiet = subprocess.DEVNULL
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(WARM_UP + ROUNDS):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, env=environment, stdout=quiet, stderr=quiet, check=True)
            times[name].append(time.perf_counter() - began)
    return {name: all_of[WARM_UP:] for name, all_of in times.items()}


def main() -> int:
    """Measure, print, judge."""
    with tempfile.TemporaryDirectory(prefix="tuneyard-bench-") as folder:
        home = Path(folder)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TUNEYARD_")}
        environment["TUNEYARD_HOME"] = folder
        verbs = {"--help": ["--help"], "list": ["list"], "list --json": ["list", "--json"]}
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            'python -c "import click"': [sys.executable, "-c", "import click"],
            **{f"tuneyard {name}": [*tuneyard(), *args] for name, args in verbs.items()},
        }
        with server(home, environment) as client:
            submit(client, FEW)
            times = interleaved(commands, environment)
            submit(client, MANY - FEW)
            many = interleaved({"list": [*tuneyard(), "list"]}, environment)["list"]
            total = client.jobs(limit=1)["total"]
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    medians[f"tuneyard list, {MANY:,} jobs"] = statistics.median(many)
    base = medians['python -c "import click"']
    report(medians, base)
    result: dict[str, Any] = {
        "bench": "cli",
        "rounds": ROUNDS,
        "import_click_s": round(base, 4),
        "help_s": round(medians["tuneyard --help"], 4),
        "list_s": round(medians["tuneyard list"], 4),
        "help_ratio": round(medians["tuneyard --help"] / base, 2),
        "list_ratio": round(medians["tuneyard list"] / base, 2),
        "ratio_at_most": RATIO_AT_MOST,
        "jobs": total,
        "list_many_s": round(statistics.median(many), 4),
        "list_many_s_at_most": MANY_S_AT_MOST,
    }
    met = (
        result["help_ratio"] <= RATIO_AT_MOST
        and result["list_ratio"] <= RATIO_AT_MOST
        and result["list_many_s"] < MANY_S_AT_MOST
    )
    print(json.dumps({**result, "met": met}))
    return 0 if met else 1


def report(medians: Mapping[str, float], base: float) -> None:
    """The table: ours from this run, the peers' from docs, each against `import click` of its own run."""
    print(f"{'median wall time':<32}{'ms':>8}{'x click':>9}")
    for name, seconds in medians.items():
        print(f"{name:<32}{seconds * 1000:>8.0f}{seconds / base:>9.1f}")
    print("\nnot from this run (same machine, another day):")
    for name, milliseconds in PEERS_MS.items():
        print(f"{name:<32}{milliseconds:>8}{milliseconds / PEERS_CLICK_MS:>9.1f}")


if __name__ == "__main__":
    sys.exit(main())
