"""`python -m workers.cuda_double.build FOLDER`: the double's libraries for the environment in a folder."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from jobs.errors import Unavailable
from workers.cuda_double.environment import Environment
from workers.cuda_double.library import build


def main() -> int:
    if len(sys.argv) != 2:
        print(
            "usage: python -m workers.cuda_double.build FOLDER, one that .ci/cuda-double made",
            file=sys.stderr,
        )
        return 2
    environment = Environment(Path(sys.argv[1]).absolute())
    begun = time.monotonic()
    try:
        new = build(
            environment.libraries, environment.packages / "torch", environment.headers, environment.beside()
        )
    except Unavailable as error:
        print(f"cuda double: {error}", file=sys.stderr)
        return 1
    took = f"built in {time.monotonic() - begun:.0f} s" if new else "is up to date"
    print(
        f"cuda double: {environment.libraries} {took}; python -m workers.cuda_double --cards rtx4090 -- CMD runs on it"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
