"""`make bench-gpu.job`: the whole way of a job on an NVIDIA card: file, projection, Ray worker, TRL, NVML, observation.

A fleet of this machine's cards trains each method twice: with the rung that tuneyard chooses, and with every layer
checkpointed (TRL's default). Each must succeed under its projected upper bound, and NVML's samples in the job database
must show its memory. Appends a row a job to a CSV.

    python -m benchmarks.gpu.job [--shape 1B] [--steps 40] [--csv FILE]
    python -m benchmarks.gpu.job --cpu-card 6GiB --shape tiny    the same on a CPU card: a rehearsal, in no CSV

Exits with 2 where there is no card, with 1 where a goal is missed; the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import CHECKOUT, finish, machine
from benchmarks.gpu import matrix
from benchmarks.gpu.matrix import METHODS, SHAPES
from benchmarks.gpu.memory import stack, the_card
from benchmarks.start import Fleet
from deploy.demo.data import VOCABULARY, prepare
from jobs.units import GiB
from orchestrator.config import load
from orchestrator.store import Store

CSV = Path(__file__).with_name("job.csv")
TINY = {
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MEMORY: dict[str, dict[str, Any]] = {
    "choice": {},
    "always": {"checkpointing": "every_layer", "offload": False},
}
LEAST = 0.98  # of the speed with every layer checkpointed: the choice is never slower, except noise
COLUMNS = (
    *("time", "card", "card_bytes", "driver", "torch", "transformers", "trl", "peft", "bitsandbytes"),
    *(
        "shape",
        "method",
        "way",
        "rung",
        "state",
        "attempts",
        "queued_s",
        "step_s",
        "projected_step_s",
        "tokens_per_s",
    ),
    *("allocated_bytes", "projected_allocated_bytes", "device_bytes", "projected_device_bytes"),
    *("projected_upper_bytes", "sampled_bytes", "samples"),
)


def job(shape: str, method: str, way: str, steps: int, length: int) -> dict[str, Any]:
    """A job file on the demo's data: rows packed to `length` tokens."""
    made = prepare(CHECKOUT / ".demo" / "input")
    lora = {"rank": 16, "dropout": 0.05}
    return {
        "name": f"{shape}-{method}-{way}",
        "model": {"config": TINY if shape == "tiny" else SHAPES[shape], "tokenizer": str(made.tokenizer)},
        "data": str(made.pairs),
        "method": {"kind": method, **({} if method == "full" else lora)},
        "training": {"steps": steps, "sequence_length": length, "global_batch": 8, "packing": True},
        "memory": MEMORY[way],
    }


def row_of(fleet: Fleet, path: Path) -> dict[str, Any]:
    """Columns of a job that is run now."""
    submitted = fleet.tuneyard("submit", str(path))["jobs"][0]["id"]
    shown = fleet.ended(submitted)
    attempt = shown["attempts_detail"][-1]
    measured, projection = attempt["measured"] or {}, attempt["projection"] or {}
    store = Store(load(fleet.home).database)
    readings = [
        one.memory_used_bytes or 0
        for gpu in attempt["gpus"]
        for one in store.samples(gpu["id"], attempt["opened_at"], attempt["ended_at"] or time.time())
        if one.attempt_id == attempt["id"]
    ]
    store.close()
    return {
        "rung": (attempt["rung"] or {}).get("label"),
        "state": shown["state"],
        "message": attempt["message"],
        "attempts": len(shown["attempts_detail"]),
        "queued_s": round((attempt["started_at"] or attempt["opened_at"]) - shown["submitted_at"], 2),
        **{
            name: measured.get(name) for name in ("step_s", "tokens_per_s", "allocated_bytes", "device_bytes")
        },
        **{
            f"projected_{name}": projection.get(name)
            for name in ("step_s", "allocated_bytes", "device_bytes", "upper_bytes")
        },
        "sampled_bytes": max(readings, default=None),
        "samples": len(readings),
    }


