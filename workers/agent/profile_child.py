"""Run one trace as a child process with limits: a model's own code must not take the host agent with it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from pydantic import ValidationError

from jobs.messages.reports import TraceRequest, TraceResult
from jobs.units import GiB, gib

TIMEOUT_S = 120.0
MEMORY_BYTES = 8 * GiB
LOG_LINES = 3  # of the child's last words that go into an error


def trace_in_child(
    request: TraceRequest, timeout_s: float = TIMEOUT_S, memory_bytes: int = MEMORY_BYTES
) -> TraceResult:
    """The profile and lengths, or why there are none in words: the job file's fault, a crash, or a limit.

    A profile that was ready is kept whatever the scan came to. timeout_s: of the child's whole life, imports
    included; memory_bytes: of its heap (RLIMIT_DATA).
    """
    with tempfile.TemporaryDirectory(prefix="tuneyard-trace-") as folder:
        asked, answered = Path(folder) / "request.json", Path(folder) / "result.json"
        asked.write_text(request.model_dump_json())
        child = subprocess.Popen(
            [sys.executable, "-m", "workers.profiler", str(asked), str(answered)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # One thread: fake tensors compute nothing, and trainers want the cores.
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            text=True,
            errors="replace",
        )
        # From here rather than in the child before exec: a fork hook is unsafe beside the agent's threads.
        resource.prlimit(child.pid, resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
        try:
            _, words = child.communicate(timeout=timeout_s)
            why = _why(child.returncode, words, memory_bytes)
        except subprocess.TimeoutExpired:
            why = f"the trace did not end within {timeout_s:.0f}s"
        finally:
            _end(child)
        try:
            done = TraceResult.model_validate_json(answered.read_bytes())
        except (OSError, ValidationError):
            return request.failed(why)
        if request.data_key == done.data_key:
            return done
        return done.model_copy(update={"data_key": request.data_key, "data_error": why})


def _end(child: subprocess.Popen[str]) -> None:
    """Leave nothing of the child's session behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _why(code: int, words: str, memory_bytes: int) -> str:
    last = "; ".join(line.strip() for line in words.splitlines()[-LOG_LINES:] if line.strip())
    if "MemoryError" in words or "can't allocate memory" in words:
        return f"the trace took more than {gib(memory_bytes)} of memory"
    if code == 0:
        return "the trace ended without an answer"
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"the trace ended with {how}" + (f": {last[:500]}" if last else "")
