"""How well jobs are scheduled, by simulating the scheduler itself: `make bench-scheduling`.

    python -m benchmarks.scheduling [--traces DIR] [--only venus|generated|memory|estimates]

venus: the published results on the Venus trace, and the goals; generated: the same settings on made-up traces; memory:
what choosing card and checkpointing together pays; estimates: how many jobs start when they were told they would.
Prints tables and, as its last line, one JSON object; exits with 1 where a goal is missed. A part whose files are not
there is skipped, and says so.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import finish, machine
from benchmarks.scheduling import estimates, generated, memory, venus

PARTS = ("venus", "generated", "memory", "estimates")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--traces", type=Path, metavar="DIR", help="folder of the published traces, for venus"
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be given again")
    wanted = parser.parse_args()
    if wanted.traces is None and "venus" in (wanted.only or ()):
        parser.error("venus needs --traces DIR, a folder with " + " and ".join(venus.FILES))
    print(machine())
    result: dict[str, Any] = {"bench": "scheduling"}
    for part in wanted.only or PARTS:
        result[part] = _part(part, wanted.traces)
    goals = [goal for found in result.values() if isinstance(found, dict) for goal in found.get("goals", [])]
    # An aim ("1+") is shown, and does not fail the run.
    result["met"] = bool(goals) and all(goal["met"] for goal in goals if not goal["goal"].endswith("+"))
    return finish(result)


def _part(part: str, traces: Path | None) -> dict[str, Any]:
    if part == "generated":
        return generated.run_all()
    if part == "memory":
        return memory.run_all()
    if part == "estimates":
        return estimates.run_all()
    lost = " and ".join(venus.FILES) if traces is None else venus.missing(traces)
    if traces is None or lost:
        reason = f"no {lost}: give the folder of the traces with --traces"
        print(f"venus: skipped, {reason}")
        return {"skipped": reason}
    return venus.run_all(traces)


if __name__ == "__main__":
    sys.exit(main())
