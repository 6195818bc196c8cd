"""Answers that survive what is stored: made without the records that this version can't read, which they name."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import ResponseValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from jobs.errors import Conflict, InputError, NotFound, TuneyardError, UsageError
from jobs.jobfile.spec import JobSpec
from jobs.state import JobState
from orchestrator.api.edge.bodies import parse
from orchestrator.store.schema.column_types import Garbled
from orchestrator.store.unreadable import LeftOut, Noted, each, leaving_out

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
# What may be said of a request only because the record that it is about was left out.
_MISTAKEN = (NotFound, Conflict, InputError, UsageError)
_KINDS = {"jobs": "job", "attempts_detail": "attempt", "hosts": "host", "gpus": "card", "events": "event"}


class Surviving(APIRoute):
    """A route; that of a GET answers without the rows that can't be read, and lists them as `unreadable`. One that
    changes something never answers that it failed where it was done.

    Where there is nothing else to answer with, it raises Garbled, which names them.
    """

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        return self._surviving(handle) if self.methods == {"GET"} else self._parsing(_telling(handle))

    def _parsing(self, handle: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            await parse(self, request)
            return await handle(request)

        return answer

    def _surviving(self, handle: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            with leaving_out() as noted:
                try:
                    response = await handle(request)
                except ResponseValidationError as error:
                    response = JSONResponse(self._without(error, noted))
                except _MISTAKEN as error:
                    if not noted:
                        raise
                    raise Garbled("; ".join(map(str, noted.values()))) from error
            return _naming(response, noted)

        return answer

    def _without(self, error: ResponseValidationError, noted: Noted) -> Any:
        """The answer without those of its parts that are not what the document says. Raises Garbled."""
        body, errors = error.body, [*error.errors()]
        assert self.response_field is not None
        while errors:
            _take_out(body, errors[0], noted)
            body, errors = self.response_field.validate(body, {}, loc=("response",))
        return self.response_field.serialize(body, mode="json")


def _telling(handle: Handler) -> Handler:
    """Of a request that changes something: a fault of the job that it is about is told as that.

    Raises Garbled, which names the job: whether the request was carried out, the audit tells.
    """

    async def answer(request: Request) -> Response:
        try:
            return await handle(request)
        except TuneyardError:
            raise
        except Exception as error:  # whatever a record of another version makes of itself
            why = await run_in_threadpool(_fault_of_job, request)
            if why is None and isinstance(error, ResponseValidationError) and "job" in request.path_params:
                first = error.errors()[0]
                field = ".".join(map(str, first["loc"][1:]))
                why = str(LeftOut("job", request.path_params["job"], f"{field}: {first['msg']}"))
            if why is None:
                raise
            raise Garbled(f"{why}; `tuneyard audit` tells whether this was carried out") from error

    return answer


def _fault_of_job(request: Request) -> str | None:
    """Why the job that the path names can't be read, None where it can, or where the path names none."""
    job = request.path_params.get("job")
    if job is None:
        return None
    with leaving_out() as noted, contextlib.suppress(NotFound):
        row = request.app.state.services.store.find_job(job)
        each(
            "job",
            [row],
            lambda one: one.id,
            lambda one: (JobState(one.state), JobSpec.model_validate(one.spec)),
        )
    return "; ".join(map(str, noted.values())) or None


def _take_out(body: Any, error: dict[str, Any], noted: Noted) -> None:
    """Removes the innermost member of a list that has an error, and notes it."""
    _, *path = error["loc"]
    found: tuple[list[Any], int, str] | None = None
    inner, at, listed = body, 0, ""
    for at, step in enumerate(path):
        if isinstance(inner, list) and isinstance(step, int):
            found = (inner, step, listed)
            field = ".".join(map(str, path[at + 1 :]))
        listed = str(step) if isinstance(step, str) else listed
        try:
            inner = inner[step]
        except (LookupError, TypeError):  # the rest of the path is of a type, not of the body
            break
    why = f"{error['msg']} ({str(error.get('input'))[:60]!r})"
    if found is None:
        raise Garbled(f"what is stored can't be read by this version: {'.'.join(map(str, path))}: {why}")
    members, place, listed = found
    member = members.pop(place)
    named = next((member[key] for key in ("id", "name", "number", "job") if key in member), place + 1)
    kind = _KINDS.get(listed, listed)
    noted.setdefault((kind, named), LeftOut(kind, named, f"{field}: {why}" if field else why))


def _naming(response: Response, noted: Noted) -> Response:
    if not noted or response.status_code >= 300 or response.media_type != "application/json":
        return response
    value = json.loads(bytes(response.body))
    value["unreadable"] = [{"kind": one.kind, "id": one.key, "why": one.why} for one in noted.values()]
    return JSONResponse(value, response.status_code)
