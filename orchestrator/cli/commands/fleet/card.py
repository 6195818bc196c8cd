"""One card, as `tuneyard gpus CARD` shows it: what it does, what happened to it, which jobs ran on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from jobs.units import gib, span
from orchestrator.cli.output import emit
from orchestrator.cli.render import words
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Cell, Column, Row, show, show_fields, show_heading, show_line
from orchestrator.client.http import Api

if TYPE_CHECKING:
    from orchestrator.schemas import EventLine, EventPage, GpuFull, GpuJob, GpuJobPage

EVENT_COLUMNS = (
    Column("  WHEN", right=True),
    Column("EVENT", keep=6),
    Column("WHAT", wrap=True),
)
JOB_COLUMNS = (
    Column("  JOB", right=True),
    Column("NAME", flexible=True),
    Column("ATTEMPT", right=True, keep=3),
    Column("USER", keep=4, flexible=True),
    Column("FROM", right=True, keep=8),
    Column("HELD", right=True, keep=7),
    Column("OUTCOME", keep=8),
    Column("PROJECTED", right=True, keep=2),
    Column("MEASURED", right=True, keep=5),
)


def show_card(api: Api, card: str, as_json: bool, limit: int) -> None:
    """With the newest events and attempts, at most limit of each."""
    path = f"/gpus/{quote(card, safe='/')}"
    found: GpuFull = api.get(path)
    ran: GpuJobPage = api.get(f"/gpus/{found['id']}/jobs", limit=limit)
    told: EventPage = api.get("/events", card=found["id"], limit=limit)
    if as_json:
        emit({"gpu": found, "jobs": ran["jobs"], "events": told["events"]})
        return
    now = time.time()
    show_line(f"card {found['host']}/{found['index']}: {found['name']}")
    show_fields(_fields(found, now))
    if told["events"]:
        show_heading("what happened to it")
        show(EVENT_COLUMNS, [_event(event, now) for event in reversed(told["events"])])
    if ran["jobs"]:
        show_heading("jobs")
        show(JOB_COLUMNS, [_job(job, now) for job in ran["jobs"]])
    else:
        note("no job has run on it")
    if ran["more"] or told["more"]:
        note(f"there is more; -n shows more than {limit}, `tuneyard events --card {card}` all that happened")


def _fields(card: GpuFull, now: float) -> list[tuple[str, Cell | str]]:
    used, clock = words.latest(card).get("memory_used_bytes"), words.latest(card).get("sm_clock_mhz")
    memory = (
        gib(card["memory_bytes"]) if used is None else f"{gib(used)} of {gib(card['memory_bytes'])} in use"
    )
    state = words.STATE_STYLES.get(card["host_state"], "")
    seen = words.ago(card["host_seen"], now) if words.gone(card) and card["host_seen"] is not None else ""
    readings = [
        words.reading(card, "utilization", "{:.0f}% busy", 100),
        words.reading(card, "power_w", "{:.0f} W"),
        words.reading(card, "temperature_c", "{:.0f} °C"),
        "" if clock is None else f"{clock:.0f} MHz",
    ]
    return [
        ("uuid", card["uuid"]),
        ("fault", Cell(card["fault"] or "", "red")),
        ("host", Cell(f"{card['host_state']}{f', heard of {seen}' if seen else ''}", state)),
        ("there", "" if card["present"] else Cell("no: its host has it no more", "red")),
        ("memory", memory),
        ("reads", ", ".join(one for one in readings if one.strip("- "))),
        ("held by", ", ".join(f"job {job}" for job in card["jobs"])),
    ]


def _event(event: EventLine, now: float) -> Row:
    return [
        Cell(f"  {words.ago(event['ts'], now)}", "dim"),
        Cell(event["kind"], words.STATE_STYLES.get(event["kind"], "")),
        event["text"],
    ]


def _job(job: GpuJob, now: float) -> Row:
    until = now if job["released_at"] is None else job["released_at"]
    return [
        str(job["job"]),
        job["name"],
        str(job["number"]),
        job["user"],
        Cell(words.ago(job["opened_at"], now), "dim"),
        span(max(0.0, until - job["opened_at"])),
        words.state(job["outcome"] or "running"),
        words.size(job["projected_bytes"]),
        words.size(job["measured_bytes"]),
    ]
