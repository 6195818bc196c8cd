"""tuneyard show and why: one job in sections."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from jobs.errors import NotFound
from jobs.units import counted, span
from orchestrator.cli.commands.jobs.columns import loss
from orchestrator.cli.commands.jobs.sweep import group_path, show_sweep
from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render import words
from orchestrator.cli.render.table import Cell, Column, Row, show, show_fields, show_heading, show_line
from orchestrator.client.http import Api, job_path

if TYPE_CHECKING:
    from orchestrator.schemas import AfterShape, Attempt, GroupTable, Job, JobFull, StepShape, Why

EVENTS_SHOWN = 30

COMPARED_COLUMNS = (
    Column("  "),
    Column("PROJECTED", right=True),
    Column("MEASURED", right=True),
    Column("ERROR", right=True),
)
EVENT_COLUMNS = (
    Column("  WHEN"),
    Column("ATTEMPT", right=True, keep=3),
    Column("EVENT", keep=4),
    Column("WHAT", wrap=True),
)
STEP_COLUMNS = (
    Column("  STEP"),
    Column("JOB", right=True),
    Column("STATE"),
    Column("WHAT", wrap=True),
)
WHY_COLUMNS = (
    Column("  HOST"),
    Column("CODE", keep=3),
    Column("FIRST THING THAT DOES NOT FIT", wrap=True),
)


@click.command("show")
@click.argument("job")
@click.option("--events", "all_events", is_flag=True, help=f"Every event, not the last {EVENTS_SHOWN}.")
@client_verb
def show_verb(api: Api, as_json: bool, job: str, all_events: bool) -> None:
    """Show one job: attempts, projected against measured, events.

    JOB is an id or a name; the name of a sweep shows its jobs side by side. ERROR is measured / projected - 1, as in
    `tuneyard accuracy`: +3% took 3% more than projected. A step time is projected at the pace that was measured of jobs
    like this one before it began.
    """
    now = time.time()
    try:
        found: JobFull = api.get(job_path(job))
    except NotFound as error:
        table = _sweep(api, job, error)
        emit(table) if as_json else show_sweep(table, now)
        return
    if as_json:
        emit(found)
        return
    show_line(words.label(found))
    show_fields([*_summary(found, now), *_data(found)])
    if steps := found.get("steps"):  # an older server leaves it out
        show_heading("then")
        show(STEP_COLUMNS, [_step_row(step) for step in steps])
    for attempt in found["attempts_detail"]:
        _show_attempt(attempt, now)
    events = found["events"] if all_events else found["events"][-EVENTS_SHOWN:]
    if events:
        show_heading("events")
        show(EVENT_COLUMNS, [_event_row(event, now) for event in events])
    if hidden := len(found["events"]) - len(events):
        click.echo(f"  {counted(hidden, 'earlier event')}; --events shows all of them")


def _sweep(api: Api, name: str, error: NotFound) -> GroupTable:
    """The group of that name. Raises the error where it is no group either."""
    try:
        table: GroupTable = api.get(group_path(name))
    except NotFound:
        raise error from None
    return table


def _summary(job: Job, now: float) -> list[tuple[str, Cell | str]]:
    progress = job["progress"]
    steps = (
        f"step {progress['step']} of {progress['total_steps']} ({words.percent(progress)})"
        if progress
        else ""
    )
    if progress and (told := words.loss(progress)):
        steps += f", loss {told}"
    if progress and progress.get("skipped"):
        steps += f", {progress['skipped']} skipped"
    if evaluation := job.get("evaluation"):
        steps += f", evaluation loss {loss(evaluation['loss']) or evaluation['loss_text']}"
    if progress and progress["tokens_per_s"] and job["state"] == "running":
        steps += f", {progress['tokens_per_s']:,.0f} tokens/s"
    left = words.eta(job, now)
    if progress and job.get("silent"):
        steps += f"; as it was told {span(progress['age_s'] or 0)} ago"
    elif progress and progress.get("stalled"):
        pace = f", a step takes {words.duration(progress['step_s'])}" if progress.get("step_s") else ""
        steps += f"; last step {span(progress['age_s'] or 0)} ago{pace}: it may hang"
    elif left and job["state"] == "running":
        steps += f", {left} to go"
    stopping = job["cancel_requested"] and job["state"] not in words.ENDED
    took = None if job["started_at"] is None else (job["ended_at"] or now) - job["started_at"]
    return [
        ("state", words.state(job["state"], stopping)),
        ("reason", words.silence(job, now) or words.why(job["reason"], now)),
        ("would help", _would_help(job)),
        ("starts", left if job["state"] == "queued" else ""),
        ("what", _what(job)),
        ("progress", steps),
        ("where", _where(job["hosts"], job["cards"])),
        ("wants", f"{_gpus(job['gpus'])}, priority {job['priority']}"),
        ("project", job["project"] if job["project"] != "default" else ""),
        ("group", "" if job["group"] is None else str(job["group"])),
        ("after", ", ".join(_link(link) for link in job["after"])),
        ("submitted", f"{words.ago(job['submitted_at'], now)} by {job['user']}"),
        ("started", words.ago(job["started_at"], now)),
        ("ended", words.ago(job["ended_at"], now)),
        ("took", span(took) if took is not None and job["ended_at"] else ""),
    ]


def _what(job: Job) -> str:
    if job.get("step"):
        return f"{job['step']} of what job {job['step_of']} trained: {job['model']}"
    return f"{job['trainer']}, {job['method']} of {job['model']}"


def _where(hosts: list[str], cards: list[str]) -> str:
    """A step has no cards."""
    return ", ".join(hosts) + (f": {words.cards(cards)}" if cards else "")


def _gpus(count: int) -> str:
    return counted(count, "GPU") if count else "no GPU"


def _step_row(step: StepShape) -> Row:
    told = step["result"] if step["state"] == "succeeded" and step["result"] else ""
    what = f"{step['reason']['text']}{f'; {told}' if told else ''}"
    return [f"  {step['kind']}", str(step["job"]), words.state(step["state"]), what]


def _would_help(job: Job) -> str:
    """What an ended job's reason suggests; nothing where it does not."""
    told = (
        (job["reason"] or {}).get("figures", {}).get("suggestions") if job["state"] in words.ENDED else None
    )
    return f"{'; '.join(told)}: `tuneyard why {job['id']}` has the commands" if told else ""


