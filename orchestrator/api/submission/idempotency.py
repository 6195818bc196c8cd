"""Idempotency-Key: what a client calls a submission, so that asking again makes no second one.

After draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

import re
from hashlib import sha256

from fastapi import Request

from orchestrator.api.edge.refusals import bad_parameter
from orchestrator.client.responses import KEY_HEADER
from orchestrator.store.requests import SubmitKey

_KEY = re.compile(r"[!-~]{1,200}")


def key_of(request: Request, body: bytes) -> SubmitKey | None:
    """The key of a request, None where it has none. Raises BadRequest for one that can't be."""
    given = request.headers.get(KEY_HEADER)
    if given is None:
        return None
    if not _KEY.fullmatch(given):
        fix = "write up to 200 printable ASCII characters, such as a UUID"
        raise bad_parameter(KEY_HEADER, repr(given[:80]), fix, "is no key")
    asked = f"{request.method} {request.url.path}\n".encode()
    return SubmitKey(given, sha256(asked + body).hexdigest())
