"""Real faults, each at each phase of a real job: `make chaos`.

A fleet with one CPU card on this machine: server, agent, Ray, TRL. For each fault and each phase (starting, training,
checkpointing, publishing) a job is submitted and brought there, the fault happens, and the job is followed to its
end. Counted are jobs that are lost, trained by two processes at once, resumed from another step than their last
checkpoint's, and healthy attempts that ended. A resume is wrong, too, if the result has not the very weights of a job
that nothing disturbed, or bears another job's identity. Prints a table, then one JSON object as the last line. The
exit code is 1 when anything is counted, or a lost host is noticed later than 30 s.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.chaos.cell import Seen, run, undisturbed
from benchmarks.chaos.faults import FAULTS, Fault, own_disk
from benchmarks.chaos.fleet import PHASES, fleet, job_file
from benchmarks.common import finish, machine
from tests.postgres import Postgres, binaries, started

NOTICED_AT_MOST_S = 30.0
DISK = "3g"
DISK_FULL = "disk full"


def chosen(names: str | None, known: Sequence[str]) -> list[str]:
    """Those of a comma-separated list, in their own order. Ends the benchmark when one is not known."""
    if names is None:
        return list(known)
    asked = [name.strip() for name in names.split(",")]
    if strange := [name for name in asked if name not in known]:
        sys.exit(f"there is no {strange[0]!r}; known: {', '.join(known)}")
    return [name for name in known if name in asked]


def main() -> int:
    """Run the cells, print, judge."""
    parser = argparse.ArgumentParser(prog="make chaos ARGS='...'", description=__doc__)
    parser.add_argument("--faults", help=f"some of: {', '.join(fault.name for fault in FAULTS)}")
    parser.add_argument("--phases", help=f"some of: {', '.join(PHASES)}")
    parser.add_argument("--database", help="URL of an empty database; a SQLite file in the home otherwise")
    parser.add_argument("--seconds", type=float, help="begin no more cells after this long")
    given = parser.parse_args()
    faults = [each for each in FAULTS if each.name in chosen(given.faults, [one.name for one in FAULTS])]
    phases = chosen(given.phases, PHASES)
    print(machine())
    seen, skipped = [], []
    heading()
    for on_postgres in (False, True):
        if some := [each for each in faults if each.on_postgres is on_postgres]:
            with (
                tempfile.TemporaryDirectory(prefix="tuneyard-chaos-") as scratch,
                postgres(on_postgres) as own,
            ):
                if on_postgres and own is None:
                    skipped += [f"{each.name}: PostgreSQL is not installed" for each in some]
                    continue
                found, left = cells(Path(scratch), some, phases, given.database, own, given.seconds)
                seen += found
                skipped += left
    return told(seen, skipped)


@contextmanager
def postgres(wanted: bool) -> Iterator[Postgres | None]:
    """A server of the benchmark's own, with its disk's promises kept; None: not wanted, or not installed."""
    folder = binaries() if wanted else None
    if folder is None:
        yield None
        return
    with started(folder) as made:
        yield made


def cells(
    scratch: Path,
    faults: Sequence[Fault],
    phases: Sequence[str],
    database: str | None,
    own_postgres: Postgres | None,
    seconds: float | None,
) -> tuple[list[Seen], list[str]]:
    """What was seen, and what was not tried, with the reason."""
    began, seen, skipped = time.monotonic(), [], []
    home = scratch / "disk" / "home"
    with own_disk(scratch / "disk", DISK) as own, fleet(home, database, own_postgres) as made:
        reference = undisturbed(made, job_file(scratch, "undisturbed"))
        for fault in faults:
            if fault.name == DISK_FULL and not own:
                skipped.append(f"{fault.name}: mounting a small file system takes root")
                continue
            for phase in phases:
                if seconds is not None and time.monotonic() - began > seconds:
                    skipped.append(f"{fault.name}, {phase}: out of time")
                    continue
                path = job_file(scratch, f"{fault.name}-{phase}".replace(" ", "-").replace("'", ""))
                seen.append(run(made, fault, phase, path, reference))
                line(seen[-1])
    return seen, skipped


def heading() -> None:
    print(
        f"{'fault':<18}{'at':<15}{'lost':>6}{'doubled':>9}{'wrong':>7}{'ended':>7}"
        f"{'repeated':>10}{'noticed':>9}{'took':>8}  said",
        flush=True,
    )


def line(one: Seen) -> None:
    noticed = "" if one.noticed_s is None else f"{one.noticed_s:.1f} s"
    print(
        f"{one.fault:<18}{one.phase:<15}{one.lost:>6}{one.doubled:>9}{one.wrong:>7}{one.ended:>7}"
        f"{one.repeated:>10}{noticed:>9}{one.took_s:>6.0f} s  {', '.join(one.said)}",
        flush=True,
    )


def told(seen: Sequence[Seen], skipped: Sequence[str]) -> int:
    """The last line, and the exit code."""
    for text in skipped:
        print(f"not tried: {text}")
    noticed = [one.noticed_s for one in seen if one.noticed_s is not None]
    result: dict[str, Any] = {
        "benchmark": "chaos",
        "machine": machine(),
        "cells": len(seen),
        "not_tried": list(skipped),
        "lost": sum(one.lost for one in seen),
        "doubled": sum(one.doubled for one in seen),
        "wrong_resumes": sum(one.wrong for one in seen),
        "healthy_ended": sum(one.ended for one in seen),
        "host_loss_noticed_s": max(noticed, default=None),
        "rows": [dataclasses.asdict(one) for one in seen],
    }
    result["met"] = bool(seen) and all(one.well() for one in seen)
    result["met"] = result["met"] and max(noticed, default=0.0) <= NOTICED_AT_MOST_S
    return finish(result)


if __name__ == "__main__":
    sys.exit(main())
