"""Processes of tests in front of the double. Each prints one JSON line a question."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from workers.cuda_double.environment import Environment, variables

REPOSITORY = Path(__file__).parents[2]
# torch's autograd thread may abort a process that ends very soon after it was started.
_BEFORE = "import json, os, sys\ndef answer(**made): print(json.dumps(made), flush=True)\n"
_AFTER = "\nsys.stdout.flush(); os._exit(0)\n"


class Process:
    """A process that runs on until it is told to go on, by a line, or killed."""

    def __init__(self, python: Path, code: str, environment: dict[str, str]) -> None:
        self.popen = subprocess.Popen(
            [str(python), "-c", _BEFORE + code + _AFTER],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> dict[str, Any]:
        """What the process answers next. Fails with what it wrote to standard error, if it ended instead."""
        assert self.popen.stdout is not None and self.popen.stderr is not None
        while line := self.popen.stdout.readline():
            if line.startswith("{"):
                made = json.loads(line)
                assert isinstance(made, dict)
                return made
        raise AssertionError(self.popen.stderr.read())

    def go_on(self) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.communicate()


class Cuda:
    """A host with cards that are not there."""

    def __init__(self, environment: Environment, folder: Path, cards: str = "rtx4090") -> None:
        self.environment, self.folder, self.cards = environment, folder, cards
        self._started: list[Process] = []

    def variables(self, **also: str) -> dict[str, str]:
        made = variables(self.environment, self.cards, ledger=self.folder / "ledger")
        return {**made, **also}

    def start(self, code: str, **also: str) -> Process:
        """A process that runs code, with `answer(name=value)` for what the test is to know."""
        self._started.append(Process(self.environment.python, code, self.variables(**also)))
        return self._started[-1]

    def run(self, code: str, **also: str) -> dict[str, Any]:
        """The first answer of a process that runs to its end."""
        process = self.start(code, **also)
        made = process.answer()
        _, errors = process.popen.communicate()
        assert process.popen.returncode == 0, errors
        return made

    def close(self) -> None:
        for process in self._started:
            process.kill()
