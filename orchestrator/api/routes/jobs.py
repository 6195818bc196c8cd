"""Routes of jobs: submit, list, show, logs, cancel."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from operator import attrgetter
from typing import Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from pydantic_core import to_json

from jobs.errors import Busy, Conflict, NotFound
from jobs.jobfile.spec import JobSpec, schema
from jobs.memory import remedies
from jobs.state import JobState
from jobs.units import counted
from orchestrator import schemas
from orchestrator.api.actors import actor, address
from orchestrator.api.checkpoints import standing, unneeded
from orchestrator.api.context import Services
from orchestrator.api.edge.budget import Allowance
from orchestrator.api.edge.lanes import ToStore
from orchestrator.api.edge.query import check_query
from orchestrator.api.edge.refusals import bad_parameter, of_body, raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.responses import views
from orchestrator.api.responses.presence import shower
from orchestrator.api.submission.idempotency import key_of
from orchestrator.api.submission.steps import queued, with_steps
from orchestrator.api.submission.validation import Submission, check_secrets, read_jobs, replaced
from orchestrator.control.snapshot.sequence_lengths import data_of, warnings_of
from orchestrator.store import unreadable
from orchestrator.store.jobs.listing import Wanted
from orchestrator.store.jobs.submissions import Taken
from orchestrator.store.requests import NewSubmission
from orchestrator.store.rows import AttemptRow, JobView

router = APIRouter(route_class=Surviving)
MAX_PAGE = 1000
MAX_LOG_BYTES = 4 * 2**20


def services(request: Request) -> Services:
    made: Services = request.app.state.services
    return made


def parse_body(body: bytes) -> Submission:
    """The submission in a request's body. Raises BadRequest."""
    try:
        return Submission.model_validate_json(body)
    except ValidationError as error:
        raise of_body(error, body) from None


@router.post("/jobs", status_code=201, responses=raises(Busy))
async def submit(request: Request) -> Response:
    """Store jobs, all or none; each is durable before this answers. ?dry_run=true: only check them."""
    # Reads the body and writes the answer itself: FastAPI's own way costs more than the durable insert.
    dry_run = _dry_run(request)
    body = await request.body()
    return await services(request).lanes.run(
        address(request), len(body), lambda allowance: _submitted(request, body, dry_run, allowance)
    )


def _submitted(
    request: Request, raw: bytes, dry_run: bool, allowance: Allowance
) -> Response | ToStore[Response]:
    """All that a submission is, on a thread: it is parsed, and files are looked at. What is left to store."""
    known = services(request)
    store = known.store
    key = None if dry_run else key_of(request, raw)
    wanted = parse_body(raw)
    if key is not None and (taken := store.taken(key)) is not None:
        return _told(known, wanted, taken)  # before its files are looked at: they may be gone by now
    asks = actor(request, wanted.user)
    read = read_jobs(
        *(wanted, known.settings, known.facts(), store.job_states, store.newest_of, asks),
        spend=allowance.check,
    )
    check_secrets((spec for spec, _ in read), store.secret_names)
    if dry_run:
        answer: dict[str, Any] = {"jobs": [], "valid": [spec.model_dump(mode="json") for spec, _ in read]}
        answer["replaced"] = replaced(wanted.jobs)
        answer["warnings"] = remedies.warnings_of(spec for spec, _ in read)
        return Response(json.dumps(answer), 200, media_type="application/json")

    def stored(made: Taken) -> Response:
        known.controller.wake()
        if made.again:  # another thread was quicker
            return _told(known, wanted, made)
        linked = [row.id for row, job in zip(made.rows, jobs, strict=True) if job.links and not job.step_of]
        return _told(known, wanted, made, linked, [spec for spec, _ in read])

    jobs = with_steps(read)
    return ToStore(NewSubmission(jobs, key), stored)


def _told(
    known: Services,
    wanted: Submission,
    taken: Taken,
    linked: Sequence[int] | None = None,
    specs: Sequence[JobSpec] | None = None,
) -> Response:
    """The answer to a submission. linked: ids of jobs that wait for others, None: any may; specs: of the jobs, None: as
    they are stored.
    """
    trains = [at for at, row in enumerate(taken.rows) if row.step_of is None]
    rows, values = [taken.rows[at] for at in trains], [taken.values[at] for at in trains]
    waits = known.store.links([row.id for row in rows] if linked is None else linked)
    found = [JobSpec.model_validate(row.spec) for row in rows] if specs is None else specs
    answer: schemas.Submitted = {
        "jobs": [views.submitted(row, waits.get(row.id, ())) for row in rows],
        "steps": queued(taken.rows),
        "groups": views.groups(rows, values),
        "replaced": replaced(wanted.jobs),
        "warnings": [
            *remedies.warnings_of(found),
            *warnings_of(known.lengths, [(row.id, spec) for row, spec in zip(rows, found, strict=True)]),
        ],
        "again": taken.again,
    }
    return Response(to_json(answer), 201, media_type="application/json")


def _dry_run(request: Request) -> bool:
    if not request.scope["query_string"]:
        return False
    check_query(request, ("dry_run",))
    given = request.query_params.get("dry_run", "false")
    if given.lower() not in ("0", "1", "false", "true"):
        raise bad_parameter("dry_run", given, "write true or false")
    return given.lower() in ("1", "true")


