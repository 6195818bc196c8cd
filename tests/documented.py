"""The OpenAPI document held against every answer that a test gets."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from typing import Any

import jsonschema

from orchestrator.api.app import routes
from orchestrator.api.openapi import document

Message = MutableMapping[str, Any]
LOOKED_AT = (
    3  # answers of one operation and status whose JSON is compared with its schema: that takes a while
)

DOCUMENT = document(routes())
_PATHS = sorted(
    ((re.compile(re.sub(r"{\w+}", "[^/]+", path)), path) for path in DOCUMENT["paths"]),
    key=lambda pair: pair[1].count("{"),
)
_seen: Counter[tuple[str, str, str]] = Counter()


class Documented:
    """An application with a list of what its answers have and the document has not."""

    def __init__(self, gate: Any) -> None:
        self.gate = gate
        self.wrong: list[str] = []

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        told: list[Message] = []

        async def tell(message: Message) -> None:
            told.append(message)
            await send(message)

        await self.gate(scope, receive, tell)
        if scope["type"] == "http" and (found := operation(scope["method"], scope["path"])):
            self.wrong += faults_of(*found, told)


def operation(method: str, path: str) -> tuple[str, str] | None:
    """Method and path as the document has them, None for no route of it."""
    named = next((named for pattern, named in _PATHS if pattern.fullmatch(path)), None)
    if named is None or method.lower() not in DOCUMENT["paths"][named]:
        return None
    return method.lower(), named


def faults_of(method: str, path: str, told: list[Message]) -> list[str]:
    """What is wrong with an answer. told: the messages that it was sent as."""
    status = str(told[0]["status"])
    where = f"{method.upper()} {path}: {status}"
    known = DOCUMENT["paths"][path][method]["responses"]
    if status == "500":
        return [f"{where}"]
    if status not in known:
        return [f"{where} is not in the document"]
    content = known[status].get("content", {})
    if "application/json" not in content:
        return []
    value = json.loads(b"".join(message.get("body", b"") for message in told[1:]))
    faults = []
    if status[0] in "45" or next_look(method, path, status):
        schema = content["application/json"]["schema"]
        faults = [
            f"{where}: {error.message}"
            for error in itertools.islice(_validator(json.dumps(schema)).iter_errors(value), 3)
        ]
    if status == "422" and not value["error"]["faults"]:
        faults.append(f"{where}: no faults in {value}")
    return faults


def next_look(method: str, path: str, status: str) -> bool:
    """Whether this answer is one of the first of its kind."""
    _seen[method, path, status] += 1
    return _seen[method, path, status] <= LOOKED_AT


@cache
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**json.loads(schema), "components": DOCUMENT["components"]})
