"""The OpenAPI document: FastAPI's, with what it can't see."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from jobs.messages.reports import HostReport
from orchestrator import schemas
from orchestrator.api.edge.refusals import response
from orchestrator.api.submission.validation import Submission
from orchestrator.client.responses import KEY_HEADER, PREFIX

ABOUT = """\
Everything that `tuneyard` does with a server goes through this API. All routes but `/health` want the header \
`Authorization: Bearer TOKEN`; `X-Tuneyard-User` (percent-encoded) says who asks. \
Times are Unix seconds, memory is bytes. A job is named by its id, or by its name: the newest of that name. \
An answer to GET that lacks records which this version can't read has them in `unreadable`, a list of `Unreadable`; \
where there is nothing else to answer with, the refusal is of kind `unreadable`."""

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
    "curves": "job_curves",
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
    "reports": "hosts",
    "actions": "audit",
    "whatif": "plan",
    "app": "server",
    "curves": "jobs",
    "cards": "hosts",
    "series": "telemetry",
    "usage": "telemetry",
}
_JOB = {
    "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "data": "/data/pairs.jsonl",
    "method": "lora",
    "training": {"steps": 200, "sequence_length": 1024},
}
_KEY = {
    "name": KEY_HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 200},
    "description": "A key of the client's, such as a UUID. Asking again with it and the same body, within a week, "
    "makes no second job; with another body it is refused.",
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
    made["components"]["schemas"] = {**_own_schemas(), **schemas}
    tags: set[str] = set()
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            tags.update(operation["tags"])
            _with_errors(operation, open_to_all=path == f"{PREFIX}/health")
            if method == "get":
                operation["responses"] = dict(
                    sorted({"409": response(409), **operation["responses"]}.items())
                )
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
    given |= {"Unreadable": schemas.Unreadable}
    given["HostReport"] = HostReport
    found: dict[str, Any] = {}
    for name, kind in given.items():
        mode: Any = "validation" if name in ("Submission", "HostReport") else "serialization"
        schema = TypeAdapter(kind).json_schema(ref_template="#/components/schemas/{model}", mode=mode)
        found |= schema.pop("$defs", {})
        found[name] = {**schema, "title": name}
    return found


def _with_errors(operation: dict[str, Any], open_to_all: bool) -> None:
    """What every route may refuse, beside what it raises itself."""
    responses = operation["responses"]
    everywhere = [401, 408, 413, 422, 500, 503]
    responses |= {str(status): response(status) for status in everywhere[open_to_all:]}
    operation["responses"] = dict(sorted(responses.items()))
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
    for path in (f"{PREFIX}/jobs", f"{PREFIX}/jobs/{{job}}/requeue"):
        paths[path]["post"].setdefault("parameters", []).append(_KEY)
    submit["responses"] |= {
        "200": {"description": "With dry_run: all are valid.", "content": _content("Checked")},
        "201": {"description": "Stored, all of them; each is durable.", "content": _content("Submitted")},
    }
    paths[f"{PREFIX}/hosts/{{host_id}}/report"]["post"]["requestBody"] = _body("HostReport")
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
