"""From `tuneyard submit` to the first training step, and training speed, beside a TRL script: `make bench-start`.

In turn: the script by hand and the same job through a fleet on this machine, with a warm trainer waiting, without,
and on a card that the job nearly fills. Speeds are compared within a round, so that what else the machine does counts
for both, and every other round begins with the other side. The memory profile is traced beforehand, as it is for
every job but the first of its kind. Prints a table, then one JSON object as the last line. The exit code is 1 when a
target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import CHECKOUT, clean_environment, finish, machine
from deploy.demo.data import VOCABULARY, prepare
from orchestrator.config import load
from orchestrator.store import Store

WARM_AT_MOST = 0.5  # of the script's time to its first step
COLD_AT_MOST_S = 3.0  # more than the script's
SPEED_AT_LEAST = 0.98
WARM_BYTES = 250 * 2**20  # private memory of a trainer with its imports done; without them it has a fifth
SETTLE_S = 3.0
READY_S = 180.0
KINDS = {"warm": "tuneyard, warm trainer", "cold": "tuneyard, cold", "tight": "tuneyard, tight card"}
# Where the job is projected to take some 0.35 GiB: one has room to spare, the other has not
# (workers/trainer/memory_meter.py).
CARDS = {"warm": "4GiB", "cold": "4GiB", "tight": "700MiB"}


def job_file(folder: Path, steps: int) -> Path:
    """A small LoRA job that both sides read."""
    made = prepare(CHECKOUT / ".demo" / "input")
    job = {
        "model": {
            "config": {
                "model_type": "llama",
                "vocab_size": VOCABULARY,
                "hidden_size": 128,
                "intermediate_size": 352,
                "num_hidden_layers": 6,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "tie_word_embeddings": True,
            },
            "tokenizer": str(made.tokenizer),
            "dtype": "float32",
        },
        "data": str(made.pairs),
        "method": {"kind": "lora", "rank": 16, "alpha": 32},
        "training": {
            "learning_rate": 0.01,
            "steps": steps,
            "sequence_length": 128,
            "global_batch": 8,
            "seed": 0,
        },
        "memory": {"checkpointing": "off", "micro_batch": 8},
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job))
    return path


class Fleet:
    """A fleet of one CPU card, in a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._environment = clean_environment(home) | {"TUNEYARD_CPU_THREADS": str(os.cpu_count())}

    def tuneyard(self, *arguments: str) -> Any:
        """What the command answers with --json. Ends the benchmark when it fails."""
        command = [sys.executable, "-m", "orchestrator.cli.main", *arguments, "--json"]
        done = subprocess.run(
            command, env=self._environment, cwd=CHECKOUT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"tuneyard {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def run(self, path: Path) -> tuple[float, float]:
        """Seconds from `submit` to the end of the first step, and the median seconds of the steps after it."""
        began = time.time()
        job = self.tuneyard("submit", str(path), "--wait")["jobs"][0]
        attempt = self.tuneyard("show", str(job["id"]))["attempts_detail"][-1]
        if job["state"] != "succeeded":
            sys.exit(f"the job is {job['state']}: {job['reason']['text']}")
        store = Store(load(self.home).database)
        first = min(line.ts for line in store.progress(attempt["id"]) if line.step >= 1)
        store.close()
        return first - began, attempt["measured"]["step_s"]

    def ended(self, job_id: int, within_s: float = 1800.0) -> Any:
        """The job as `show` has it once it has ended. Ends the benchmark when that takes too long."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            shown = self.tuneyard("show", str(job_id))
            if shown["state"] in ("succeeded", "failed", "cancelled"):
                return shown
            time.sleep(0.5)
        sys.exit(f"job {job_id} had not ended after {within_s:.0f} s; see {self.home}/serve.log")

    def await_quiet(self, warm: bool) -> None:
        """Wait until the host can take a job, its warm trainer (if there is to be one) has done its imports."""
        deadline = time.monotonic() + READY_S
        quiet_since = time.monotonic()
        while time.monotonic() < deadline:
            ready = self.tuneyard("hosts")["hosts"][0]["ray_ready"] and (not warm or self._has_warm_trainer())
            if not ready:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > SETTLE_S:
                return
            time.sleep(0.5)
        sys.exit(f"no host was ready within {READY_S:.0f} s; see {self.home}/host.log")

    def _has_warm_trainer(self) -> bool:
        agent = psutil.Process(json.loads((self.home / "run" / "host.json").read_text())["pid"])
        for process in agent.children(recursive=True):
            try:
                memory = process.memory_full_info()
                idle = process.cpu_percent(0.2) < 20
            except psutil.NoSuchProcess:
                continue
            if process.name().startswith("ray::") and memory.uss > WARM_BYTES and idle:
                return True
        return False


@contextmanager
def fleet(home: Path, path: Path, card: str, warm: bool) -> Iterator[Fleet]:
    """A fleet of one card of this size that has the job's memory profile."""
    home.mkdir()
    made = Fleet(home)
    try:
        made.tuneyard("up", "--cpu-cards", card, "--port", "0", "--warm", str(int(warm)))
        made.tuneyard("plan", str(path))
        yield made
    finally:
        made.tuneyard("down")


def by_hand(path: Path, output: Path) -> tuple[float, float]:
    """The same two figures of the script."""
    command = [sys.executable, "-m", "benchmarks.by_hand", str(path), str(output)]
    environment = clean_environment(output) | {"OMP_NUM_THREADS": str(os.cpu_count())}
    began = time.time()
    done = subprocess.run(command, env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the script failed:\n{done.stderr}")
    told = json.loads(done.stdout.splitlines()[-1])
    return told["first_step"] - began, told["step_s"]


def speeds(scripts: list[tuple[float, float]], ours: list[tuple[float, float]]) -> list[float]:
    """Our training speed in each round, of the script's."""
    return [script[1] / our[1] for script, our in zip(scripts, ours, strict=True)]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(prog="make bench-start ARGS='...'", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    print(machine())
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in KINDS}
    scripts: dict[str, list[tuple[float, float]]] = {name: [] for name in KINDS}  # of the same rounds
    with tempfile.TemporaryDirectory(prefix="tuneyard-bench-") as scratch:
        folder = Path(scratch)
        path = job_file(folder, given.steps)
        for kind in KINDS:
            with fleet(folder / kind, path, CARDS[kind], warm=kind == "warm") as ours:
                for number in range(given.rounds):
                    for side in ("script", kind)[:: -1 if number % 2 else 1]:
                        ours.await_quiet(warm=kind == "warm")
                        if side == "script":
                            scripts[kind].append(by_hand(path, folder / f"script-{kind}-{number}"))
                        else:
                            figures[kind].append(ours.run(path))
    every_script = [row for rows in scripts.values() for row in rows]
    ratios = {kind: speeds(scripts[kind], figures[kind]) for kind in KINDS}
    first = {name: statistics.median(row[0] for row in rows) for name, rows in figures.items()}
    first["script"] = statistics.median(row[0] for row in every_script)
    print(f"{'':<26}{'first step after, s':>20}{'step, ms':>12}{'speed':>10}")
    step_ms = statistics.median(row[1] for row in every_script) * 1000
    print(f"{'python script.py':<26}{first['script']:>20.2f}{step_ms:>12.1f}")
    for kind, text in KINDS.items():
        step_ms = statistics.median(row[1] for row in figures[kind]) * 1000
        print(f"{text:<26}{first[kind]:>20.2f}{step_ms:>12.1f}{statistics.median(ratios[kind]):>9.3f}x")
    speed_ratio = statistics.median(ratios["warm"] + ratios["cold"])
    tight_ratio = statistics.median(ratios["tight"])
    result = {
        "bench": "start",
        "rounds": given.rounds,
        "steps": given.steps,
        "script_s": round(first["script"], 2),
        "warm_s": round(first["warm"], 2),
        "cold_s": round(first["cold"], 2),
        "warm_ratio": round(first["warm"] / first["script"], 3),
        "warm_ratio_at_most": WARM_AT_MOST,
        "cold_extra_s": round(first["cold"] - first["script"], 2),
        "cold_extra_s_at_most": COLD_AT_MOST_S,
        "speed_ratio": round(speed_ratio, 3),
        "tight_speed_ratio": round(tight_ratio, 3),
        "speed_ratio_at_least": SPEED_AT_LEAST,
    }
    met = (
        first["warm"] <= WARM_AT_MOST * first["script"]
        and first["cold"] <= first["script"] + COLD_AT_MOST_S
        and min(speed_ratio, tight_ratio) >= SPEED_AT_LEAST
    )
    return finish({**result, "met": met})


if __name__ == "__main__":
    sys.exit(main())
