"""Every refusal has one shape, and stands in the OpenAPI document of the routes that give it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Any, get_args

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from starlette.exceptions import HTTPException
from starlette.routing import Match

from jobs import errors
from jobs.errors import Fault
from orchestrator.store.schema.column_types import Garbled

log = logging.getLogger(__name__)

TEXTS = {
    401: "The token is missing or wrong.",
    404: "There is nothing of that name.",
    408: "The request did not come in time.",
    409: "It is not in a state that allows this, or what is stored of it can't be read (`unreadable`).",
    413: "The request is too large, or its body has no length.",
    422: "Something given can't be used; `faults` has every fault.",
    429: "Too much was asked for at once; Retry-After says when to come again.",
    500: "The server failed; its log says why.",
    503: "The database, or what else it needs, is away.",
}
_KINDS: list[tuple[type[errors.TuneyardError], int, str]] = [
    (errors.SpecError, 422, "spec"),
    (errors.UsageError, 422, "usage"),
    (errors.InputError, 422, "usage"),
    (errors.NotFound, 404, "not_found"),
    (errors.Conflict, 409, "conflict"),
    (Garbled, 409, "unreadable"),
    (errors.Unauthorized, 401, "unauthorized"),
    (errors.TooLarge, 413, "usage"),
    (errors.Busy, 429, "busy"),
    (errors.Unavailable, 503, "unavailable"),
]
_BY_STATUS = {status: kind for _, status, kind in reversed(_KINDS)}
_SHOWN = 80  # characters of what was given
# An answer is written on the event loop: a body of 200,000 unknown keys must not hold it up with as many faults.
MOST_FAULTS, MOST_MESSAGE = 1000, 200_000
_NEAR = 20


class BadRequest(errors.UsageError):
    """A request with faults in its parameters or its body; carries all of them."""

    def __init__(self, message: str, faults: list[Fault]) -> None:
        super().__init__(message)
        self.faults = faults


def bad_parameter(name: str, given: object, fix: str, problem: str = "is not usable") -> BadRequest:
    """The refusal of one parameter. fix: what would be right."""
    fault = Fault(name, str(given)[:_SHOWN], problem, fix)
    return BadRequest(f"{name}: {given} {problem}; {fix}", [fault])


def raises(*kinds: type[errors.TuneyardError]) -> dict[int | str, dict[str, Any]]:
    """What a route's document says of the errors that it alone raises; openapi.py adds what every route may."""
    return {status: response(status) for kind, status, _ in _KINDS if kind in kinds}


def response(status: int) -> dict[str, Any]:
    """A refusal as the OpenAPI document has it."""
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": TEXTS[status], "content": {"application/json": {"schema": schema}}}


def known_error(request: Request, error: Exception) -> JSONResponse:
    """The answer to an error of jobs.errors."""
    found = ((status, kind) for cls, status, kind in _KINDS if isinstance(error, cls))
    status, kind = next(found, (500, "internal"))
    faults = list(getattr(error, "faults", ()))
    if status == 422 and not faults:
        faults = [Fault("", "", str(error))]
    if isinstance(error, errors.Busy):
        after_s = math.ceil(error.retry_after_s)
        return _answer(
            status, kind, str(error), faults, {"retry_after_s": after_s}, {"Retry-After": f"{after_s}"}
        )
    return _answer(status, kind, str(error), faults)


def invalid(request: Request, error: Exception) -> JSONResponse:
    """The answer to what FastAPI finds wrong with the parts of a request."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        faults = [body_fault(error.body)]
    else:
        numbers = _numbers(request)
        faults = [
            _not_in_range(item, numbers[name])
            if item["loc"][0] == "query" and (name := str(item["loc"][1])) in numbers
            else _fault(item, item["loc"][1:])
            for item in found[: MOST_FAULTS + 1]
        ]
    return known_error(request, unreadable(faults))


def _numbers(request: Request) -> dict[str, str]:
    """The numbers among the parameters of a request's route: which ones each takes, in words."""
    fields = request.scope["route"].dependant.query_params
    return {field.alias: text for field in fields if (text := _range(field.field_info))}