def line(row: Mapping[str, Any]) -> str:
    """A row for people."""
    words = f"{row['shape']:5} {row['method']:6} {row['way']:7} {row['rung'] or '':22} {row['state']}"
    if row["state"] != "succeeded":
        return f"{words}: {row['message']}"
    sizes = " / ".join(
        f"{row[name] / GiB:.2f}"
        for name in ("device_bytes", "projected_device_bytes", "projected_upper_bytes")
    )
    rate = f"{row['tokens_per_s']:,.0f} tokens/s"
    return f"{words}; {sizes} GiB measured / projected / at most; {rate}; {row['samples']} samples"


def sums(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the rows say together. met: all succeeded at once, under their bounds, seen by telemetry, none slower."""
    good = [row for row in rows if row["state"] == "succeeded"]
    speed = {(row["method"], row["way"]): row["tokens_per_s"] for row in good}
    ratios = {
        method: round(value / speed[method, "always"], 3)
        for (method, way), value in speed.items()
        if way == "choice" and (method, "always") in speed
    }
    # torch's figures are CUDA's only. A CPU card with room to spare shows malloc's slack
    # (workers/trainer/memory_meter.py).
    cuda = [row for row in good if row["allocated_bytes"] is not None]
    over = [row for row in cuda if row["device_bytes"] > row["projected_upper_bytes"]]
    return {
        "jobs": len(rows),
        "succeeded": len(good),
        "at_first": sum(row["attempts"] == 1 for row in good),
        "over_the_bound": len(over),
        "seen_by_telemetry": sum(bool(row["samples"]) and bool(row["sampled_bytes"]) for row in good),
        "against_always": ratios,
        "met": len(rows) > 0
        and all(row["state"] == "succeeded" and row["attempts"] == 1 for row in rows)
        and all(row["samples"] and row["sampled_bytes"] for row in rows)
        and not over
        and all(ratio >= LEAST for ratio in ratios.values()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=[*SHAPES, "tiny"], default="1B")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--length", type=int, default=2048, help="tokens of a packed row")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--csv", type=Path, default=CSV)
    parser.add_argument("--cpu-card", metavar="SIZE", help="rehearse on a CPU card of this size")
    wanted = parser.parse_args()
    methods = [name.strip() for name in wanted.methods.split(",")]
    if unknown := [name for name in methods if name not in METHODS]:
        parser.error(f"--methods has {', '.join(unknown)}; there are {', '.join(METHODS)}")
    where: dict[str, Any] = {"card": f"CPU card, {wanted.cpu_card}"}
    if not wanted.cpu_card:
        try:
            where = the_card()
        except RuntimeError as error:
            print(f"no NVIDIA card to run on ({error}): run this on a GPU host", file=sys.stderr)
            return 2
    print(machine())
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="tuneyard-bench-") as scratch:
        fleet = Fleet(Path(scratch) / "home")
        fleet.home.mkdir()
        try:
            cards = ["--cpu-cards", wanted.cpu_card] if wanted.cpu_card else []
            fleet.tuneyard("up", *cards, "--port", "0", "--warm", "1")
            for method in methods:
                for way in MEMORY:
                    path = Path(scratch) / f"{method}-{way}.json"
                    path.write_text(json.dumps(job(wanted.shape, method, way, wanted.steps, wanted.length)))
                    facts = {"time": round(time.time()), **where, **stack(), "shape": wanted.shape}
                    rows.append({**facts, "method": method, "way": way, **row_of(fleet, path)})
                    print(line(rows[-1]), flush=True)
        finally:
            fleet.tuneyard("down")
    if not wanted.cpu_card:
        kept = [{name: row[name] for name in COLUMNS} for row in rows]
        matrix.append(wanted.csv, kept, COLUMNS)
    return finish({"benchmark": "gpu job", **where, "shape": wanted.shape, **sums(rows)})


if __name__ == "__main__":
    sys.exit(main())
