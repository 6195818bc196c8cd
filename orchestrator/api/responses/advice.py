"""What `why` and `plan` say would help a job that waits, as sentences."""

from __future__ import annotations

from dataclasses import replace

from jobs.state import Code, Reason
from jobs.units import span
from orchestrator.control.snapshot.sequence_lengths import PATIENCE_S
from orchestrator.scheduler.fleet import Fleet, PendingJob, Project
from orchestrator.store.rows import JobRow
from orchestrator.whatif.changes import WhatIf, with_terms


def just_wait(row: JobRow, fleet: Fleet) -> list[str]:
    """What a job waits for that nothing in its own file would change."""
    figures = row.reason.figures
    there = {host.name for host in fleet.hosts if host.online}
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
            return [
                f"wait: it is tried again then; `tuneyard logs {row.id}` shows what the last attempt said"
            ]
        case Code.STORAGE if figures["host"] not in there:
            return [
                f"start the agent of {figures['host']} again: `tuneyard hosts` shows since when it is not there, "
                "and what it has of this job can only be taken along once it answers"
            ]
        case Code.STORAGE:
            return [
                f"make room on {figures['host']}, or let that folder be written to; it is then tried again by itself. "
                "`tuneyard hosts` shows the room that is left"
            ]
        case Code.ROOM:
            return ["wait: it starts when they have saved; `tuneyard top` shows them"]
        case _:
            return ["wait: it starts when a card that fits is free; `tuneyard top` shows who holds them"]


def more_quota(row: JobRow, job: PendingJob, asked: WhatIf) -> list[str]:
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
    return [
        *helps,
        f"wait for a job of the project to end: `tuneyard list --project {row.project} --state running`",
    ]


def misfit(job: PendingJob, fleet: Fleet, reason: Reason) -> list[str]:
    """What helps a job that fits nowhere, as far as nothing about who else waits need be known."""
    drained = [one.name for one in fleet.hosts if one.drained and one.online]
    if reason.code is Code.NO_HOST and drained:
        return [f"`tuneyard host undrain {name}` gives it jobs again" for name in drained]
    if reason.code is Code.NO_HOST and (ill := [one for one in fleet.hosts if one.fault]):
        return [
            f"repair {one.name} ({one.fault}), then restart its agent: it is tried at once" for one in ill
        ]
    if reason.code is Code.NO_HOST and (gone := [one.name for one in fleet.hosts if not one.online]):
        named = ", ".join(gone[:3]) + (f" and {len(gone) - 3} more" if len(gone) > 3 else "")
        return [
            f"start the agent of {named} again: `tuneyard up` on the server's machine, `tuneyard host run` on others; "
            "`tuneyard hosts` shows since when it is not there"
        ]
    spec = job.spec
    narrow = [
        f"resources.{name}" for name in ("card", "min_memory", "labels") if getattr(spec.resources, name)
    ]
    texts = {
        Code.NO_HOST: "bring a host up: `tuneyard up` here, or `tuneyard host run --server URL --token T` there; "
        "`tuneyard plan --local` plans without one",
        Code.GANG: f"add a host with {spec.resources.gpus} such cards of one type, or ask for fewer; `tuneyard gpus` "
        "shows what there is",
        Code.LIBRARY: "install it on that host (`pip install`), then restart its agent there (`tuneyard host run`): "
        "hosts say what they have when they join",
        Code.NO_CARD: f"loosen {' and '.join(narrow)}; `tuneyard gpus` shows what there is"
        if narrow
        else "`tuneyard gpus` shows what there is, and what is wrong with it",
        Code.PROFILE_PENDING: "wait: a host traces its memory, checks its model and reads its data, and `tuneyard list`"
        f" says when; where nobody has read the data within {span(PATIENCE_S)}, it is planned for the whole "
        "training.sequence_length",
        Code.PROFILE_FAILED: "correct what the error names; the model is traced again every 5 minutes",
    }
    told = [text for code, text in texts.items() if code == reason.code]
    if reason.code is Code.PROFILE_FAILED and "huggingface.co" in reason.text:
        told.append(
            f"a host without a way to huggingface.co: download {spec.model.path} to a folder that every host sees "
            "(`hf download NAME --local-dir DIR`), and give that as model.path"
        )
    return told
