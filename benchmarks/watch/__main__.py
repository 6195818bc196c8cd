"""`make bench-watch`: every module of this package in a process of its own, then one JSON object as the last line.

`ARGS="history scrape"` runs only those. The exit code is 1 when one of them misses a target.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import CHECKOUT, finish, machine

PARTS = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-watch ARGS='...'", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    given = parser.parse_args()
    print(machine())
    found: dict[str, Any] = {}
    for part in given.parts or PARTS:
        print(f"\n{part}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.watch.{part}"]
        done = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
        lines = done.stdout.splitlines()
        print("\n".join(lines[:-1]), flush=True)
        try:
            found[part] = json.loads(lines[-1])
        except (IndexError, ValueError):
            found[part] = {"met": False, "failed": f"it ended with {done.returncode}, and no result"}
    met = all(one.get("met", False) for one in found.values())
    return finish({"bench": "watch", **found, "met": met})


if __name__ == "__main__":
    sys.exit(main())
