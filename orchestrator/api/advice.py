"""What `why` and `plan` say would help, as sentences."""

from __future__ import annotations

import math
from dataclasses import replace

from jobs.spec import JobSpec
from jobs.state import Code, Reason
from jobs.units import span
from orchestrator.data_lengths import PATIENCE_S
from orchestrator.fleet import Fleet, Project, Waiting
from orchestrator.sooner import WhatIf, with_terms
from orchestrator.store.rows import JobRow


def just_wait(row: JobRow) -> list[str]:
    """What a job waits for that nothing in its own file would change."""
    figures = row.reason.figures
    match row.reason.code:
        case Code.AFTER:
            first, *others = figures["after"]
            more = f", one of {len(others) + 1} that it waits for" if others else ""
            return [f"wait: `tuneyard why {first}` says how far job {first} is{more}"]
        case Code.RESERVED:
            other = figures["job"]
            return [
                f"wait: `tuneyard why {other}` says how far job {other} is, which these cards are kept for"
            ]
        case Code.HELD:
            return [f"`tuneyard release {row.id}` lets it start"]
        case Code.BACKOFF:
            return ["wait: it is tried again then"]
        case Code.STORAGE:
            return [
                f"make room on {figures['host']}, or let that folder be written to; it is then tried again by itself"
            ]
        case Code.ROOM:
            return ["wait: it starts when they have saved"]
        case _:
            return ["wait: it starts when a card that fits is free"]


def more_quota(row: JobRow, job: Waiting, asked: WhatIf) -> list[str]:
    """What would help a job whose project may have no more: terms that let it start, else whose end."""
    terms = asked.fleet.projects.get(row.project, Project())
    wanted = row.reason.figures["held"] + row.reason.figures.get("promised", 0) + row.reason.figures["gpus"]
    changes = {
        f"--guarantee {wanted}": replace(terms, guarantee=wanted),
        "--borrow": replace(terms, borrows=True),
    }
    helps = [
        f"after `tuneyard project set {row.project} {flag}` it would {brings}"
        for flag, changed in changes.items()
        if (brings := with_terms(job, asked, changed)) is not None
    ]
    return [*helps, "wait for a job of the project to end"]


def misfit(job: Waiting, fleet: Fleet, reason: Reason) -> list[str]:
    """What helps a job that fits nowhere, as far as nothing about who else waits need be known."""
    if reason.code is Code.NO_HOST and (drained := [one.name for one in fleet.hosts if one.drained]):
        return [f"`tuneyard host undrain {name}` gives it jobs again" for name in drained]
    if reason.code is Code.NO_HOST and (ill := [one for one in fleet.hosts if one.fault]):
        return [
            f"repair {one.name} ({one.fault}), then restart its agent: it is tried at once" for one in ill
        ]
    spec = job.spec
    narrow = [
        f"resources.{name}" for name in ("card", "min_memory", "labels") if getattr(spec.resources, name)
    ]
    texts = {
        Code.NO_HOST: "bring a host up: `tuneyard up` here, or `tuneyard host run --server URL --token T` there; "
        "`tuneyard plan --local` plans without one",
        Code.GANG: f"add a host with {spec.resources.gpus} such cards of one type, or ask for fewer",
        Code.LIBRARY: "install it on that host, then restart its agent; hosts say what they have when they join",
        Code.NO_CARD: f"loosen {' and '.join(narrow)}; `tuneyard gpus` shows what there is"
        if narrow
        else "`tuneyard gpus` shows what there is, and what is wrong with it",
        Code.PROFILE_PENDING: "wait: a host traces its memory, checks its model and reads its data; where nobody has "
        f"read the data within {span(PATIENCE_S)}, it is planned for the whole training.sequence_length",
        Code.PROFILE_FAILED: "correct what the error names; the model is traced again every 5 minutes",
    }
    told = [texts[reason.code]] if reason.code in texts else []
    if reason.code is Code.PROFILE_FAILED and "huggingface.co" in reason.text:
        told.append(
            f"a host without a way to huggingface.co: download {spec.model.path} to a folder that every host sees "
            "(`hf download NAME --local-dir DIR`), and give that as model.path"
        )
    return told


def after_end(row: JobRow) -> list[str]:
    """What to do about a job that has ended."""
    texts = {
        Code.OOM: f"`tuneyard show {row.id}` has projected against measured; memory.confidence: 0.99 keeps more room",
        Code.FAILED: f"`tuneyard logs {row.id}` has the traceback; `tuneyard requeue {row.id}` tries again",
        Code.LOST: f"`tuneyard requeue {row.id}` runs it again",
        Code.TIMEOUT: f"`tuneyard requeue {row.id} --set time_limit={_twice(row)}` goes on from its last checkpoint",
        Code.BAD_INPUT: "correct what the reason names, then submit the job again: `tuneyard submit`",
        Code.AFTER: f"`tuneyard requeue {row.id}` submits it again, and waits for no job that has ended",
    }
    if row.reason.code is Code.DIVERGED:
        figures, kept = row.reason.figures, f"`tuneyard logs {row.id}` has the losses before it"
        flags = figures.get("flags")
        again = f"`tuneyard requeue {row.id} {flags}` goes on from the last good checkpoint, if there is one"
        return [*([again] if flags else ()), *figures.get("suggestions", ()), kept]
    return [texts[row.reason.code]] if row.reason.code in texts else []


def _twice(row: JobRow) -> str:
    """Twice the time limit of a job, as a job file has it: in whole minutes from one on."""
    twice = 2 * (JobSpec.model_validate(row.spec).time_limit or 1800.0)
    for unit, length in (("h", 3600), ("m", 60)):
        if twice >= length and twice % length == 0:
            return f"{twice / length:g}{unit}"
    return f"{math.ceil(twice / 60)}m" if twice > 600 else f"{twice:g}s"
