"""A process that is warm as a rank actor is, and forks a trainer for each line: its imports are done once.

A line holds an assignment, the host's home and the folder of results; the answer is the trainer's pid. A trainer ends
as an actor does, with its outcome in the attempt's folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from jobs.messages.reports import Assignment
from workers.attempt_folder import AttemptFolder
from workers.trainer.entrypoint import before_imports, run_rank, warm


def main() -> None:
    before_imports()
    warm()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: they leave no zombies
    print(json.dumps({"warm": True}), flush=True)
    for line in sys.stdin:
        given = json.loads(line)
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _train(given)
        print(json.dumps({"pid": child}), flush=True)


def _train(given: dict[str, str]) -> None:
    try:
        os.environ.update(given.get("environment") or {})
        assignment = Assignment.model_validate(given["assignment"])
        home = Path(given["home"])
        assert AttemptFolder(home, assignment.attempt_id).claim(assignment)
        run_rank(assignment, home, given["output"])
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
