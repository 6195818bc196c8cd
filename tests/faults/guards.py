"""Takes one guard after another out of a copy of the checkout: for each, the tests named here must fail.

`python -m tests.faults.guards`, some minutes; NAME for one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
ROOMS = ("jobs", "workers", "orchestrator", "migrations", "tests", "benchmarks", "deploy", "docs")


@dataclass(frozen=True)
class Guard:
    """A condition that keeps old or foreign news out. text: as it stands in file, once; instead: without it."""

    name: str
    file: str
    text: str
    instead: str
    tests: tuple[str, ...]


REPORTS, ATTEMPTS = "orchestrator/store/hosts/reports.py", "orchestrator/store/attempts/attempts.py"
GUARDS = (
    Guard(
        "an old attempt number changes nothing",
        REPORTS,
        "current = [(row, item) for row, item in mine if row.number == item.number and row.outcome is None]",
        "current = [(row, item) for row, item in mine if row.outcome is None]",
        ("tests/store/hosts/test_reports.py",),
    ),
    Guard(
        "an end that bears an old number is no end",
        REPORTS,
        "if item.ended is not None and row.number == item.number and row.outcome is None",
        "if item.ended is not None and row.outcome is None",
        ("tests/store/attempts/test_starts.py",),
    ),
    Guard(
        "news is of the attempt with this uuid",
        REPORTS,
        "return item.uuid == row.uuid if item.uuid else is_derived(row.uuid)",
        "return True",
        ("tests/store/maintenance/test_epoch.py",),
    ),
    Guard(
        "only a host that takes part tells of an end",
        "orchestrator/store/attempts/reported_ends.py",
        "    if host_id not in parts:\n        return\n",
        "",
        ("tests/store/attempts/test_starts.py",),
    ),
    Guard(
        "only the lead's host tells of log and progress",
        REPORTS,
        "mine = [(row, item) for row, host_id, item in known if row.host_id == host_id]",
        "mine = [(row, item) for row, host_id, item in known]",
        ("tests/store/attempts/test_starts.py",),
    ),
    Guard(
        "a report of an epoch before this one is refused",
        REPORTS,
        "for host_id in misplaced(connection, reports):",
        "for host_id in ():",
        ("tests/store/maintenance/test_epoch.py",),
    ),
    Guard(
        "a decision is the leader's",
        "orchestrator/store/leader_lease.py",
        "led._admit = fence.admit",
        "led._admit = None",
        ("tests/store/test_leader_lease.py",),
    ),
    Guard(
        "a log goes on where it ends",
        REPORTS,
        '    if item.log_offset > known_bytes:\n        return ""\n',
        "",
        ("tests/store/hosts/test_telemetry.py", "tests/store/hosts/test_reports.py"),
    ),
    Guard(
        "a key makes one submission",
        "orchestrator/api/routes/jobs.py",
        "if key is not None and (taken := store.taken(key)) is not None:",
        "if key is None and (taken := store.taken(key)) is not None:",
        ("tests/api/submission/test_idempotency.py",),
    ),
    Guard(
        "an answer is of the epoch that the host joined",
        "workers/agent/agent.py",
        "if self._joined is None or orders.epoch != self._joined.epoch:",
        "if self._joined is None:",
        ("tests/workers/agent/test_restored_server.py", "tests/workers/agent/test_agent.py"),
    ),
    Guard(
        "reports are acknowledged once they are durable",
        "orchestrator/api/routes/reports.py",
        "    except Unavailable as error:\n        return dict.fromkeys(reports, error)\n",
        '    except Unavailable:\n        return dict.fromkeys(reports, b"{}")\n',
        ("tests/api/edge/test_reports.py",),
    ),
    Guard(
        "one report of a host in a group",
        "orchestrator/api/edge/report_batches.py",
        "if full or waiting.host_id in group:",
        "if full:",
        ("tests/api/edge/test_reports.py",),
    ),
)


def removed(guard: Guard, folder: Path) -> bool:
    """Whether a test fails in a copy without it."""
    copy = folder / "copy"
    for room in ROOMS:
        shutil.copytree(CHECKOUT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", copy)
    path = copy / guard.file
    path.write_text(path.read_text().replace(guard.text, guard.instead))
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *guard.tests]
    done = subprocess.run(command, cwd=copy, env=environment, stdout=subprocess.DEVNULL, check=False)
    shutil.rmtree(copy)
    return done.returncode == 1


def main() -> int:
    """Prints a line for each guard; the exit code: 1 where nothing failed without one."""
    wanted = [guard for guard in GUARDS if not sys.argv[1:] or guard.name in sys.argv[1:]]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="tuneyard-guards-") as folder:
        for guard in wanted:
            held = removed(guard, Path(folder))
            missed += not held
            print(f"{'tested' if held else 'NOTHING FAILED'}: {guard.name}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
