"""`python -m workers.rehearsal REQUEST.json ANSWER.json`, in front of the CUDA double."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import traceback
from pathlib import Path

from jobs.errors import words_of
from workers.model.late_imports import put_off
from workers.rehearsal.messages import Answer, Request
from workers.trainer.entrypoint import LATE, PARTS, TRAINING, before_imports


def main() -> None:
    request = Request.model_validate_json(Path(sys.argv[1]).read_bytes())
    try:
        before_imports()
        for name in LATE:
            put_off(name)
        for name in (*PARTS, TRAINING):
            importlib.import_module(name)
        importlib.import_module("transformers.utils.logging").disable_progress_bar()
        run = importlib.import_module("workers.rehearsal.run")
        with tempfile.TemporaryDirectory(prefix="tuneyard-rehearsal-") as folder:
            answer = run.rehearse(request, Path(folder))
    except Exception as error:  # the edge of the process: what the libraries raise, nobody knows
        traceback.print_exception(error)
        answer = Answer(ending="failed", message=words_of(error))
    Path(sys.argv[2]).write_text(answer.model_dump_json())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # torch's threads may abort a process that ends soon after it was started


if __name__ == "__main__":
    main()