def _data(found: JobFull) -> list[tuple[str, Cell | str]]:
    """Its rows, as they were counted, and what to know of them."""
    data = found.get("data")  # an older server leaves both out
    warned = [("warning", Cell(text, "yellow")) for text in found.get("warnings", [])]
    if data is None:
        return [*warned]
    warned += [("warning", Cell(text, "yellow")) for text in data["warnings"]]
    said = "" if data["left_out"] in data["warnings"] else data["left_out"]
    return [("data", counted(data["rows"], "row") + (f"; {said}" if said else "")), *warned]


def _link(link: AfterShape) -> str:
    on = {"failure": " failing", "any": " ending"}.get(link["on"], "")
    return f"job {link['job']}{on} ({link['state']})"


def _show_attempt(attempt: Attempt, now: float) -> None:
    where = _where(attempt["hosts"], [gpu["name"] for gpu in attempt["gpus"]])
    show_heading(f"attempt {attempt['number']} on {where}")
    ended = words.ago(attempt["ended_at"], now)
    outcome = f"{attempt['outcome']} {ended}" if attempt["outcome"] else "open"
    style = {None: "", "succeeded": "green", "preempted": "yellow", "host_stopped": "yellow"}.get(
        attempt["outcome"], "red"
    )
    steps = f"{attempt['steps'] or 0} of {attempt['total_steps']}" if attempt["total_steps"] else ""
    show_fields(
        [
            ("outcome", Cell(outcome, style)),
            ("message", attempt["message"] or ""),
            ("checkpointing", attempt["rung"]["label"] if attempt["rung"] else ""),
            ("steps", steps),
            ("loss", _losses(attempt)),
            (
                "skipped",
                f"{counted(count, 'step')} (training.on_nan)" if (count := attempt.get("skipped")) else "",
            ),
            ("evaluation loss", loss(attempt.get("eval_loss"))),
            ("resumed", _resumed(attempt)),
            ("checkpoint", "" if attempt.get("checkpoints_gone") else attempt["last_checkpoint"] or ""),
            ("checkpoints", _checkpoints(attempt, now)),
            ("result", attempt["result"] or ""),
        ]
    )
    if rows := compared(attempt):
        show(COMPARED_COLUMNS, rows)
    if why_not := attempt["not_comparable"]:
        show_line(f"  not comparable: it {words.INCOMPARABLE.get(why_not, why_not)}")
    if attempt["gpus"] and attempt["outcome"] and not any((attempt["measured"] or {}).values()):
        show_line(f"  nothing was measured: {_unmeasured(attempt)}")


