"""The OpenAPI document: complete, committed, and true of real answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import openapi_spec_validator
import pytest

from orchestrator.api.app import PREFIX
from orchestrator.api.openapi_file import TARGET
from tests.api.scheduling.test_scheduling import FakeHost, card
from tests.documented import DOCUMENT

OPERATIONS = [
    (path, method, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
WITHOUT_BODY = ("/cancel", "/hold", "/release", "/test")


def refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from [inner] if key == "$ref" else refs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from refs(inner)


def check(schema: dict[str, Any], value: Any) -> None:
    jsonschema.validate(value, {**schema, "components": DOCUMENT["components"]})


def test_it_is_a_valid_openapi_document() -> None:
    openapi_spec_validator.validate(json.loads(TARGET.read_text()))


def test_it_is_committed_as_it_is_made() -> None:
    assert json.loads(TARGET.read_text()) == json.loads(json.dumps(DOCUMENT)), "run `make openapi`"


def test_every_reference_leads_somewhere_and_every_schema_is_one() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert {ref.removeprefix("#/components/schemas/") for ref in refs(DOCUMENT)} <= set(schemas)
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert "HTTPValidationError" not in schemas


def test_every_operation_is_complete() -> None:
    ids = [operation["operationId"] for *_, operation in OPERATIONS]
    assert len(ids) == len(set(ids)) and all(re.fullmatch(r"[a-z_]{3,20}", name) for name in ids)
    assert {"submit_jobs", "list_jobs", "plan_job", "set_job"} <= set(ids)
    for path, method, operation in OPERATIONS:
        where = (path, method)
        assert operation["tags"] and operation["description"], where
        responses = operation["responses"]
        assert any(status.startswith("2") for status in responses), where
        for status, response in responses.items():
            if status == "204":
                assert "content" not in response, where
                continue
            (schema,) = (one["schema"] for one in response["content"].values())
            assert schema, (where, status)
            if status[0] in "45":
                assert schema == {"$ref": "#/components/schemas/Error"}, (where, status)
        assert ("401" in responses) == (path != f"{PREFIX}/health"), where
        if method in ("put", "patch") or (
            method == "post" and not path.endswith((*WITHOUT_BODY, "/requeue"))
        ):
            assert [one["schema"] for one in operation["requestBody"]["content"].values()], where
        named = set(re.findall(r"{(\w+)}", path))
        given = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        assert named == given, where
    assert DOCUMENT["security"] == [{"token": []}]
    assert DOCUMENT["components"]["securitySchemes"]["token"] == {"type": "http", "scheme": "bearer"}


@pytest.mark.parametrize("name", ["submit_jobs", "plan_job", "set_job", "set_project", "drain_host"])
def test_examples_are_what_their_schemas_ask_for(name: str) -> None:
    (body,) = (one["requestBody"] for *_, one in OPERATIONS if one["operationId"] == name)
    content = body["content"]["application/json"]
    check(content["schema"], content["example"])


def test_real_answers_are_as_it_says(yard) -> None:
    assert yard.http.get(f"{PREFIX}/openapi.json").json() == json.loads(json.dumps(DOCUMENT))
    FakeHost(yard, card(0, 2)).trace()
    job, many = yard.job(name="a"), {"jobs": [yard.job(name="b", matrix={"training.seed": [1, 2]})]}
    asked: list[tuple[str, str, str, Any]] = [
        ("post", "/jobs", "/jobs", {"jobs": [job]}),
        ("post", "/jobs", "/jobs?dry_run=true", {"jobs": [job]}),
        ("post", "/jobs", "/jobs", many),
        ("post", "/jobs", "/jobs", {"jobs": [{"spec": {"modle": 1}}]}),
        ("post", "/plan", "/plan", {"job": job}),
        ("get", "/jobs", "/jobs", None),
        ("get", "/jobs/{job}", "/jobs/1", None),
        ("get", "/jobs/{job}", "/jobs/nobody", None),
        ("get", "/jobs/{job}/why", "/jobs/1/why", None),
        ("get", "/jobs/{job}/logs", "/jobs/1/logs", None),
        ("patch", "/jobs/{job}", "/jobs/1", {"overrides": {"priority": 10}}),
        ("patch", "/jobs/{job}", "/jobs/1", {"overrides": {"priority": "x"}}),
        ("post", "/jobs/{job}/hold", "/jobs/1/hold", None),
        ("post", "/jobs/{job}/release", "/jobs/2/release", None),
        ("post", "/jobs/{job}/cancel", "/jobs/1/cancel", None),
        ("post", "/jobs/{job}/requeue", "/jobs/1/requeue", None),
        ("get", "/hosts", "/hosts", None),
        ("get", "/gpus", "/gpus", None),
        ("put", "/projects/{name}", "/projects/ours", {"weight": 2}),
        ("get", "/audit", "/audit", None),
        ("get", "/events", "/events?since=0&job=1", None),
        ("get", "/events", "/events?kind=none", None),
        ("get", "/accuracy", "/accuracy", None),
        ("get", "/health", "/health", None),
    ]
    statuses = set()
    for method, route, path, body in asked:
        answer = yard.http.request(method, f"{PREFIX}{path}", json=body)
        known = DOCUMENT["paths"][f"{PREFIX}{route}"][method]["responses"]
        assert str(answer.status_code) in known, (method, path, answer.text)
        check(known[str(answer.status_code)]["content"]["application/json"]["schema"], answer.json())
        statuses.add(answer.status_code)
    assert statuses >= {200, 201, 202, 404, 409, 422}
    refused = yard.http.get(f"{PREFIX}/jobs", headers={"Authorization": "Bearer wrong"})
    check({"$ref": "#/components/schemas/Error"}, refused.json())
