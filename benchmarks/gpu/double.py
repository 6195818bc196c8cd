"""`make bench-gpu.double`: the same training runs on an NVIDIA card and on the CUDA double of it, in one table.

A part of benchmarks.gpu.memory's cases, all kinds of them in any beginning, a process for each on either side: the
card runs one at a time, the double several beside it. Appends a row for each to a CSV, and takes up where it ended:
what the CSV has of this card and these libraries is not run again. It needs the double too: make cuda-double.

    python -m benchmarks.gpu.double [--seconds 600] [--count 40] [--shapes 0.5B,1B] [--methods full,lora] [--csv FILE]
    python -m benchmarks.gpu.double --rehearse rtx4090 [--shapes tiny]
                                without a card: the double stands in for the card as well

Exits with 2 where there is no card or no double, with 1 where a goal is missed; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.common import finish
from benchmarks.gpu import matrix
from benchmarks.gpu.matrix import METHODS, SHAPES, Budget, Case
from benchmarks.gpu.memory import CHILD_S, answer_of, picked, stack, the_card
from jobs.cards import card_for, read_card
from jobs.errors import TuneyardError, UsageError
from jobs.units import GiB, MiB
from workers.cuda_double.environment import find, variables

CSV = Path(__file__).with_name("double.csv")
CHILD = "benchmarks.gpu.child"
STRIDE = 41  # has no factor in common with the number of cases: every beginning has some of each kind
FIGURES = {"allocated": "allocated_bytes", "reserved": "reserved_bytes", "device": "nvml_bytes"}
# Mean and worst difference of the double from the card. Of the whole card's memory only the context is added, which
# the double does not measure: it takes part in no goal.
GOALS = {"allocated": (0.01, 0.03), "reserved": (0.03, 0.08)}
COLUMNS = (
    *("time", "card", "card_bytes", "driver", "torch", "transformers", "trl", "peft", "bitsandbytes"),
    *("shape", "method", "rung", "length", "outcome", "double_outcome"),
    *(f"{side}{name}" for name in (*FIGURES.values(), "context_bytes") for side in ("", "double_")),
    *("step_s", "error"),
)
SAME = ("card", "torch", "shape", "method", "rung", "length")  # of two rows: the same run


@dataclass(frozen=True)
class Side:
    """Where one half of the comparison runs. limit_s: of one process."""

    python: str
    environment: Mapping[str, str]
    limit_s: float = CHILD_S

    def runs(self, case: Case) -> dict[str, Any]:
        return answer_of(CHILD, asdict(case), self.python, self.environment, self.limit_s)


def double_of(cards: str) -> Side:
    """The double of a card: its short name and what processes can have of it. Raises Unavailable, UsageError."""
    found = find()
    base = {**os.environ, "CUDA_DOUBLE_FORCE": "1"}  # beside a real card, on purpose
    return Side(str(found.python), variables(found, cards, base=base))


def grantable_bytes() -> int:
    """What processes can have of this machine's first card, as its driver says: less than NVML shows."""
    code = "import torch; print(torch.cuda.mem_get_info(0)[1])"
    return int(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    )


def cases(count: int, shapes: Sequence[str], methods: Sequence[str]) -> list[Case]:
    """So many of the matrix's cases on the whole card, mixed."""
    every = matrix.cases(shapes, methods)
    return [every[index * STRIDE % len(every)] for index in range(min(count, len(every)))]


