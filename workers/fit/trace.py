"""The memory profile of what a script trains, traced in a child process and kept between runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.errors import Fault, ProfileError, SpecError, Unavailable
from jobs.jobfile.spec import JobSpec
from jobs.memory.profile import MemoryProfile, trace_key
from jobs.messages.reports import TraceRequest
from workers.agent.profile_child import trace_in_child
from workers.agent.profile_queue import trace_memory_bytes
from workers.durable import publish
from workers.machine import stack


def profile_of(spec: JobSpec, folder: Path, timeout_s: float, say: Callable[[str], None]) -> MemoryProfile:
    """From folder, else traced, which takes seconds; kept there. Raises SpecError, and Unavailable for a trace that
    ended badly."""
    path = folder / f"{trace_key(spec, stack(), _own_config(spec))}.json"
    try:
        return MemoryProfile.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, ProfileError):
        say("tuneyard: tracing the model, once ..")
    trusted = [spec.model.path] if spec.model.trust_remote_code and spec.model.path else []
    result = trace_in_child(
        TraceRequest(key="fit", spec=spec, trusted_models=trusted), timeout_s, trace_memory_bytes()
    )
    if result.bad_input:
        raise SpecError([Fault("model", "", str(result.error))], "fit")
    if result.profile is None:
        raise Unavailable(f"the memory of this model was not traced: {result.error}")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    publish(path, json.dumps(result.profile))
    return MemoryProfile.from_dict(result.profile)


def _own_config(spec: JobSpec) -> dict[str, Any] | None:
    """config.json of a local folder: a changed folder is another architecture."""
    try:
        value = json.loads((Path(spec.model.path or "") / "config.json").read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
