"""What can be done about a job that has ended, or that runs and says nothing: each line with its command."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from jobs.jobfile.resume_compatibility import Effect, changes
from jobs.jobfile.spec import JobSpec
from jobs.memory.remedies import Change, against_divergence, against_memory, changed
from jobs.recovery import SPOILT_FROM_THE_START
from jobs.state import Code, JobState
from jobs.units import span
from orchestrator import schemas
from orchestrator.store.rows import AttemptRow, JobRow


@dataclass(frozen=True)
class Source:
    """Where there is a checkpoint to go on from. step: None where only a host that is away can tell."""

    job_id: int
    step: int | None

    @property
    def text(self) -> str:
        at = "its newest checkpoint" if self.step is None else f"step {self.step}"
        return f"{at} of job {self.job_id}"


def after_end(row: JobRow, source: Source | str) -> list[str]:
    """What to do about a job that has ended. source: what a requeue goes on from, or why there is nothing."""
    again = f"`tuneyard requeue {row.id}`"
    texts = {
        Code.SUCCEEDED: f"`tuneyard pull {row.id}` copies its result here",
        Code.CANCELLED: f"{again} runs it again, and {_goes_on(source)}",
        Code.EARLY_STOP: f"{again} runs it to its end, and {_goes_on(source)}",
        Code.IDLE: f"`tuneyard logs {row.id}` may say what it waited for; {again} {_goes_on(source)}",
        Code.FAILED: f"`tuneyard logs {row.id}` has the traceback; {again} tries again, and {_goes_on(source)}",
        Code.LOST: f"{again} runs it again, and {_goes_on(source)}; `tuneyard hosts` shows how its host is",
        Code.NOT_STARTED: f"{again} runs it again; `tuneyard hosts` shows how its hosts are",
        Code.TIMEOUT: f"`tuneyard requeue {row.id} --set time_limit={_twice(row)}` {_goes_on(source)}",
        Code.BAD_INPUT: "correct what the reason names, then submit the job again: `tuneyard submit`",
        Code.AFTER: f"{again} submits it again, and waits for no job that has ended",
    }
    try:
        spec = JobSpec.model_validate(row.spec)
    except ValidationError:  # stored by another version
        return []
    if row.reason.code is Code.DIVERGED:
        return _after_divergence(row, spec, source)
    if row.reason.code is Code.OOM:
        return _after_no_memory(row, spec, source)
    return [text for code, text in texts.items() if code == row.reason.code]


def after_step(row: JobRow, steps: Sequence[JobRow]) -> list[str]:
    """What to do about a step that has ended. steps: all that follow the same training."""
    if row.reason.code is Code.SUCCEEDED:
        return [f"`tuneyard pull {row.id}` copies its result here"] if row.reason.figures else []
    later = [other.id for other in steps if other.id > row.id and other.state is not JobState.SUCCEEDED]
    then = (
        f"; then those behind it: {', '.join(f'`tuneyard requeue {job}`' for job in later)}" if later else ""
    )
    logs = f"`tuneyard logs {row.id}` has its log"
    return [logs, f"`tuneyard requeue {row.id}` runs it again{then}"]


def _after_divergence(row: JobRow, spec: JobSpec, source: Source | str) -> list[str]:
    losses = f"`tuneyard metrics {row.id}` shows the losses before it"
    if row.reason.text.startswith(SPOILT_FROM_THE_START):
        other = f"`tuneyard requeue {row.id} --set model.path=FOLDER --from-start`"
        return [
            f"{other}, with another base model or a whole copy of this one: its own weights are not finite"
        ]
    return [*_requeues(row, spec, against_divergence(spec), source), losses]


def _after_no_memory(row: JobRow, spec: JobSpec, source: Source | str) -> list[str]:
    surer = Change({"memory.confidence": 0.99}, "keeps more of the card free")
    sure = [surer] if spec.memory.confidence < 0.99 and changed(spec, surer.overrides) else []
    smaller = against_memory(spec) if row.reason.figures.get("suggestions") else []
    return [
        *_requeues(row, spec, [*(() if smaller else sure), *smaller], source),
        "a larger card: `tuneyard gpus` shows what there is",
        f"`tuneyard show {row.id}` has projected against measured",
    ]


def _requeues(row: JobRow, spec: JobSpec, changed_by: Sequence[Change], source: Source | str) -> list[str]:
    """The command that submits a job again with each of the changes, and where it then begins."""
    told = []
    for change in changed_by:
        made = changed(spec, change.overrides)
        assert made is not None  # remedies are changes that the job's rules accept
        restarts = any(one.effect is Effect.WEIGHTS for one in changes(spec, made))
        flag = " --from-start" if restarts and isinstance(source, Source) else ""
        begins = "begins at step 0" if restarts else _goes_on(source)
        what = f" ({change.effect})" if change.effect else ""
        told.append(f"`tuneyard requeue {row.id} {change.flags}{flag}`{what} {begins}")
    return told


def _goes_on(source: Source | str) -> str:
    if isinstance(source, str):
        return "begins at step 0"
    return "goes on from its newest checkpoint" if source.step is None else f"goes on from step {source.step}"


def while_running(shown: schemas.Job, row: JobRow, attempt: AttemptRow | None, now: float) -> list[str]:
    """What to know of a job whose host is not there, or whose trainer stands still; nothing of one that does well."""
    if attempt is None:
        return []
    if (silent := shown["silent"]) is not None:
        return _host_is_silent(row, attempt, silent, now)
    progress = shown["progress"]
    if progress is not None and progress["stalled"]:
        return _stands_still(row, attempt, progress, now)
    return []


def _host_is_silent(row: JobRow, attempt: AttemptRow, silent: schemas.SilenceShape, now: float) -> list[str]:
    host, kept = silent["host"], _newest(attempt)
    left = span(max(0.0, silent["given_up_at"] - now))
    if silent["stopped"]:
        told = [
            f"its agent was told to end: the trainer saves and ends, and job {row.id} waits for a card then"
        ]
    else:
        told = [
            f"look at {host}: its agent has ended or hangs, the machine is down, or the network is cut; "
            f"if it is heard of within {left}, job {row.id} trains on as if nothing had happened"
        ]
    at = f"the checkpoint of step {kept} is there, and " if kept else ""
    return [
        *told,
        f"in {left} this attempt counts as lost, and job {row.id} starts elsewhere by itself; {at}what is on {host} "
        "can only be taken along once it answers",
        "`tuneyard hosts` shows since when; `tuneyard up` on the server's machine, or `tuneyard host run` on another, "
        "starts its agent again",
    ]


def _stands_still(row: JobRow, attempt: AttemptRow, progress: schemas.ProgressShape, now: float) -> list[str]:
    limit_s, kept = JobSpec.model_validate(row.spec).time_limit, _newest(attempt)
    if limit_s is None:
        ends = "nothing ends it by itself: it has no time_limit"
    else:
        left = max(0.0, (attempt.started_at or now) + limit_s - now)
        ends = f"if it goes on so, its time_limit of {span(limit_s)} ends it in {span(left)}"
    step_s = progress["step_s"] or 0.0
    pace = f", where one takes {span(step_s)}" if step_s >= 1 else ""
    on_from = f"goes on from step {kept}" if kept else "begins at step 0"
    return [
        f"no step for {span(progress['age_s'] or 0.0)}{pace}: the trainer hangs, or waits for its data or disk; {ends}",
        f"`tuneyard logs {row.id}` has its last words, and `tuneyard top` what its cards do",
        f"`tuneyard cancel {row.id}` ends it, by force where it does not obey; then `tuneyard requeue {row.id}` "
        f"{on_from}",
    ]


def _newest(attempt: AttemptRow) -> int | None:
    """The step of the newest whole checkpoint on its host, as last reported; None where there is none."""
    return next((one["step"] for one in attempt.checkpoints or () if one.get("whole", True)), None)


def _twice(row: JobRow) -> str:
    """Twice the time limit of a job, as a job file has it: in whole minutes from one on."""
    twice = 2 * (JobSpec.model_validate(row.spec).time_limit or 1800.0)
    for unit, length in (("h", 3600), ("m", 60)):
        if twice >= length and twice % length == 0:
            return f"{twice / length:g}{unit}"
    return f"{math.ceil(twice / 60)}m" if twice > 600 else f"{twice:g}s"
