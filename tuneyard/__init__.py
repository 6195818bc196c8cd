"""tuneyard from Python: what the command line does, with the same words.

    import tuneyard

    job = tuneyard.submit("job.yaml", {"training.learning_rate": 1e-4})
    print(tuneyard.why(job["id"])["job"]["reason"]["text"])
    done = tuneyard.wait(job["id"])

The server is found as the command line finds it: TUNEYARD_URL and TUNEYARD_TOKEN, else config.json in TUNEYARD_HOME.
Each function makes a connection of its own; `Client` keeps one, is given an address, and does the rest that the server
offers. A job is the path of a job file, its text, or a mapping as it has one. Answers are dicts of the shapes in
docs/openapi.json. Every failure is a TuneyardError. `python -m tuneyard` is the command line.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.cards import read_card
from jobs.errors import (
    Busy,
    Conflict,
    DoesNotFit,
    Fault,
    InputError,
    NotFound,
    ProfileError,
    SpecError,
    TooLarge,
    TuneyardError,
    Unanswered,
    Unauthorized,
    Unavailable,
    UsageError,
)
from jobs.jobfile.sections.data import DataSpec
from jobs.jobfile.sections.memory import MemorySpec
from jobs.jobfile.sections.method import MethodSpec
from jobs.jobfile.sections.model import ModelSpec
from jobs.jobfile.sections.resources import ResourceSpec
from jobs.jobfile.sections.sweep import AfterSpec, SweepSpec
from jobs.jobfile.sections.training import TrainingSpec
from jobs.jobfile.spec import JobSpec, parse_spec
from orchestrator.client.client import Client, JobFile, body_of
from orchestrator.client.settings import home
from orchestrator.schemas import Job, JobFull, PlanShape, Why

if TYPE_CHECKING:
    from workers.fit.fitted import Fitted

__all__ = [
    "AfterSpec",
    "Busy",
    "Client",
    "Conflict",
    "DataSpec",
    "DoesNotFit",
    "Fault",
    "InputError",
    "Job",
    "JobFile",
    "JobFull",
    "JobSpec",
    "MemorySpec",
    "MethodSpec",
    "ModelSpec",
    "NotFound",
    "PlanShape",
    "ProfileError",
    "ResourceSpec",
    "SpecError",
    "SweepSpec",
    "TooLarge",
    "TrainingSpec",
    "TuneyardError",
    "Unanswered",
    "Unauthorized",
    "Unavailable",
    "UsageError",
    "Why",
    "cancel",
    "fit",
    "list",
    "logs",
    "parse_spec",
    "plan",
    "pull",
    "show",
    "submit",
    "wait",
    "why",
]


def submit(job: JobFile, overrides: Mapping[str, Any] | None = None, *, hold: bool = False) -> Job:
    """Submit a job; overrides are laid over it by dotted path. Raises SpecError with every fault.

    Of a job file with a matrix this gives the first; Client.submit_all() gives all. hold: it waits for a release.
    """
    with Client() as client:
        return client.submit(job, overrides, hold=hold)


def plan(
    job: JobFile,
    overrides: Mapping[str, Any] | None = None,
    *,
    cards: Sequence[str] = (),
    prices: Mapping[str, float] | None = None,
    timeout_s: float = 300.0,
    local: bool = False,
) -> PlanShape:
    """What the job would take, card by card, and which rung is chosen on each. Nothing is submitted.

    cards: of the catalogue (`rtx4090`, `h100:60GiB`), beside the fleet's; prices: of an hour of one GPU, by card;
    timeout_s: for the trace of the model; local: trace on this machine, without any server, for cards or else this
    machine's own; takes the worker extra. Raises SpecError, UsageError, and Unavailable without a profile in the end.
    """
    if not local:
        with Client() as client:
            return client.plan(job, overrides, timeout_s, cards, prices)
    from orchestrator.local.plan import plan_here  # here: with what a trace imports

    wanted = [read_card(name) for name in cards]
    return plan_here(body_of(job, overrides or {}), wanted, prices or {}, home(), timeout_s, lambda _: None)


def fit(
    config: Any,
    model: Any,
    data: Any = None,
    *,
    peft_config: Any = None,
    processing_class: Any = None,
    card: str | None = None,
    confidence: float = 0.95,
    timeout_s: float = 300.0,
    quiet: bool = False,
) -> Fitted:
    """A TRL configuration on the rung of the memory ladder that fits this card: for a script of one's own, no server.

    config, model, peft_config and processing_class are what the trainer is given (SFTConfig; a hub id, a folder or a
    loaded model). data: its rows, a path or a hub id; None: every row is taken to be as long as max_length. card: of
    the catalogue, or "cpu:4GiB"; None: the one that this process trains on. confidence: how sure the projection must be
    that it fits. The answer has `config` (the global batch is the same), says why as text, and guards a trainer. Takes
    the worker extra. Raises DoesNotFit, SpecError, UsageError, and Unavailable for a trace that ended badly.
    """
    missing = [name for name in ("torch", "transformers", "trl", "peft", "datasets") if not find_spec(name)]
    if missing:
        raise UsageError(f"fit takes {', '.join(missing)}: pip install 'tuneyard[worker]'")
    from workers.fit.fit import fit_here  # here: it imports torch and TRL

    return fit_here(
        config,
        model,
        data,
        peft_config=peft_config,
        processing_class=processing_class,
        card=card,
        confidence=confidence,
        timeout_s=timeout_s,
        home=home(),
        say=(lambda _: None) if quiet else partial(print, file=sys.stderr, flush=True),
    )


def list(states: Sequence[str] = (), **wanted: Any) -> builtins.list[Job]:
    """All jobs, newest first.

    states: queued, running, succeeded, failed, cancelled; wanted: user, name and more, as Client.jobs() has it.
    """
    with Client() as client:
        return [*client.all_jobs(states, **wanted)]


def show(job: int | str) -> JobFull:
    """One job by id or name, with its attempts and events. Raises NotFound."""
    with Client() as client:
        return client.job(job)


def why(job: int | str) -> Why:
    """Why a job waits, host by host, or how it ended. Raises NotFound."""
    with Client() as client:
        return client.why(job)


def logs(job: int | str, attempt: int | None = None) -> str:
    """The whole log of an attempt so far, of the last by default. Raises NotFound."""
    with Client() as client:
        return client.logs(job, attempt)


def wait(job: int | str, timeout_s: float | None = None) -> JobFull:
    """The job when it has ended. Raises TimeoutError after timeout_s; the job goes on."""
    with Client() as client:
        return client.wait(job, timeout_s)


def cancel(job: int | str) -> Job:
    """Ask a job to end. Raises NotFound; Conflict when it has ended."""
    with Client() as client:
        return client.cancel(job)


def pull(job: int | str, folder: str | Path | None = None) -> Path:
    """Copy a job's result into a folder (job-ID-NAME by default), and compare it with its manifest; where it is."""
    with Client() as client:
        return client.pull(job, folder)