def _range(field: FieldInfo) -> str:
    """Such as "a whole number from 1 to 1000"; empty for what is no number."""
    kinds = {field.annotation, *get_args(field.annotation)} & {int, float}
    if not kinds:
        return ""
    words = "a whole number" if int in kinds else "a number"
    bounds = {
        name: getattr(one, name)
        for one in field.metadata
        for name in ("ge", "le", "lt")
        if hasattr(one, name)
    }
    if "ge" in bounds:
        words += f" from {bounds['ge']}"
    if "le" in bounds:
        words += f" to {bounds['le']}"
    elif "lt" in bounds:
        words += f" to {bounds['lt'] - 1}"
    return f"{words} ({field.description})" if field.description else words


def _not_in_range(item: dict[str, Any], wanted: str) -> Fault:
    """A parameter that is no number, or one out of its range."""
    return Fault(str(item["loc"][1]), str(item.get("input"))[:_SHOWN], "is not usable", f"write {wanted}")


def http_error(request: Request, error: Exception) -> JSONResponse:
    """The answer to what Starlette refuses: no such route or method, a body that it can't take in."""
    assert isinstance(error, HTTPException)
    if error.status_code == 400 and error.__cause__ is not None:  # FastAPI, of a body that is no JSON
        return known_error(request, unreadable([_no_json(error.__cause__)]))
    kind = _BY_STATUS.get(error.status_code, "usage")
    said, headers = error.detail, dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
        said = f"this takes {headers['Allow']}"
    elif error.status_code == 404:
        said = "there is no such route; docs/openapi.json has those there are"
    return _answer(
        error.status_code, kind, f"{request.method} {request.url.path}: {said}", [], headers=headers
    )


def _methods(request: Request) -> list[str]:
    """What the routes of this path take, all together."""
    scope = dict(request.scope)
    found = {
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    }
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


def unknown_error(request: Request, error: Exception) -> JSONResponse:
    """The answer to a fault of ours."""
    log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    text = f"the server failed on {request.method} {request.url.path}; its log says why"
    return _answer(500, "internal", text, [])


def of_body(error: ValidationError, body: bytes) -> BadRequest:
    """The refusal of a body that pydantic read itself."""
    found = error.errors(include_url=False)
    if found[0]["type"] == "json_invalid":
        return unreadable([body_fault(body)])
    return unreadable([_fault(dict(item), item["loc"]) for item in found[: MOST_FAULTS + 1]])


def unreadable(faults: list[Fault]) -> BadRequest:
    """The refusal of a request with these faults."""
    return BadRequest(f"the request is not readable: {'; '.join(map(str, faults))}", faults)


def body_fault(body: bytes | str) -> Fault:
    """What is wrong with a body that is not JSON, and where."""
    try:
        json.loads(body)
    except (ValueError, RecursionError) as error:
        return _no_json(error)
    return Fault(
        "body", "", "is not JSON: it has half of a surrogate pair"
    )  # Python takes it, nobody else does


def _no_json(error: BaseException) -> Fault:
    if isinstance(error, json.JSONDecodeError):
        near = error.doc[error.pos : error.pos + _NEAR]
        return Fault("body", near, f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}")
    if isinstance(error, UnicodeDecodeError):
        return Fault("body", "", f"is not JSON: it is not UTF-8 text (byte {error.start + 1})")
    if isinstance(error, RecursionError):
        return Fault("body", "", "is nested too deeply")
    return Fault("body", "", f"is not JSON: {error}")  # a number of too many digits


def _fault(item: dict[str, Any], where: tuple[int | str, ...]) -> Fault:
    """A fault as pydantic has it."""
    path = ".".join(map(str, where)) or "body"
    if item["type"] == "missing":
        return Fault(path, "", "is missing")
    given = item.get("input")
    if path == "body" and isinstance(given, bytes):
        fix = "send JSON, with the header Content-Type: application/json"
        return Fault(path, "", "is not marked as JSON", fix)
    return Fault(path, str(given)[:_SHOWN], item["msg"])


def _answer(
    status: int,
    kind: str,
    message: str,
    faults: list[Fault],
    more: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    if len(faults) > MOST_FAULTS:
        faults = [*faults[:MOST_FAULTS], Fault("", "", f"there are more than these {MOST_FAULTS:,} faults")]
    if len(message) > MOST_MESSAGE:
        message = f"{message[:MOST_MESSAGE]} ..."
    # What was given may have characters that no answer can.
    listed = [{key: _plain(text) for key, text in fault.as_dict().items()} for fault in faults]
    body = {"kind": kind, "message": _plain(message), "faults": listed, **(more or {})}
    return JSONResponse({"error": body}, status, headers)


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