def _unmeasured(attempt: Attempt) -> str:
    steps = attempt["steps"] or 0
    if steps and (attempt.get("resumed") or {}).get("step") == steps:
        return "every step was done before, it published the result"
    return "no figure of its steps came from its host" if steps else "it ended before its first step"


def _losses(attempt: Attempt) -> str:
    """The first loss and the last, in words where that is no number any more."""
    first, last = loss(attempt["first_loss"]), attempt.get("last_loss_text") or loss(attempt["last_loss"])
    return f"{first} -> {last}" if first and last else last


def _checkpoints(attempt: Attempt, now: float) -> str:
    if gone := attempt.get("checkpoints_gone"):
        return words.CHECKPOINTS_GONE.get(gone, f"removed: {gone}")
    return "; ".join(_checkpoint(one, now) for one in attempt.get("checkpoints") or [])


def _resumed(attempt: Attempt) -> str:
    """Where it went on from; empty of a first attempt that had nowhere to."""
    told = attempt.get("resumed")
    if not told or (told["step"] is None and attempt["number"] == 1):
        return ""
    of = f" of job {told['job_id']}" if told.get("job_id") else ""
    return "at step 0" if told["step"] is None else f"after step {told['step']}{of}"


def _checkpoint(one: dict[str, Any], now: float) -> str:
    if not one["whole"]:
        return f"step {one['step']} is damaged"
    return f"step {one['step']}, {words.size(one['bytes'])}, checksums taken {words.ago(one['ts'], now)}"


def compared(attempt: Attempt) -> list[Row]:
    """Rows under COMPARED_COLUMNS: what was projected beside what was measured."""
    projection: dict[str, Any] = dict(attempt["projection"] or {})
    measured: dict[str, Any] = dict(attempt["measured"] or {})
    errors, ran_out = attempt["errors"] or {}, attempt["outcome"] == "oom"
    rows: list[Row] = []
    for name, key, form in (
        ("peak allocated", "allocated_bytes", words.size),
        ("peak reserved", "reserved_bytes", words.size),
        ("peak on card", "device_bytes", words.size),
        ("step time", "step_s", words.duration),
    ):
        left, right = projection.get(key), measured.get(key)
        if left is not None or right is not None:
            said, off = form(right), words.share(errors.get(key))
            if ran_out and key == "device_bytes" and off:  # how much more it wanted, nobody saw
                said, off = f"over {words.size(attempt['card_bytes'])}", f"≥ {off}"
            elif attempt["not_comparable"] and key != "step_s" and right is not None:
                off = "not comparable"
            rows.append([f"  {name}", form(left), said, off])
    if projection.get("upper_bytes"):
        rows.append(["  upper bound", words.size(projection["upper_bytes"]), "", ""])
    if measured.get("tokens_per_s") and attempt["outcome"]:  # the pace of now stands with the progress
        rows.append(["  tokens/s, mean", "", f"{measured['tokens_per_s']:,.0f}", ""])
    return rows


def _event_row(event: Any, now: float) -> Row:
    attempt = "" if event["attempt"] is None else str(event["attempt"])
    return [Cell("  " + words.ago(event["ts"], now), "dim"), attempt, event["kind"], _asked(event)]


def _asked(event: Any) -> str:
    """What happened, and who asked for it."""
    by = f", by {event['by']}" if event.get("by") else ""
    return str(event["text"]) + by + (f" from {event['address']}" if event.get("address") else "")


@click.command("why")
@click.argument("job")
@client_verb
def why_verb(api: Api, as_json: bool, job: str) -> None:
    """Explain why a job waits, or why it ended.

    JOB is an id or a name. Each host is listed with the first thing about it that does not fit.
    """
    found: Why = api.get(job_path(job, "/why"))
    if as_json:
        emit(found)
        return
    subject = found["job"]
    now = time.time()
    show_line(words.sentence(subject, now))
    if subject["state"] == "queued" and (start := words.eta(subject, now)):
        show_line(f"likely to start {start}")
    if found["hosts"]:
        click.echo("")
        show(
            WHY_COLUMNS,
            [[f"  {row['host']}", Cell(row["code"], "dim"), row["verdict"]] for row in found["hosts"]],
        )
    if found["advice"]:
        show_heading("what would help" if subject["state"] != "running" else "what happens, and what to do")
        for line in found["advice"]:
            show_line("  - ", line)
