"""The OpenAPI document: FastAPI's, with what it can't see."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from orchestrator import schemas
from orchestrator.api.intake import Submission

PREFIX = "/api/v1"

ABOUT = """\
Everything that `tuneyard` does with a server goes through this API. All routes but `/health` want the header \
`Authorization: Bearer TOKEN`; `X-Tuneyard-User` (percent-encoded) says who asks. \
Times are Unix seconds, memory is bytes. A job is named by its id, or by its name: the newest of that name."""

# Route functions whose names say too little outside of their module.
_IDS = {
    "submit": "submit_jobs",
    "show": "show_job",
    "change": "set_job",
    "cancel": "cancel_job",
    "hold": "hold_job",
    "release": "release_job",
    "requeue": "requeue_job",
    "logs": "job_logs",
    "metrics": "job_metrics",
    "result": "job_result",
    "files": "job_result_files",
    "put_piece": "send_piece",
    "fail_order": "fail_transfer",
    "why": "explain_job",
    "plan": "plan_job",
    "drain": "drain_host",
    "join": "join_host",
    "report": "report_host",
}
_TAGS = {
    "changes": "jobs",
    "groups": "jobs",
    "metrics": "jobs",
    "results": "jobs",
    "requeue": "jobs",
    "actions": "audit",
    "whatif": "plan",
    "app": "server",
}
_REFUSALS = {
    "401": "The token is missing or wrong.",
    "404": "There is nothing of that name.",
    "409": "It is not in a state that allows this.",
    "413": "The body is too large, or has no length.",
    "422": "Something given can't be used; `faults` has every fault.",
    "500": "The server failed; its log says why.",
    "503": "The database, or what else it needs, is away.",
}
_JOB = {
    "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "data": "/data/pairs.jsonl",
    "method": "lora",
    "training": {"steps": 200, "sequence_length": 1024},
}
_EXAMPLES: dict[str, Any] = {
    "submit_jobs": {"jobs": [{"spec": _JOB}], "user": "anna"},
    "plan_job": {"job": {"spec": _JOB}, "cards": ["rtx4090"]},
    "set_job": {"overrides": {"priority": "high", "training.steps": 300}},
    "set_project": {"guarantee": 8, "weight": 2.0},
    "drain_host": {"drained": True},
}


def operation_id(route: APIRoute) -> str:
    """What a generated client calls a route."""
    return _IDS.get(route.name, route.name)


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an application's routes."""
    made = get_openapi(
        title="tuneyard",
        version=app.version,
        description=ABOUT,
        routes=app.routes,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        servers=[{"url": "/", "description": "The server that has this document."}],
    )
    schemas = made["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas |= _own_schemas()
    tags: set[str] = set()
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            tags.update(operation["tags"])
            _with_errors(operation, method != "get", open_to_all=path == f"{PREFIX}/health")
            if example := _EXAMPLES.get(operation["operationId"]):
                operation.setdefault("requestBody", _body("Submission"))
                operation["requestBody"]["content"]["application/json"]["example"] = example
    _what_fastapi_can_not_see(made["paths"])
    made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"token": []}]
    made["tags"] = [{"name": name} for name in sorted(tags)]
    return made


def tag(module: str) -> str:
    """What the routes of a module are about."""
    room = module.rpartition(".")[2]
    return _TAGS.get(room, room)


def _own_schemas() -> dict[str, Any]:
    """Schemas of what is read and written past FastAPI."""
    given = {"Submission": Submission, "Submitted": schemas.Submitted, "Checked": schemas.Checked}
    given |= {"Plan": schemas.PlanShape, "Pending": schemas.Pending, "Error": schemas.ErrorShape}
    found: dict[str, Any] = {}
    for name, kind in given.items():
        mode: Any = "validation" if name == "Submission" else "serialization"
        schema = TypeAdapter(kind).json_schema(ref_template="#/components/schemas/{model}", mode=mode)
        found |= schema.pop("$defs", {})
        found[name] = {**schema, "title": name}
    return found


def _with_errors(operation: dict[str, Any], changes: bool, open_to_all: bool) -> None:
    """One shape for every refusal."""
    responses = operation["responses"]
    responses.pop("422", None)
    named = any(one["in"] == "path" for one in operation.get("parameters", ()))
    takes = bool(operation.get("parameters") or operation.get("requestBody"))
    for status, text in _REFUSALS.items():
        wanted = {
            "404": named,
            "409": named and changes,
            "413": bool(operation.get("requestBody")),
            "422": takes or named,
        }
        if (open_to_all and status == "401") or not wanted.get(status, True):
            continue
        responses[status] = {"description": text, "content": _content("Error")}
    if open_to_all:
        operation["security"] = []


def _what_fastapi_can_not_see(paths: dict[str, Any]) -> None:
    submit = paths[f"{PREFIX}/jobs"]["post"]
    submit["requestBody"] = {**_body("Submission"), **submit.get("requestBody", {})}
    submit["parameters"] = [
        {
            "name": "dry_run",
            "in": "query",
            "required": False,
            "schema": {"type": "boolean", "default": False},
            "description": "Only check the jobs: nothing is stored.",
        }
    ]
    errors = {status: submit["responses"].get(status, {"description": text, "content": _content("Error")})
              for status, text in _REFUSALS.items() if status != "404"}  # fmt: skip
    submit["responses"] = {
        "201": {"description": "Stored, all of them; each is durable.", "content": _content("Submitted")},
        "200": {"description": "With dry_run: all are valid.", "content": _content("Checked")},
        **errors,
    }
    for path in [path for path in paths if path.endswith("/files")]:  # bytes, streamed
        found = paths[path]["get"]["responses"]["200"]
        found["content"] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    for operations in paths.values():  # what a host sends, streamed
        if "put" in operations:
            operations["put"].setdefault("requestBody", {"required": True, "content": binary})
    plan = paths[f"{PREFIX}/plan"]["post"]["responses"]
    plan["200"] = {"description": "The plan.", "content": _content("Plan")}
    plan["202"] = {
        "description": "Its memory profile is being traced, or its data counted: ask again.",
        "content": _content("Pending"),
    }


def _body(name: str) -> dict[str, Any]:
    return {"required": True, "content": _content(name)}


def _content(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
