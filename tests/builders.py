"""Builders: a test names what it is about, and gets the rest from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jobs.messages.reports import (
    AttemptReport,
    Ended,
    GpuInfo,
    GpuSample,
    HostInfo,
    HostReport,
    Progress,
    Started,
    TraceResult,
)
from jobs.state import Code, Event, Outcome, Reason
from jobs.units import GiB
from orchestrator.store import Store
from orchestrator.store.attempts.attempts import Closing
from orchestrator.store.profiles import answer
from orchestrator.store.requests import NewJob, Start
from orchestrator.store.rows import AttemptRow, JobRow

NOW = 1_000_000.0  # when a test begins, Unix seconds
CARD_BYTES = 24 * GiB
RUNG = {"every_n": 1, "micro_batch": 2, "accumulation": 4, "offload": False}


def a_spec(**values: Any) -> dict[str, Any]:
    """A job file that is valid as it stands."""
    return {"model": "meta-llama/Llama-3.2-1B", "data": "/data/pairs.jsonl", "method": "lora"} | values


def a_job(name: str = "tune", **values: Any) -> NewJob:
    """A job to submit."""
    return NewJob(**{"name": name, "user": "ada", "spec": a_spec(), **values})


def a_projection(upper_bytes: int = 20 * GiB) -> dict[str, Any]:
    """What the job was projected to take."""
    return {
        "parts": {"weights": upper_bytes // 2},
        "phase": "backward",
        "allocated_bytes": upper_bytes - 3 * GiB,
        "reserved_bytes": upper_bytes - 2 * GiB,
        "device_bytes": upper_bytes - GiB,
        "upper_bytes": upper_bytes,
        "step_s": 0.5,
    }


def cards(host: str = "alpha", count: int = 1, memory_bytes: int = CARD_BYTES) -> list[GpuInfo]:
    """A host's cards."""
    return [
        GpuInfo(
            uuid=f"GPU-{host}-{index}",
            index=index,
            kind="cuda",
            name="NVIDIA A10G",
            memory_bytes=memory_bytes,
        )
        for index in range(count)
    ]


def a_host(name: str = "alpha", gpus: int = 1, **values: Any) -> HostInfo:
    """What a host says when it joins."""
    given: dict[str, Any] = {
        "name": name,
        "machine_id": f"machine-{name}",
        "gpus": cards(name, gpus),
        "stack": {"torch": "2.13.0"},
        "model_types": ["llama"],
        "output_root": "/srv/tuneyard",
        "version": "0.1.0",
        "warm": 0,
    }
    return HostInfo(**given | values)


def a_report(*attempts: AttemptReport, host: str = "alpha", gpus: int = 1, **values: Any) -> HostReport:
    """News of a host."""
    given: dict[str, Any] = {
        "boot": "boot-1",
        "sent": NOW,
        "gpus": cards(host, gpus),
        "attempts": list(attempts),
    }
    return HostReport(**given | values)


def a_sample(uuid: str = "GPU-alpha-0", ts: float = NOW, **values: Any) -> GpuSample:
    """One reading of a card."""
    return GpuSample(**{"uuid": uuid, "ts": ts, "memory_used_bytes": 5 * GiB, "utilization": 0.9, **values})


def news(attempt: AttemptRow, **values: Any) -> AttemptReport:
    """News of an attempt."""
    return AttemptReport(**{"attempt_id": attempt.id, "number": attempt.number, **values})


def a_start(ts: float = NOW) -> Started:
    """The attempt's process is up."""
    return Started(ts=ts, pid=4242, create_time=ts)


def a_line(step: int, **values: Any) -> Progress:
    """A line of progress."""
    return Progress(**{"ts": NOW + step, "step": step, "total_steps": 10, "loss": 2.0 / step, **values})


def an_end(outcome: Outcome = Outcome.SUCCEEDED, **values: Any) -> Ended:
    """How an attempt ended."""
    return Ended(**{"ts": NOW + 60, "outcome": outcome, "steps": 10, **values})


def because(code: Code = Code.SUCCEEDED, text: str = "trained 10 steps", **figures: Any) -> Reason:
    """A reason."""
    return Reason(code, text, figures)


def joined(store: Store, name: str = "alpha", gpus: int = 1, **values: Any) -> tuple[int, list[int]]:
    """A host that joined: its id, and its cards' ids by index."""
    host_id = store.join_host(a_host(name, gpus, **values), NOW)
    return host_id, [gpu.id for gpu in store.gpus() if gpu.host_id == host_id]


def submitted(store: Store, **values: Any) -> JobRow:
    """A queued job."""
    return store.submit([a_job(**values)], NOW)[0]


def opened(store: Store, job: JobRow, host_id: int, gpu_ids: list[int], now: float = NOW) -> AttemptRow:
    """An attempt of a queued job on these cards."""
    attempt = start_attempt(store, job.id, host_id, gpu_ids, RUNG, a_projection(), now)
    assert attempt is not None, f"job {job.id} could not start on {gpu_ids}"
    return attempt


def training(store: Store, **values: Any) -> AttemptRow:
    """An open attempt of a new job on the one card of a new host `alpha`."""
    host_id, gpu_ids = joined(store)
    return opened(store, submitted(store, **values), host_id, gpu_ids)


def start_attempt(
    store: Store,
    job_id: int,
    host_id: int,
    gpu_ids: Sequence[int],
    rung: Mapping[str, Any],
    projection: Mapping[str, Any],
    now: float,
    basis: Mapping[str, Any] | None = None,
    shared: bool = False,
) -> AttemptRow | None:
    """store.start_attempts() of one, as it is stored then. None, and nothing changed, where it moved."""
    opened = store.start_attempts(
        [Start(job_id, host_id, tuple(gpu_ids), rung, projection, basis, shared)], now
    )
    return store.attempt(opened[job_id]) if opened else None


def end_attempt(
    store: Store,
    attempt_id: int,
    number: int,
    ended: Ended,
    event: Event,
    reason: Reason,
    now: float,
    not_before: float | None = None,
) -> bool:
    """store.end_attempts() of one: False, and nothing changed, where it moved."""
    return bool(store.end_attempts([Closing(attempt_id, number, ended, event, reason, not_before)], now))


def profile_error(store: Store, key: str, error: str, bad_input: bool, now: float) -> bool:
    """What a host says where a profile can't be traced. False when it was answered before, or never asked for."""
    with store.write() as connection:
        return answer(connection, TraceResult(key=key, error=error, bad_input=bad_input), now)
