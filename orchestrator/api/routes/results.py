"""Routes of results: what one is made of, its bytes, and the pieces that its host sends for that."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Literal

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Send

from jobs.errors import Conflict, NotFound, TuneyardError, Unavailable
from jobs.identity import result_fault
from jobs.messages.send_result import SendOrder
from jobs.state import JobState, Outcome
from orchestrator import schemas
from orchestrator.api.context import Services
from orchestrator.api.edge.refusals import raises
from orchestrator.api.edge.surviving import Surviving
from orchestrator.api.responses.presence import is_online
from orchestrator.api.routes.jobs import services
from orchestrator.control.assignments import Owners
from orchestrator.store.rows import AttemptRow, JobRow
from orchestrator.transfer.relay import Transfer

log = logging.getLogger(__name__)
router = APIRouter(route_class=Surviving)

MANIFEST_BYTES = 16 << 20
_FAILURES: dict[str, type[TuneyardError]] = {"not_found": NotFound, "conflict": Conflict}


@router.get("/jobs/{job}/result", responses=raises(NotFound, Conflict))
async def result(request: Request, job: str) -> schemas.Result:
    """What a job's result is made of, as its manifest on its host says."""
    known = services(request)
    row, attempt = await run_in_threadpool(_where, known, job)
    order = await run_in_threadpool(_order, known, row, attempt, "manifest")
    transfer = known.relay.open(attempt.host_id, attempt.host, order)
    raw = b""
    try:
        await transfer.begun()
        async for piece in transfer.pieces():
            raw += piece
            if len(raw) > MANIFEST_BYTES:
                raise Conflict(f"the manifest in {attempt.result} has more than {MANIFEST_BYTES} bytes")
    finally:
        await known.relay.close(transfer)
    return await run_in_threadpool(_described, row, attempt, order, raw)


@router.get("/jobs/{job}/result/files", responses=raises(NotFound, Conflict))
async def files(request: Request, job: str, manifest: str, offset: int = Query(0, ge=0)) -> StreamingResponse:
    """The bytes of a result's files, one after the other by name. manifest: sha256 of the one that the reader goes
    by; offset: of the first byte, over all files.
    """
    known = services(request)
    row, attempt = await run_in_threadpool(_where, known, job)
    order = await run_in_threadpool(_order, known, row, attempt, "files", offset, manifest)
    transfer = known.relay.open(attempt.host_id, attempt.host, order)
    try:
        await transfer.begun()  # the answer's status must be right before its first byte goes
    except BaseException:
        await known.relay.close(transfer)
        raise
    headers = {"content-length": str((transfer.total or 0) - offset)}
    return _Stream(_closing(known, transfer), 200, headers, "application/octet-stream")


@router.put("/transfers/{order_id}", responses=raises(NotFound, Conflict))
async def put_piece(request: Request, order_id: str, offset: int, total: int) -> dict[str, int]:
    """A piece of a file from its host. The answer comes once there is room for the next."""
    transfer = services(request).relay.find(order_id)
    await transfer.put(offset, total, request.body)
    return {"next": transfer.next}


@router.post("/transfers/{order_id}/failure", responses=raises(NotFound))
async def fail_order(
    request: Request, order_id: str, kind: str = Body(embed=True), message: str = Body(embed=True)
) -> dict[str, str]:
    """The host can't send it, or no more of it."""
    transfer = services(request).relay.find(order_id)
    await transfer.fail(_FAILURES.get(kind, Unavailable)(f"{message} (host {transfer.host})"))
    return {}


def _where(known: Services, job: str) -> tuple[JobRow, AttemptRow]:
    """The job, and the attempt that has its result. Raises Conflict and Unavailable with what would be right."""
    row = known.store.find_job(job)
    named = f"job {row.id} ({row.name})" if row.name else f"job {row.id}"
    if row.state is not JobState.SUCCEEDED:
        now = "was cancelled" if row.state is JobState.CANCELLED else f"{row.state}"
        then = (
            f"`tuneyard show {row.id}` names its last checkpoint"
            if row.ended
            else "it has one when it succeeds"
        )
        raise Conflict(f"{named} {now if row.ended else f'is {now}'}, so there is no result; {then}")
    ended = [one for one in known.store.attempts(row.id) if one.outcome is Outcome.SUCCEEDED and one.result]
    if not ended:
        raise NotFound(f"{named} has succeeded and named no result; `tuneyard logs {row.id}` may say why")
    attempt = ended[-1]
    if not is_online(known, known.store.host(attempt.host_id)):
        raise Unavailable(
            f"host {attempt.host}, which has the result of {named} in {attempt.result}, does not answer; "
            "try again when `tuneyard hosts` shows it online"
        )
    return row, attempt


def _order(
    known: Services,
    row: JobRow,
    attempt: AttemptRow,
    what: Literal["manifest", "files"],
    offset: int = 0,
    manifest: str = "",
) -> SendOrder:
    return SendOrder(
        job_id=row.id,
        attempt_id=attempt.id,
        attempt_uuid=attempt.uuid,
        owner=Owners(known.store, {row.id: row}).of(row)["owner"],
        epoch=known.store.epoch(),
        folder=attempt.result or "",
        what=what,
        offset=offset,
        manifest_sha256=manifest,
    )


class _Stream(StreamingResponse):
    """What fails on the way ends the connection: the reader sees that it is not whole, and asks again."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except TuneyardError as error:
            log.warning("a result is not sent to its end: %s", error)


async def _closing(known: Services, transfer: Transfer) -> AsyncIterator[bytes]:
    try:
        async for piece in transfer.pieces():
            yield piece
    finally:
        await known.relay.close(transfer)


def _described(row: JobRow, attempt: AttemptRow, order: SendOrder, raw: bytes) -> schemas.Result:
    """Raises Conflict where the manifest is not that of this job."""
    try:
        manifest = json.loads(raw)
        listed = manifest["files"].items()
        found: list[schemas.ResultFile] = [
            {"name": name, "size": int(facts["size"]), "sha256": str(facts["sha256"])}
            for name, facts in sorted(listed)
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Conflict(f"the manifest in {attempt.result} on host {attempt.host} is damaged") from None
    assert order.owner is not None
    if fault := result_fault(manifest, order.owner, attempt.id, attempt.uuid):
        raise Conflict(f"what {attempt.result} on host {attempt.host} holds {fault}")
    return {
        "job": row.id,
        "name": row.name,
        "attempt": attempt.number,
        "host": attempt.host,
        "folder": attempt.result or "",
        "kind": str(manifest.get("kind", "")),
        "bytes": sum(file["size"] for file in found),
        "files": found,
        "manifest": raw.decode(),
        "manifest_sha256": sha256(raw).hexdigest(),
    }
