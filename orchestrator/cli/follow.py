"""Watching jobs to their end: states, logs, exit codes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from orchestrator.cli.log_output import LogOutput
from orchestrator.cli.render import words
from orchestrator.cli.render.notes import note
from orchestrator.client.http import PATIENCE_S, Api, Patience, job_path

if TYPE_CHECKING:
    from orchestrator.schemas import Attempt, Job, JobFull

POLL_S = 0.5
RUNNING_POLL_S = 1.0  # hosts tell no sooner, and each look takes time from what trains on this machine

EXIT_CODES = {
    "succeeded": 0,
    "failed": 1,
    "cancelled": 3,
    "oom": 4,
    "timeout": 5,
    "lost": 6,
    "not_started": 6,
}


def exit_code(job: Job) -> int:
    """The exit code of --wait for a job that has ended."""
    if job["state"] == "succeeded":
        return EXIT_CODES["succeeded"]
    if job["state"] == "cancelled":
        return EXIT_CODES["cancelled"]
    return EXIT_CODES.get(job["reason"]["code"], EXIT_CODES["failed"])


def wait(api: Api, ids: list[int], quiet: bool) -> list[Job]:
    """Wait until every job has ended; the jobs as they ended. Unless quiet, moves are told on stderr."""
    told: dict[int, str] = {}
    ended: dict[int, Job] = {}
    patience = Patience((lambda _: None) if quiet else note)
    while len(ended) < len(ids):
        running = True
        for number in ids:
            if number in ended:
                continue
            job: Job | None = None
            with patience.bear():
                job = api.get(job_path(str(number)))
            if job and not quiet:
                _tell(job, told)
            if job and job["state"] in words.ENDED:
                ended[number] = job
            elif job is None or job["state"] != "running":
                running = False
        if len(ended) < len(ids):
            time.sleep(RUNNING_POLL_S if running else POLL_S)
    return [ended[number] for number in ids]


def follow(
    api: Api,
    name: str,
    attempt: int | None,
    out: LogOutput | None,
    since: float | None = None,
    patience_s: float | None = PATIENCE_S,
) -> JobFull:
    """Print a job's log as it grows, attempt after attempt, until the job (or the asked attempt) has ended.

    The job as it was last seen. out: where the log goes, None: nothing is printed, it only waits; since: Unix seconds;
    patience_s: how long a server that is away is waited for, None: for good.
    """
    told: dict[int, str] = {}
    number = attempt or 0
    patience = Patience((lambda _: None) if out is None else note, patience_s)
    while True:
        job: JobFull | None = None
        with patience.bear():
            job = api.get(job_path(name))
        if job is None:
            time.sleep(POLL_S)
            continue
        if out is not None:
            _tell(job, told)
        following = attempt or next(
            (a["number"] for a in job["attempts_detail"] if a["number"] > number), None
        )
        if following is not None:
            _stream(api, job, following, patience, out, since)
            number = following
            if attempt:
                return job
        elif job["state"] in words.ENDED:
            return job
        else:
            time.sleep(POLL_S)


def _stream(
    api: Api, job: JobFull, attempt: int, patience: Patience, out: LogOutput | None, since: float | None
) -> None:
    detail: Attempt | None = next((a for a in job["attempts_detail"] if a["number"] == attempt), None)
    if detail and out is not None and (job["attempts"] > 1 or attempt > 1):
        note(f"--- attempt {attempt} on {', '.join(detail['hosts'])} ---")
    if out is not None:
        out.begin(following=True)
    offset: int | None = None if since else 0
    while True:
        page: dict[str, Any] | None = None
        with patience.bear():
            path = job_path(str(job["id"]), "/logs")
            page = api.get(path, attempt=attempt, offset=offset, since=since if offset is None else None)
        if page and page["text"]:
            offset = page["next_offset"]
            if out is not None:
                out.feed(page["text"])
                offset = out.resume_at(page)
        elif page and page["ended"]:
            if out is not None:
                out.end()
            return
        else:
            offset = page["next_offset"] if page else offset
            time.sleep(POLL_S)


def _tell(job: Job, told: dict[int, str]) -> None:
    cards = words.cards(job["cards"])
    if job["state"] == "running":
        where = f" on {', '.join(job['hosts'])} ({cards})" if job["hosts"] and cards else ""
        line = f"{words.label(job)} is running{where}"
    else:
        line = words.sentence(job, None)
        if job["state"] in words.ENDED and ((job["reason"] or {}).get("figures") or {}).get("suggestions"):
            line += f"; `tuneyard why {job['id']}` says what would help"
    if told.get(job["id"]) != line:
        told[job["id"]] = line
        note(line)
