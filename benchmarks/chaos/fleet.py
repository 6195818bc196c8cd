"""A fleet of one CPU card on this machine, its processes by what they do, and a job whose phases can be seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import CHECKOUT, clean_environment
from tests.postgres import Postgres

STEPS, EVERY = 30, 5
CARD = "2GiB"
AWAY_S, LOST_S = 20, 25  # a fleet's own is 20 s and 90 s: here a cell is not to wait so long
JOB_S = 900.0
PHASES = ("starting", "training", "checkpointing", "publishing")


class Fleet:
    """Server, agent, Ray and the files they keep in a home of the benchmark's own."""

    def __init__(self, home: Path, database: str | None = None, postgres: Postgres | None = None) -> None:
        self.home, self.postgres = home, postgres
        self.environment = clean_environment(home) | {
            "TUNEYARD_AWAY_AFTER": f"{AWAY_S}s",
            "TUNEYARD_LOST_AFTER": f"{LOST_S}s",
        }
        if postgres is not None:
            database = postgres.url
        if database:
            self.environment["TUNEYARD_DATABASE"] = database

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command line, as anybody uses it."""
        command = [sys.executable, "-m", "orchestrator.cli.main", *arguments]
        return subprocess.run(
            command, env=self.environment, cwd=CHECKOUT, capture_output=True, text=True, check=False
        )

    def json(self, *arguments: str, patience_s: float = 120.0) -> Any:
        """What a command answers with --json; asked again while the server is away. Raises RuntimeError in the end."""
        deadline = time.monotonic() + patience_s
        while True:
            done = self.run(*arguments, "--json")
            if not done.returncode:
                return json.loads(done.stdout)
            if time.monotonic() > deadline:
                raise RuntimeError(f"tuneyard {' '.join(arguments)}: {done.stdout}{done.stderr}")
            time.sleep(0.5)

    def up(self) -> None:
        """Start whatever of the fleet does not run."""
        done = self.run("up", "--cpu-cards", CARD, "--warm", "0", "--port", "0")
        if done.returncode:
            done = self.run("up")
        if done.returncode:
            raise RuntimeError(f"tuneyard up: {done.stdout}{done.stderr}")

    def ready(self) -> None:
        """Wait until a job can start here."""
        await_that(
            lambda: bool(self.json("hosts")["hosts"][0]["ray_ready"]), 240.0, "a host that can start jobs"
        )

    def recorded(self, name: str) -> psutil.Process:
        """`server`, `host` or `head`: the process that home/run/NAME.json tells of."""
        return psutil.Process(json.loads((self.home / "run" / f"{name}.json").read_text())["pid"])

    def dispatcher(self) -> psutil.Process:
        """The child of the server that starts trainers."""
        return self._one(lambda words: "orchestrator.dispatch.ray_driver" in words)

    def gcs(self) -> psutil.Process:
        """Ray's head."""
        return self._one(lambda words: any("gcs_server" in word for word in words))

    def raylet(self) -> psutil.Process:
        """Ray's part of this host."""
        return self._one(lambda words: bool(words) and words[0].endswith("/raylet"))

    def trainers(self, job: int) -> list[psutil.Process]:
        """The live processes that train this job, one to an attempt."""
        found = []
        for path in self.home.glob("host/*/attempts/*/started.json"):
            try:
                told = json.loads(path.read_text())
                assigned = json.loads((path.parent / "assignment.json").read_text())
                process = psutil.Process(told["pid"])
                same = abs(process.create_time() - told["create_time"]) < 1
                if assigned["job_id"] == job and same and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
                continue
        return found

    def uuid(self, job: int) -> str:
        """What the host was told that the job's identity is. Empty before it was told of the job."""
        for path in self.home.glob("host/*/attempts/*/assignment.json"):
            with suppress(FileNotFoundError, ValueError):
                if (told := json.loads(path.read_text()))["job_id"] == job:
                    return str(told["owner"]["job_uuid"])
        return ""

    def steps(self, job: int) -> int:
        """The last step that a trainer of this job wrote down; 0 before the first."""
        last = 0
        for path in self.home.glob("host/*/attempts/*/progress.jsonl"):
            try:
                if json.loads((path.parent / "assignment.json").read_text())["job_id"] != job:
                    continue
                lines = path.read_text().splitlines()
            except (FileNotFoundError, ValueError):
                continue
            last = max([last, *(json.loads(line)["step"] for line in lines if line.endswith("}"))])
        return last

    def at(self, job: int, phase: str) -> bool:
        """Whether the job is at that phase now."""
        if phase == "starting":
            return any(
                not (path.parent / "started.json").exists()
                for path in self.home.glob("host/*/attempts/*/assignment.json")
            )
        if phase == "training":
            return EVERY < self.steps(job) < STEPS - 1
        if phase == "checkpointing":
            staged = self.home.glob(f"host/*/jobs/{job}/checkpoints/.staging-*/*")
            return self.steps(job) >= EVERY and next(staged, None) is not None
        return self.steps(job) == STEPS

    def _one(self, is_it: Callable[[list[str]], bool]) -> psutil.Process:
        for process in psutil.process_iter():
            try:
                if is_it(process.cmdline()) and process.environ().get("TUNEYARD_HOME") == str(self.home):
                    return process
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        raise LookupError("no such process")


def await_that(true: Callable[[], bool], within_s: float, what: str, every_s: float = 0.2) -> float:
    """Seconds until it is true. Raises TimeoutError."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > within_s:
            raise TimeoutError(f"no {what} within {within_s:.0f} s")
        time.sleep(every_s)
    return time.monotonic() - began


def job_file(folder: Path, name: str) -> Path:
    """The tiny example with a model whose checkpoints take a moment to write: 46 MiB of weights and moments."""
    environment = clean_environment(folder)
    command = [sys.executable, "-m", "orchestrator.cli.main", "init", "--example", "tiny", str(folder / name)]
    subprocess.run(command, env=environment, cwd=CHECKOUT, capture_output=True, check=True)
    job = {
        "name": name,
        "model": {
            "tokenizer": "./tokenizer",
            "dtype": "float32",
            "config": {
                "model_type": "llama",
                "vocab_size": 322,
                "hidden_size": 256,
                "intermediate_size": 704,
                "num_hidden_layers": 5,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "max_position_embeddings": 128,
            },
        },
        "data": "./data.jsonl",
        "method": "full",
        "training": {
            "learning_rate": 0.001,
            "steps": STEPS,
            "sequence_length": 64,
            "global_batch": 8,
            "checkpoint_steps": EVERY,
            "seed": 0,
        },
    }
    path = folder / name / "job.yaml"
    path.write_text(json.dumps(job))  # JSON is YAML
    return path


@contextmanager
def fleet(home: Path, database: str | None = None, postgres: Postgres | None = None) -> Iterator[Fleet]:
    """A fleet that is up, ended with the block."""
    home.mkdir(mode=0o700)
    made = Fleet(home, database, postgres)
    try:
        made.up()
        made.ready()
        yield made
    finally:
        made.run("down")
        for process in of_home(home):  # what a fault left stopped can't end by itself
            process.kill()


def of_home(home: Path) -> list[psutil.Process]:
    """Every process that was started for this home."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TUNEYARD_HOME") == str(home) and process.pid != os.getpid():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
