"""A rehearsal as a child process in front of the CUDA double."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from pathlib import Path

from pydantic import ValidationError

from workers.cuda_double.environment import CHECKOUT, Environment, variables
from workers.rehearsal.messages import Answer, Request

LOG_LINES = 3  # of the child's last words that go into an error


def rehearse_in_child(environment: Environment, request: Request, cards: str, timeout_s: float) -> Answer:
    """The answer of a process of its own, whatever becomes of it. cards: CUDA_DOUBLE_CARDS.

    Raises what `variables` raises.
    """
    made = variables(environment, cards)
    made["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CHECKOUT), made.get("PYTHONPATH", "")]))
    made.pop("CUDA_VISIBLE_DEVICES", None)  # of cards that are there
    with tempfile.TemporaryDirectory(prefix="tuneyard-rehearse-") as folder:
        asked, answered = Path(folder) / "request.json", Path(folder) / "answer.json"
        asked.write_text(request.model_dump_json())
        child = subprocess.Popen(
            [str(environment.python), "-m", "workers.rehearsal", str(asked), str(answered)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=made,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        try:
            _, words = child.communicate(timeout=timeout_s)
            why = _why(child.returncode, words)
        except subprocess.TimeoutExpired:
            why = f"the rehearsal did not end within {timeout_s:.0f} s; --timeout waits longer"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        try:
            return Answer.model_validate_json(answered.read_bytes())
        except (OSError, ValidationError):
            return Answer(ending="failed", message=why)


def _why(code: int, words: str) -> str:
    last = "; ".join(line.strip() for line in words.splitlines()[-LOG_LINES:] if line.strip())
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"the rehearsal ended with {how}" + (f": {last[:500]}" if last else "")
