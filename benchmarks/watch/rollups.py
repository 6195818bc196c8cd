"""4,000 samples a second, stored and rolled up on both databases: `benchmarks.telemetry` for three minutes."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.common import CHECKOUT

SECONDS = 190  # in which three minutes end and are rolled up


def main() -> int:
    command = [sys.executable, "-m", "benchmarks.telemetry", "--seconds", str(SECONDS)]
    return subprocess.run(command, cwd=CHECKOUT).returncode


if __name__ == "__main__":
    sys.exit(main())
