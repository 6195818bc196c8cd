"""`make bench-gpu.memory`: projected against measured memory and step time on an NVIDIA card.

{off, every 2nd, every layer, offload} x {full, LoRA, QLoRA} x {512, 2048, 8192 tokens} of random-weight models from
0.5B to 8B, one process each; and, on emulated cards of 24 and 48 GB, the longest sequence that trains beside the
longest that is said to fit. Runs what a time budget allows, and appends a row for each to a CSV.

    python -m benchmarks.gpu.memory [--seconds 480] [--shapes 0.5B,1B] [--methods full,lora] [--csv FILE]

Exits with 2 where there is no card, with 1 where a goal is missed; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pynvml

from benchmarks.gpu import matrix
from benchmarks.gpu.matrix import LENGTHS, LONGEST, METHODS, MULTIPLE, RUNGS, SHAPES, Budget, Case
from jobs.cards import Card, card_for
from jobs.memory.profile import MemoryProfile
from jobs.memory.project import project_many
from jobs.units import GiB
from workers.gpus import usable_bytes

CSV = Path(__file__).with_name("memory.csv")
CHECKOUT = Path(__file__).parents[2]
CHILD_S = 240
LIBRARIES = ("torch", "transformers", "trl", "peft")


def the_card() -> dict[str, Any]:
    """Columns that say what it ran on. Raises RuntimeError where there is no card."""
    try:
        pynvml.nvmlInit()
        if pynvml.nvmlDeviceGetCount() == 0:
            raise RuntimeError("NVML shows none")
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        found = {
            "card": str(pynvml.nvmlDeviceGetName(handle)),
            "card_bytes": usable_bytes(handle),
            "driver": str(pynvml.nvmlSystemGetDriverVersion()),
        }
    except pynvml.NVMLError as error:
        raise RuntimeError(f"NVML: {error}") from None
    import torch  # here: it takes seconds, and without a card there is nothing to do with it

    if not torch.cuda.is_available():
        raise RuntimeError(
            f"torch {torch.__version__} can't use the {found['card']}: install a CUDA build of it"
        )
    return found


def stack() -> dict[str, str]:
    """Library versions; empty for bitsandbytes where it is not installed."""
    found = {name: version(name) for name in LIBRARIES}
    return {**found, "bitsandbytes": version("bitsandbytes") if find_spec("bitsandbytes") else ""}


def projected(case: Case, profile: MemoryProfile, card: Card) -> dict[str, Any]:
    """Columns of what is projected: the step, or the longest length that is said to fit the emulated card."""
    rung = RUNGS[case.rung]
    if not case.limit_gib:
        (found,) = project_many(profile, [rung], sequence_length=case.length, card=card)
        return {
            "projected_allocated_bytes": found.allocated_bytes,
            "projected_reserved_bytes": found.reserved_bytes,
            "projected_device_bytes": found.device_bytes,
            "projected_upper_bytes": found.upper_bytes,
            "projected_step_s": round(found.step_s, 4),
            "projected_phase": found.phase,
        }
    lengths = range(MULTIPLE, LONGEST + 1, MULTIPLE)
    every = project_many(profile, [rung] * len(lengths), sequence_length=list(lengths), card=card)
    limit = case.limit_gib * GiB
    fitting = [length for length, one in zip(lengths, every, strict=True) if one.upper_bytes <= limit]
    return {"fits_up_to_tokens": max(fitting, default=0)}


def answer_of(
    module: str,
    asked: Mapping[str, Any],
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
    limit_s: float = CHILD_S,
) -> dict[str, Any]:
    """What `python -m module` says of this in a process of its own: columns of a row, `outcome` among them."""
    command = [python, "-m", module, json.dumps(asked)]
    try:
        done = subprocess.run(
            command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=limit_s
        )
    except subprocess.TimeoutExpired:
        return {"outcome": "failed", "error": f"no answer within {limit_s:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"outcome": "failed", "error": last[:200]}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def picked(text: str, known: tuple[str, ...], flag: str, parser: argparse.ArgumentParser) -> list[str]:
    """The names that text lists. Ends the program where one is not known."""
    picked = [name.strip() for name in text.split(",")]
    if unknown := [name for name in picked if name not in known]:
        parser.error(f"{flag} has {', '.join(unknown)}; there are {', '.join(known)}")
    return picked


def run(todo: list[Case], where: dict[str, Any], csv: Path, seconds: float) -> list[dict[str, Any]]:
    """Rows of the cases that the seconds allow, each appended to csv as it comes."""
    from workers.profiler.trace import trace  # here: torch, as above

    card = card_for("cuda", where["card"], where["card_bytes"])
    profiles: dict[tuple[str, str], MemoryProfile] = {}
    made: list[dict[str, Any]] = []
    budget, started = Budget(seconds), time.monotonic()
    for case in todo:
        begun = time.monotonic()
        if not budget.allows(begun - started):
            break
        if case.profile_key not in profiles:
            profiles[case.profile_key] = trace(case.spec(LENGTHS[0]), [])
        taken = answer_of("benchmarks.gpu.child", asdict(case))
        row = {
            "time": round(time.time()),
            **where,
            **stack(),
            **asdict(case),
            **projected(case, profiles[case.profile_key], card),
            **taken,
        }
        budget.took(time.monotonic() - begun)
        matrix.append(csv, [row])
        made.append(row)
        print(line(row), flush=True)
    return made


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    words = f"{row['shape']:5} {row['method']:6} {row['rung']:12}"
    if row["outcome"] == "failed":
        return f"{words} failed: {row['error']}"
    if row["limit_gib"]:
        said, ran = row["fits_up_to_tokens"], row["runs_up_to_tokens"]
        return f"{words} {row['limit_gib']} GiB card: said to fit up to {said} tokens, ran up to {ran}"
    foretold_gib = row["projected_allocated_bytes"] / GiB
    if row["outcome"] == "oom":
        return f"{words} {row['length']:5} ran out; projected {foretold_gib:.2f} GiB allocated"
    error = row["projected_allocated_bytes"] / row["allocated_bytes"] - 1
    return (
        f"{words} {row['length']:5} {row['allocated_bytes'] / GiB:7.2f} GiB, projected {foretold_gib:7.2f} "
        f"({error:+.1%}); NVML {row['nvml_bytes'] / GiB:.2f}, upper bound {row['projected_upper_bytes'] / GiB:.2f}; "
        f"{row['step_s']:.3f} s, projected {row['projected_step_s']:.3f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--csv", type=Path, default=CSV)
    wanted = parser.parse_args()
    shapes = picked(wanted.shapes, tuple(SHAPES), "--shapes", parser)
    methods = picked(wanted.methods, METHODS, "--methods", parser)
    try:
        where = the_card()
    except RuntimeError as error:
        print(f"no NVIDIA card to measure on ({error}): run this on a GPU host", file=sys.stderr)
        return 2
    if not find_spec("bitsandbytes"):
        methods = [name for name in methods if name != "qlora"]
    card_gib = where["card_bytes"] / GiB
    whole, emulated = matrix.cases(shapes, methods), matrix.edges(shapes, methods)
    todo = matrix.taken_in_turn(whole, [case for case in emulated if case.limit_gib < card_gib])
    made = run(todo, where, wanted.csv, wanted.seconds)
    summary = {"benchmark": "gpu memory", **where, "asked": len(todo), "rows": len(made), **matrix.sums(made)}
    print(json.dumps(summary))
    return 0 if summary["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
