"""`make bench-gpu.speed`: what choosing the rung pays, measured on an NVIDIA card.

Jobs from 0.5B to 8B on the whole card and on emulated ones of 24 and 48 GB, each trained with the rung that tuneyard
chooses, with every layer checkpointed (TRL's default) and with checkpointing off where that is projected to fit; all
three at the quickest micro-batch that fits. Runs what a time budget allows, and appends a row a run to a CSV.

    python -m benchmarks.gpu.speed [--seconds 480] [--csv FILE]

Exits with 2 where there is no card, with 1 where a goal is missed; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu import matrix
from benchmarks.gpu.matrix import EMULATED, SHAPES, Budget
from benchmarks.gpu.memory import answer_of, stack, the_card
from benchmarks.memory.shapes import WAYS
from jobs.cards import Card, card_for
from jobs.jobfile.spec import JobSpec
from jobs.memory.ladder import Choice, choose
from jobs.memory.profile import MemoryProfile
from jobs.memory.rung import Rung
from jobs.units import GiB

CSV = Path(__file__).with_name("speed.csv")
STEPS = 5
# At least as quick as the better of the others, except noise; with this many jobs compared.
LEAST, JOBS = 0.98, 6
COLUMNS = (
    *("time", "card", "card_bytes", "driver", "torch", "transformers", "trl", "peft", "bitsandbytes"),
    *("shape", "method", "length", "global_batch", "limit_gib", "ways", "rung", "outcome"),
    *("step_s", "projected_step_s", "tokens_per_s", "allocated_bytes", "nvml_bytes", "projected_upper_bytes"),
    *("context_bytes", "error"),
)


@dataclass(frozen=True)
class Work:
    """A job on a card. limit_gib: of the emulated card; 0: the whole one."""

    shape: str
    method: str
    length: int
    global_batch: int
    limit_gib: int = 0

    def spec(self, way: str = "choice") -> JobSpec:
        """The job file of one way."""
        lora = {"rank": 16, "dropout": 0.05}
        return JobSpec.model_validate(
            {
                "model": {"config": SHAPES[self.shape], "tokenizer": "none"},
                "data": "none",
                "method": {"kind": self.method, **({} if self.method == "full" else lora)},
                "training": {
                    "sequence_length": self.length,
                    "global_batch": self.global_batch,
                    "steps": STEPS,
                },
                "memory": WAYS[way],
            }
        )

    @property
    def tokens(self) -> int:
        """Of one optimizer step."""
        return self.length * self.global_batch


# Small, middling and large for a card of 24 GB, with each method.
MIX = (
    Work("1B", "lora", 2048, 16),
    Work("0.5B", "full", 1024, 16),
    Work("8B", "qlora", 1024, 8),
    Work("3B", "lora", 2048, 8),
    Work("1B", "full", 2048, 16),
    Work("8B", "lora", 2048, 8),
    Work("3B", "qlora", 4096, 8),
    Work("0.5B", "lora", 4096, 32),
)


def works(methods: Sequence[str], card_bytes: int) -> Iterator[Work]:
    """Every job on each card that this one can be, in an order in which any beginning has all jobs."""
    for limit in (*EMULATED, 0):
        if limit * GiB < card_bytes:
            yield from (replace(work, limit_gib=limit) for work in MIX if work.method in methods)


def rungs(work: Work, profile: MemoryProfile, card: Card) -> dict[Rung, tuple[list[str], Choice]]:
    """What is to be run, with the ways that come to it. Empty where nothing fits."""
    here = replace(card, memory_bytes=work.limit_gib * GiB) if work.limit_gib else card
    found: dict[Rung, tuple[list[str], Choice]] = {}
    for way in WAYS:
        chosen = choose(profile, work.spec(way), here)
        if isinstance(chosen, Choice):
            found.setdefault(chosen.rung, ([], chosen))[0].append(way)
    return found


def run(methods: Sequence[str], where: dict[str, Any], csv: Path, seconds: float) -> list[dict[str, Any]]:
    """Rows of what the seconds allow, each appended to csv as it comes."""
    from workers.profiler.trace import (
        trace,  # here: torch takes seconds, and without a card there is nothing to do
    )

    card = card_for("cuda", where["card"], where["card_bytes"])
    profiles: dict[Work, MemoryProfile] = {}
    made: list[dict[str, Any]] = []
    budget, started = Budget(seconds), time.monotonic()
    for work in works(methods, where["card_bytes"]):
        begun = time.monotonic()
        if not budget.allows(begun - started):
            break
        whole = replace(work, limit_gib=0)
        if whole not in profiles:
            profiles[whole] = trace(whole.spec(), [])
        for rung, (ways, chosen) in rungs(work, profiles[whole], card).items():
            asked = {"work": asdict(work), "rung": asdict(rung)}
            row = {
                "time": round(time.time()),
                **where,
                **stack(),
                **asdict(work),
                "ways": " ".join(ways),
                "rung": rung.label,
                "projected_step_s": round(chosen.step_s, 4),
                "projected_upper_bytes": chosen.projection.upper_bytes,
                **answer_of("benchmarks.gpu.speed_child", asked),
            }
            if row["outcome"] == "ran":
                row["tokens_per_s"] = round(work.tokens / row["step_s"])
            matrix.append(csv, [row], COLUMNS)
            made.append(row)
            print(line(row), flush=True)
        budget.took(time.monotonic() - begun)
    return made


def line(row: Mapping[str, Any]) -> str:
    """A row for people."""
    card = f"{row['limit_gib']} GiB" if row["limit_gib"] else "whole"
    words = (
        f"{row['shape']:5} {row['method']:6} {row['global_batch']:3} x {row['length']:<5} {card:7} "
        f"{row['ways']:20} {row['rung']:24}"
    )
    if row["outcome"] != "ran":
        return f"{words} {row['outcome']}: {row.get('error', '')}"
    seconds = f"{row['step_s']:.3f} s, projected {row['projected_step_s']:.3f}"
    return f"{words} {row['tokens_per_s']:8,} tokens/s; a step {seconds}"


def sums(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How quick the choice is beside the other ways, by measured tokens a second, where both ran.

    false_fits: runs out of memory; every one was projected to fit. met: None where nothing was compared.
    """
    speeds: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in rows:
        if row["outcome"] == "ran":
            job = tuple(row[name] for name in ("shape", "method", "length", "global_batch", "limit_gib"))
            speeds.setdefault(job, {}).update(dict.fromkeys(row["ways"].split(), row["tokens_per_s"]))
    against: dict[str, list[float]] = {
        other: [one["choice"] / one[other] for one in speeds.values() if {"choice", other} <= set(one)]
        for other in WAYS
        if other != "choice"
    }
    errors = [abs(row["projected_step_s"] / row["step_s"] - 1) for row in rows if row["outcome"] == "ran"]
    false_fits = sum(row["outcome"] == "oom" for row in rows)
    ratios = [ratio for found in against.values() for ratio in found]
    jobs = {job[:4] for job, one in speeds.items() if {"choice", "always"} <= set(one)}
    return {
        "jobs": len(jobs),
        **{f"against_{other}": _spread(found) for other, found in against.items()},
        "step_time_error_median": round(statistics.median(errors), 3) if errors else None,
        "false_fits": false_fits,
        "met": len(jobs) >= JOBS and min(ratios) >= LEAST and not false_fits if ratios else None,
    }


def _spread(ratios: Sequence[float]) -> dict[str, Any]:
    if not ratios:
        return {"compared": 0}
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    return {
        "compared": len(ratios),
        "least": round(low, 3),
        "median": round(middle, 3),
        "most": round(high, 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--csv", type=Path, default=CSV)
    wanted = parser.parse_args()
    try:
        where = the_card()
    except RuntimeError as error:
        print(f"no NVIDIA card to measure on ({error}): run this on a GPU host", file=sys.stderr)
        return 2
    methods = [name for name in matrix.METHODS if name != "qlora" or stack()["bitsandbytes"]]
    made = run(methods, where, wanted.csv, wanted.seconds)
    summary = {"benchmark": "gpu speed", **where, "rows": len(made), **sums(made)}
    print(json.dumps(summary))
    return 0 if summary["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
