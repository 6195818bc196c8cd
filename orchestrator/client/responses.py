"""What a server's answer means: its JSON, or one of jobs.errors. Shared by the CLI and the Python client."""

from __future__ import annotations

import json
from typing import Any

from jobs.errors import (
    Busy,
    Conflict,
    Fault,
    NotFound,
    SpecError,
    TuneyardError,
    Unauthorized,
    Unavailable,
    UsageError,
)

PREFIX = "/api/v1"
USER_HEADER = "X-Tuneyard-User"  # who asks, percent-encoded
KEY_HEADER = "Idempotency-Key"  # of a submission, so that asking again makes no second one
START_HINT = "start one with `tuneyard up`, or name one with --server or TUNEYARD_URL"
_CHECK_HINT = "check --server or TUNEYARD_URL"
_KINDS: dict[str, type[TuneyardError]] = {
    "usage": UsageError,
    "not_found": NotFound,
    "conflict": Conflict,
    "unreadable": Conflict,
    "unauthorized": Unauthorized,
    "unavailable": Unavailable,
}


def decode(status: int, content_type: str, raw: bytes, url: str) -> dict[str, Any]:
    """The JSON object of an answer. Raises what jobs.errors has for a refusal, or for what is no tuneyard."""
    if status == 401:
        raise Unauthorized(
            f"the server at {url} refused the token, or was given none; "
            "give the one in config.json of its home with TUNEYARD_TOKEN or --token"
        )
    try:
        value = json.loads(raw)
    except ValueError:
        found = f"HTTP {status}, {content_type or 'no content type'}"
        raise Unavailable(
            f"what answers at {url} is not a tuneyard server ({found}); {_CHECK_HINT}"
        ) from None
    if status >= 400:
        raise _refusal(status, value, url)
    if not isinstance(value, dict):
        raise Unavailable(
            f"what answers at {url} is not a tuneyard server (JSON, but no object); {_CHECK_HINT}"
        )
    return value


def gone(url: str, detail: str = "") -> Unavailable:
    """The error for a server that is not there."""
    return Unavailable(f"no tuneyard server at {url}{f' ({detail})' if detail else ''}; {START_HINT}")


def not_http(url: str, detail: str) -> Unavailable:
    """The error for something that listens there and does not speak HTTP."""
    return Unavailable(f"what answers at {url} is not a tuneyard server ({detail}); {_CHECK_HINT}")


def _refusal(status: int, value: Any, url: str) -> TuneyardError:
    body = value.get("error") if isinstance(value, dict) else None
    if not isinstance(body, dict) or not isinstance(body.get("message"), str):
        return not_http(url, f"HTTP {status} without an error that it would give")
    kind, message = body.get("kind"), body["message"]
    if kind == "spec":
        faults = [_fault(item) for item in body.get("faults") or []]
        # The message of a SpecError is its source, how many faults, and the faults again.
        return SpecError(faults, message.partition("\n")[0].rpartition(": ")[0] or "job")
    if kind == "busy":
        return Busy(
            message.rpartition("; try again in ")[0] or message, float(body.get("retry_after_s") or 1)
        )
    if kind == "internal":
        return TuneyardError(
            f"the server failed: {message}; on its machine `tail ~/.tuneyard/server.log` shows why"
        )
    return _KINDS.get(str(kind), TuneyardError)(message)


def _fault(item: Any) -> Fault:
    item = item if isinstance(item, dict) else {}
    path, given, problem, fix = (str(item.get(key) or "") for key in ("path", "given", "problem", "fix"))
    return Fault(path or "job", given, problem or "can't be used", fix)
