"""Runs one step, and records how it ended."""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from jobs.errors import InputError, TuneyardError, Unavailable, words_of
from jobs.jobfile.sections.then import MergeSpec
from jobs.messages.reports import Assignment, Ended, Started
from jobs.state import Outcome
from workers.attempt_folder import STOP_OUTCOMES, AttemptFolder, StopReason
from workers.checkpoints import disk_space
from workers.checkpoints.transfer import Reach
from workers.checks.inputs import resolve_output
from workers.model.build import trusts
from workers.steps.merge import Merge
from workers.steps.sources import parent_facts, verified
from workers.trainer.finite import NotFinite
from workers.trainer.memory_meter import set_threads
from workers.trainer.saving.artifacts import check_free, clear_unfinished, publish_result

log = logging.getLogger(__name__)

NICE = 10  # a step gives way to what trains on this host
LOOK_S = 0.5


class Stopped(TuneyardError):
    """The step was asked to end."""

    def __init__(self, reason: StopReason) -> None:
        self.reason = reason
        super().__init__(f"{reason} before it was done")


def run_attempt(
    assignment: Assignment,
    folder: AttemptFolder,
    host_home: Path | str,
    output_root: Path | str,
    reach: Reach | None = None,
) -> Ended:
    """Run a step and record the outcome. The process's outermost edge: nothing is raised. reach: not used."""
    os.nice(NICE)
    set_threads()
    try:
        if not folder.is_mine(assignment):
            raise Stopped("stale")
        process = psutil.Process()
        folder.write_started(Started(ts=time.time(), pid=process.pid, create_time=process.create_time()))
        _end_when_asked(assignment, folder, output_root, Path(host_home).name)
        ended = _run(assignment, folder, host_home, output_root)
    except Stopped as stopped:
        ended = _stopped(stopped.reason)
    except Exception as error:  # the edge of the process: every failure becomes an outcome
        ended = _failed(error)
    if folder.is_mine(assignment):
        folder.write_ended(ended)
    log.info("ended: %s %s", ended.outcome, ended.message)
    return ended


def _run(
    assignment: Assignment, folder: AttemptFolder, host_home: Path | str, output_root: Path | str
) -> Ended:
    taken, step = assignment.taken, assignment.spec.step
    assert taken is not None and step is not None  # or the attempt would train
    target, fleet = resolve_output(output_root, assignment.spec, assignment.job_id), Path(host_home).name
    clear_unfinished(target, assignment, fleet)
    check_free(target, assignment)
    verified(taken)

    def obey() -> None:
        if reason := folder.stop_requested():
            raise Stopped(reason)

    obey()
    options = step.options
    assert isinstance(options, MergeSpec)  # the only kind that there is
    trust = trusts(assignment.spec.model, assignment.trusted_models)
    merge = Merge(assignment.spec, options, Path(taken.folder), trust, obey)
    facts: dict[str, Any] = {"step": step.kind, "parent": parent_facts(taken), "made": merge.made}
    made = publish_result(_timed(merge.fill, merge.made), target, assignment, facts, fleet)
    text = merge.summary()
    if made != target:
        text += f"; it is in {made}, because {target} was taken meanwhile"
    return Ended(
        ts=time.time(), outcome=Outcome.SUCCEEDED, message=text, result=str(made), made=dict(merge.made)
    )


def _timed(fill: Callable[[Path], None], made: dict[str, Any]) -> Callable[[Path], None]:
    """The same, with how long it took among what was found."""

    def timed(folder: Path) -> None:
        began = time.monotonic()
        fill(folder)
        made["seconds"] = round(time.monotonic() - began, 1)

    return timed


def _end_when_asked(
    assignment: Assignment, folder: AttemptFolder, output_root: Path | str, fleet: str
) -> None:
    """End this process once the attempt is to end: a library's call is not interrupted otherwise."""

    def watch() -> None:
        while (reason := folder.stop_requested()) is None:
            time.sleep(LOOK_S)
        if folder.is_mine(assignment) and folder.write_ended(_stopped(reason)):
            target = resolve_output(output_root, assignment.spec, assignment.job_id)
            clear_unfinished(target, assignment, fleet)
            log.info("ended: %s", reason)
            os._exit(0)

    threading.Thread(target=watch, name="stop", daemon=True).start()


def _stopped(reason: StopReason) -> Ended:
    return Ended(
        ts=time.time(), outcome=STOP_OUTCOMES[reason], message=str(Stopped(reason)), echo=reason == "stale"
    )


def _failed(error: Exception) -> Ended:
    """How a step ends that raised this."""
    ours = isinstance(error, TuneyardError)
    if not ours:
        traceback.print_exception(error)
    words = words_of(error)
    if isinstance(error, disk_space.NoStorage):
        return Ended(ts=time.time(), outcome=Outcome.STORAGE, message=str(error))
    if not ours and (said := disk_space.full(error)):
        return Ended(ts=time.time(), outcome=Outcome.STORAGE, message=f"{said} on this host: {words}")
    bad_input = (isinstance(error, InputError) and not error.missing) or isinstance(error, NotFinite)
    text = error.line if isinstance(error, InputError) else str(error) if ours else words
    outcome = Outcome.NOT_STARTED if isinstance(error, Unavailable) else Outcome.FAILED
    return Ended(ts=time.time(), outcome=outcome, message=text, bad_input=bad_input)
