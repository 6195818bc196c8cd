"""Reads what CUDA_DOUBLE_TRACE wrote: how often which kernel was launched and which function called."""

from __future__ import annotations

import struct
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

_RECORD = struct.Struct("<Q504s")  # sources/trace.c


def read_traces(paths: Iterable[Path]) -> dict[str, Counter[str]]:
    """Counts of all these files by kind: "kernel" and "call", "missing" for driver functions that are not there."""
    made: dict[str, Counter[str]] = {}
    for path in paths:
        data = path.read_bytes()
        for count, what in _RECORD.iter_unpack(data[: len(data) - len(data) % _RECORD.size]):
            if count:
                kind, _, name = what.rstrip(b"\0").decode(errors="replace").partition(" ")
                made.setdefault(kind, Counter())[name] += count
    return made


def main() -> int:
    """`python -m workers.cuda_double.traces FOLDER`: the counts of all processes, most first."""
    paths = sorted(Path(sys.argv[1]).glob("*.trace")) if len(sys.argv) == 2 else []
    if not paths:
        print(
            "usage: python -m workers.cuda_double.traces FOLDER, one that CUDA_DOUBLE_TRACE named",
            file=sys.stderr,
        )
        return 2
    for kind, counts in sorted(read_traces(paths).items()):
        for name, count in counts.most_common():
            print(f"{count:9} {kind} {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