def kept(path: Path) -> list[dict[str, Any]]:
    """Rows that an earlier run left, with numbers where there are some; those of failed runs are left out."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        for name, value in row.items():
            if name.endswith("_bytes") or name == "length":
                row[name] = int(value) if value else None
    return [row for row in rows if "failed" not in (row["outcome"], row["double_outcome"])]


def run(
    todo: Sequence[Case],
    where: Mapping[str, Any],
    card: Side,
    double: Side,
    path: Path,
    seconds: float,
    processes: int,
) -> Iterator[dict[str, Any]]:
    """The rows of all cases that the seconds allow, those that the CSV has first; the others are appended to it."""
    earlier = {tuple(row[name] for name in SAME): row for row in kept(path)}
    budget, started = Budget(seconds), time.monotonic()
    waiting: list[tuple[dict[str, Any], Future[dict[str, Any]]]] = []

    def done(wanted: int) -> Iterator[dict[str, Any]]:
        """Rows whose double has answered, until so few wait."""
        while len(waiting) > wanted or (waiting and waiting[0][1].done()):
            row, future = waiting.pop(0)
            found = future.result()
            row |= {f"double_{name}": value for name, value in found.items() if f"double_{name}" in COLUMNS}
            row["error"] = row.get("error") or found.get("error")
            matrix.append(path, [row], COLUMNS)
            yield row

    with ThreadPoolExecutor(processes) as pool:
        for case in todo:
            row = {
                **where,
                **stack(),
                **{name: asdict(case)[name] for name in ("shape", "method", "rung", "length")},
            }
            key = tuple(row[name] for name in SAME)
            if key in earlier:
                yield earlier[key]
                continue
            begun = time.monotonic()
            if not budget.allows(begun - started):
                break
            future = pool.submit(double.runs, case)
            row |= {"time": round(time.time()), **card.runs(case)}
            waiting.append((row, future))
            yield from done(processes)
            budget.took(time.monotonic() - begun)
        yield from done(0)


def differences(row: Mapping[str, Any]) -> dict[str, float]:
    """The double's figures over the card's, less one; nothing where either did not train to the end."""
    if (row["outcome"], row["double_outcome"]) != ("ran", "ran"):
        return {}
    return {name: row[f"double_{column}"] / row[column] - 1 for name, column in FIGURES.items()}


def head() -> str:
    sides = "".join(f"{f'{name}, GiB':>20} {'':8}" for name in FIGURES)
    return f"{'shape':5} {'method':6} {'rung':12} {'length':>6} {sides}"


def line(row: Mapping[str, Any]) -> str:
    """A row for people: card, double and difference of each figure."""
    words = f"{row['shape']:5} {row['method']:6} {row['rung']:12} {row['length']:6} "
    found = differences(row)
    if not found:
        return f"{words} card: {row['outcome']}, double: {row['double_outcome']} {row.get('error') or ''}".rstrip()
    return words + "".join(
        f"{row[column] / GiB:9.3f} {row[f'double_{column}'] / GiB:10.3f} {found[name]:+8.2%}"
        for name, column in FIGURES.items()
    )


def sums(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and worst difference of each figure; runs that failed or ended apart. met: None without figures."""
    every = [found for row in rows if (found := differences(row))]
    figures = {
        name: {"mean": round(fmean(own), 4), "worst": round(max(own), 4)}
        for name in FIGURES
        if (own := [abs(found[name]) for found in every])
    }
    apart = sum(row["outcome"] != row["double_outcome"] for row in rows)
    failed = sum("failed" in (row["outcome"], row["double_outcome"]) for row in rows)
    good = all(
        figures[name]["mean"] <= mean and figures[name]["worst"] <= worst
        for name, (mean, worst) in GOALS.items()
        if name in figures
    )
    return {
        "compared": len(every),
        **figures,
        "ended_apart": apart,
        "failed": failed,
        "met": good and not apart and not failed if figures else None,
    }


def _sides(rehearse: str | None) -> tuple[dict[str, Any], Side, Side]:
    """Columns that say what it runs on, the card, and its double. Raises RuntimeError, TuneyardError."""
    if rehearse:
        # Where there is no card there are few cores, and nobody waits for one.
        card, double = read_card(rehearse), replace(double_of(rehearse), limit_s=4 * CHILD_S)
        where = {"card": f"double of {card.name}", "card_bytes": card.memory_bytes, "driver": "none"}
        return where, double, double
    where = the_card()
    short = card_for("cuda", where["card"], where["card_bytes"]).short
    if not short:
        raise UsageError(f"card {where['card']!r} is not in the catalogue: the double can't stand in for it")
    return where, Side(sys.executable, os.environ), double_of(f"{short}:{grantable_bytes() // MiB}MiB")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="start nothing that would take longer")
    parser.add_argument("--count", type=int, default=40, help="cases")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--processes", type=int, default=max(1, min(4, (os.cpu_count() or 1) // 2)))
    parser.add_argument("--csv", type=Path, default=CSV)
    parser.add_argument("--rehearse", metavar="CARD", help="the double stands in for the card too: rtx4090")
    wanted = parser.parse_args()
    for name in ("count", "processes"):
        if getattr(wanted, name) < 1:
            parser.error(f"--{name} must be at least 1")
    shapes = picked(wanted.shapes, (*SHAPES, "tiny"), "--shapes", parser)
    methods = picked(wanted.methods, METHODS, "--methods", parser)
    if not find_spec("bitsandbytes"):
        methods = [name for name in methods if name != "qlora"]
    try:
        where, card, double = _sides(wanted.rehearse)
    except RuntimeError as error:
        print(f"no NVIDIA card to compare with ({error}): run this on a GPU host", file=sys.stderr)
        return 2
    except TuneyardError as error:
        print(f"no double to compare with: {error}", file=sys.stderr)
        return 2
    todo = cases(wanted.count, shapes, methods)
    print("the CUDA double: real allocator, no GPU. Each figure: card, double, difference")
    print(head())
    rows = []
    for row in run(todo, where, card, double, wanted.csv, wanted.seconds, wanted.processes):
        rows.append(row)
        print(line(row), flush=True)
    return finish({"benchmark": "gpu double", **where, "asked": len(todo), "rows": len(rows), **sums(rows)})


if __name__ == "__main__":
    sys.exit(main())