@router.get("/jobs", responses=raises(NotFound))
def list_jobs(
    request: Request,
    state: str = "",
    limit: int = Query(50, ge=1, le=MAX_PAGE),
    before: int | None = Query(None, ge=0, lt=2**31, description="the id of a job"),
    group: str | None = None,
    project: str | None = None,
    user: str | None = None,
    name: str | None = None,
    since: float | None = Query(None, allow_inf_nan=False, description="Unix seconds"),
    sort: str = "-id",
    offset: int = Query(0, ge=0, lt=2**31, description="rows to pass over"),
) -> schemas.JobPage:
    """Newest first. state: names with commas between; group: its id or name; name: a pattern with * ? [abc];
    since: submitted then or later, Unix seconds; sort: a column, with a minus in front for the greatest first;
    before: an id, for the next page of the newest first; offset: rows to pass over, for the next page of others.
    """
    if before is not None and sort != "-id":
        raise bad_parameter("before", before, "use offset", f"goes by id, and these are sorted by {sort}")
    for key, value in (("group", group), ("project", project), ("user", user), ("name", name)):
        if value is not None and not value.strip():
            raise bad_parameter(key, repr(value), "write a name, or leave it out for all jobs", "is empty")
    known = services(request)
    wanted = Wanted(
        states=_states(state),
        group=None if group is None else known.store.find_group(group),
        project=project,
        user=user,
        name=name,
        since=since,
        sort=sort,
    )
    found = known.store.listing(wanted, limit, before, offset)
    return {
        "jobs": each_shown(found.views, shower(known)),
        "more": found.more,
        "total": found.total,
    }


def each_shown(found: Iterable[JobView], show: Callable[[JobView], schemas.Job]) -> list[schemas.Job]:
    """The jobs as they are shown, except those that can't be."""
    return unreadable.each("job", found, lambda view: view.job.id, show)


def _states(text: str) -> frozenset[JobState] | None:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in set(JobState):
            raise bad_parameter("state", name, f"write {', '.join(JobState)}", "is no state")
    return frozenset(map(JobState, names)) or None


@router.get("/jobs/{job}", responses=raises(NotFound))
def show(request: Request, job: str) -> schemas.JobFull:
    """One job by id or name, with its attempts and events."""
    known = services(request)
    store = known.store
    row = store.find_job(job)
    with unreadable.one("job", row.id):
        view = store.job_view(row.id)
        attempts = store.attempts(row.id)
        latest = store.latest_progress([attempt.id for attempt in attempts])
        data = data_of(store, view.job, attempts)
        shown = shower(known)(view)
        spec = view.job.spec
        warned = remedies.warnings_stored(spec)
        left = standing(attempts, bool(unneeded(known, [row.id])))
        tried = unreadable.each(
            "attempt",
            attempts,
            attrgetter("id"),
            lambda one: views.attempt(one, latest.get(one.id), left[one.id]),
        )
        following = store.steps_of([row.id]).get(row.id, [])
        tries = store.histories([one.id for one in following])
        steps = unreadable.each(
            "job", following, attrgetter("id"), lambda one: views.step(one, tries[one.id])
        )
        return views.job_full(shown, spec, tried, store.events(row.id), data, warned, steps)


@router.post("/jobs/{job}/cancel", responses=raises(NotFound, Conflict))
def cancel(request: Request, job: str) -> schemas.Job:
    """Ask a job to end. A queued one ends at once; a running one saves a checkpoint first."""
    known = services(request)
    row = known.store.request_cancel(
        known.store.find_job(job).id, known.controller.clock(), actor=actor(request)
    )
    stop(known, {row.id})
    return views.job(known.store.job_view(row.id))


def stop(known: Services, job_ids: Collection[int]) -> None:
    """Ask for the end of what runs of jobs that were cancelled."""
    for attempt in known.store.open_attempts():
        if attempt.job_id in job_ids:
            known.store.request_stop(attempt.id, "cancelled", known.controller.clock())
    known.controller.wake()


@router.get("/jobs/{job}/logs", responses=raises(NotFound))
def logs(
    request: Request,
    job: str,
    attempt: int | None = None,
    offset: int | None = Query(None, ge=0, description="bytes of the log to pass over"),
    limit: int = Query(1_000_000, ge=1, le=MAX_LOG_BYTES, description="bytes"),
    since: float | None = Query(None, allow_inf_nan=False, description="Unix seconds"),
) -> schemas.LogPage:
    """The log of an attempt (the latest by default) from a byte offset, or what was stored since then.

    since: Unix seconds, in place of an offset; what an older version stored has no time and comes too.
    """
    if since is not None and offset is not None:
        raise bad_parameter("since", since, "leave out one of the two", "stands beside an offset")
    store = services(request).store
    row = store.find_job(job)
    attempts = store.attempts(row.id)
    if not attempts and attempt is None:
        return {"attempt": 0, "offset": 0, "text": "", "next_offset": 0, "bytes": 0, "ended": row.ended}
    found = _attempt(attempts, attempt, row.id)
    begin = store.log_since(found.id, since) if since is not None else offset
    page = store.logs(found.id, found.log_bytes if begin is None and since is not None else begin or 0, limit)
    ended = found.outcome is not None and page.next_offset >= found.log_bytes
    return {
        "attempt": found.number,
        "offset": page.offset,
        "text": page.text,
        "next_offset": page.next_offset,
        "bytes": found.log_bytes,
        "ended": ended,
    }


def _attempt(attempts: list[AttemptRow], number: int | None, job_id: int) -> AttemptRow:
    if number is None:
        return attempts[-1]
    for found in attempts:
        if found.number == number:
            return found
    raise NotFound(f"job {job_id} has no attempt {number}; it has {counted(len(attempts), 'attempt')}")


@router.get("/schema")
def job_schema() -> dict[str, Any]:
    """JSON schema of the job file."""
    return schema()
