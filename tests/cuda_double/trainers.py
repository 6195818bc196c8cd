"""Real trainers on cards that are not there, one process each, as an agent finds them: by what they leave on disk."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from jobs.memory.rung import Rung
from jobs.messages.reports import Assignment, Ended, GpuInfo
from tests.cuda_double.processes import REPOSITORY
from tests.workers.builders import TINY, answer, make_assignment, make_tokenizer, question, write_rows
from workers.attempt_folder import AttemptFolder
from workers.cuda_double.environment import Environment, variables

# 31 million weights: what a step takes is more than what the libraries take before it.
WIDE = {**TINY, "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8}
_SEE = """
import json
from workers.gpus import CudaCards
cards = CudaCards()
print(json.dumps([[one.model_dump() for one in cards.infos()], [one.model_dump() for one in cards.sample(0.0)]]))
"""


def _rows() -> list[dict[str, Any]]:
    """64 rows of some 20 to 300 tokens."""
    return [{"prompt": question(i), "completion": answer(i) * (1 + i % 20)} for i in range(64)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Trainer:
    """One attempt on its way."""

    def __init__(self, folder: AttemptFolder, pid: int) -> None:
        self.folder, self.pid = folder, pid

    def wait(self, true: Callable[[], bool], timeout_s: float = 120) -> None:
        """Until it holds. Fails with the log where the trainer ended before that, or it takes too long."""
        deadline = time.monotonic() + timeout_s
        while not true():
            alive = psutil.pid_exists(self.pid)
            assert (alive or true()) and time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def trains(self, step: int = 1) -> None:
        """Wait until this step is done."""
        self.wait(lambda: any(line.step >= step for line in self.folder.progress()))

    def end(self, timeout_s: float = 120) -> Ended:
        """How it ended, once its process is gone."""
        self.wait(lambda: not psutil.pid_exists(self.pid), timeout_s)
        ended = self.folder.ended()
        assert ended is not None, self.log()
        return ended

    def log(self) -> str:
        return self.folder.log_path.read_text(errors="replace")[-6000:]


class Trainers:
    """A host with cards, and a process that is warm for every trainer. faults: the file that the double reads."""

    def __init__(self, environment: Environment, folder: Path, cards: str) -> None:
        self.folder, self.home = folder, folder / "home"
        self.faults = folder / "faults"
        self._python, self._ids = environment.python, itertools.count(1)
        self.variables = variables(
            environment, cards, ledger=folder / "ledger", faults=str(self.faults.absolute())
        )
        self._tokenizer = make_tokenizer(folder / "tokenizer")
        self._rows = write_rows(folder / "rows.jsonl", _rows())
        command = [str(self._python), "-m", "tests.cuda_double.warm"]
        self._warm = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=self.variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "warm.log").open("wb"),
            text=True,
        )
        self._answer()
        self.cards = self.see()[0]

    def see(self) -> tuple[list[GpuInfo], list[dict[str, Any]]]:
        """The cards and a sample of each, as an agent sees them."""
        done = subprocess.run(
            [str(self._python), "-c", _SEE],
            cwd=REPOSITORY,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        infos, samples = json.loads(done.stdout.splitlines()[-1])
        return [GpuInfo(**info) for info in infos], samples

    def start(self, *, environment: dict[str, str] | None = None, **how: Any) -> Trainer:
        """A trainer of assignment(**how)."""
        return self.begin(self.assignment(**how), environment)

    def assignment(
        self,
        card: int | GpuInfo = 0,
        share: int = 0,
        rung: Rung | None = None,
        attempt_of: int | None = None,
        **sections: Any,
    ) -> Assignment:
        """share: bytes of the card, 0 for all of it; attempt_of: its job, where that had an attempt before."""
        attempt = next(self._ids)
        model = {"config": WIDE, "dtype": "bfloat16", **sections.pop("model", {})}
        made = make_assignment(
            self._rows,
            self._tokenizer,
            attempt_id=attempt,
            job_id=attempt_of or attempt,
            rung=rung or Rung(0, 2, accumulation=2 // sections.get("world_size", 1)),
            model=model,
            **sections,
        )
        gpu = card if isinstance(card, GpuInfo) else self.cards[card]
        given = {"gpus": [gpu], "upper_bytes": share, "shared": bool(share)}
        return made.model_copy(update=given)

    def gang(self, cards: tuple[int, int], **how: Any) -> list[Trainer]:
        """The trainers of two ranks, each on its card. NCCL takes 1.4 GiB of each."""
        port = free_port()
        made = self.assignment(world_size=2, master_port=port, **how)
        both = [
            made.model_copy(update={"gpus": [self.cards[i] for i in cards], "rank": rank}) for rank in (0, 1)
        ]
        return [self.begin(one) for one in both]

    def begin(self, assignment: Assignment, environment: dict[str, str] | None = None) -> Trainer:
        """The trainer of one rank."""
        line = {
            "assignment": assignment.model_dump(mode="json"),
            "home": str(self.home),
            "output": str(self.folder / "output"),
            "environment": environment,
        }
        assert self._warm.stdin is not None
        self._warm.stdin.write(json.dumps(line) + "\n")
        self._warm.stdin.flush()
        return Trainer(AttemptFolder(self.home, assignment.attempt_id), self._answer()["pid"])

    def close(self) -> None:
        children = psutil.Process(self._warm.pid).children()
        self._warm.kill()
        self._warm.communicate()
        for child in children:
            if child.is_running():
                child.kill()

    def _answer(self) -> dict[str, Any]:
        assert self._warm.stdout is not None
        while line := self._warm.stdout.readline():
            if line.startswith("{"):
                made = json.loads(line)
                assert isinstance(made, dict)
                return made
        raise AssertionError((self.folder / "warm.log").read_text()[-6000:])
