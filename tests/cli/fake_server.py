"""A small HTTP server that speaks the API's contract, with scripted jobs. Real sockets, no real work.

Submissions are parsed by jobs/jobfile/spec.py as the real server does, so that a bad file gets its real faults.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from jobs.errors import Conflict, NotFound, SpecError, TuneyardError, UsageError
from jobs.jobfile.contradictions import without_contradicted
from jobs.jobfile.loader import parse_yaml
from jobs.jobfile.overrides import apply_overrides
from jobs.jobfile.sweep import Member, read_members
from jobs.memory.remedies import warnings_of
from tests.cli.fake_fleet import fleet

TOKEN = "secret-of-the-tests"
KINDS = {
    SpecError: (422, "spec"),
    UsageError: (422, "usage"),
    NotFound: (404, "not_found"),
    Conflict: (409, "conflict"),
}
ENDED = ("succeeded", "failed", "cancelled")


class FakeServer:
    """Use as a context manager; `url` is where it listens. State is plain attributes that a test sets."""

    def __init__(self) -> None:
        self.jobs: dict[int, dict[str, Any]] = {}
        self.hosts: list[dict[str, Any]] = []
        self.gpus: list[dict[str, Any]] = []
        self.held: list[dict[str, Any]] = []  # of each card, the attempts that held it
        self.plans: list[tuple[int, dict[str, Any]]] = []
        self.accuracy: dict[str, Any] = {}
        self.points: list[dict[str, Any]] = []  # of every job's metrics
        self.history: list[dict[str, Any]] = []
        self.projects: dict[str, Any] = {"projects": [], "gpus": 0, "warnings": []}
        self.audit: dict[str, Any] = {"actions": [], "more": False}
        self.events: list[dict[str, Any]] = []  # oldest first
        self.why: dict[str, Any] = {"hosts": [], "advice": []}
        self.logs: dict[tuple[int, int], str] = {}
        self.log_page = 50
        self.requests: list[tuple[str, str, Any]] = []
        self.users: list[str] = []  # who asked, of each request
        self.raw: tuple[int, str, bytes] | None = None  # answer every request with this
        self.hang_s = 0.0
        self.exposed = False  # plain HTTP beyond loopback
        self.health: dict[str, Any] = {}  # in place of what a server says that is well
        self.on_show: Callable[[dict[str, Any]], None] = lambda job: None  # called before each GET /jobs/ID
        self.on_metrics: Callable[[dict[str, Any]], None] = lambda job: None  # and before each of its metrics
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> FakeServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def add(self, **fields: Any) -> dict[str, Any]:
        """A job as the list has it, queued a minute ago unless fields say otherwise."""
        number = max(self.jobs, default=0) + 1
        job = {
            "id": number,
            "name": "",
            "state": "queued",
            "reason": {"code": "new", "text": "not yet looked at", "figures": {}},
            "user": "ada",
            "priority": 50,
            "gpus": 1,
            "method": "lora",
            "model": "org/tiny",
            "trainer": "sft",
            "submitted_at": time.time() - 60,
            "started_at": None,
            "ended_at": None,
            "attempts": 0,
            "progress": None,
            "evaluation": None,
            "host": None,
            "hosts": [],
            "silent": None,
            "cards": [],
            "rung": None,
            "projected_bytes": None,
            "measured_bytes": None,
            "cancel_requested": False,
            "project": "default",
            "group": None,
            "after": [],
            "spec": {},
            "attempts_detail": [],
            "events": [],
            **fields,
        }
        self.jobs[number] = job
        return job

    def end(self, job: dict[str, Any], state: str, code: str | None = None, text: str = "") -> None:
        """Let a job end."""
        job.update(
            state=state,
            ended_at=time.time(),
            reason={"code": code or state, "text": text or state, "figures": {}},
        )

    def find(self, name: str) -> dict[str, Any]:
        for job in reversed(self.jobs.values()):
            if name in (str(job["id"]), job["name"]):
                return job
        raise NotFound(f"there is no job {name}")

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        """Status and JSON of one request."""
        parts = [unquote(part) for part in path.removeprefix("/api/v1/").split("/")]
        match method, parts:
            case "GET", ["health"]:
                return 200, {
                    "status": "ok",
                    "version": "0.1.0",
                    "pid": 1,
                    "ray": "ready",
                    "exposed": self.exposed,
                    "hosts": len(self.hosts),
                    "hosts_online": sum(host["state"] not in ("away", "stopped") for host in self.hosts),
                    **self.health,
                }
            case "GET", ["jobs"]:
                return 200, self._page(query)
            case "POST", ["jobs"]:
                return self._submit(body, query.get("dry_run") == "true")
            case "GET", ["jobs", name]:
                job = self.find(name)
                self.on_show(job)
                return 200, job
            case "GET", ["jobs", name, "why"]:
                return 200, {"job": _brief(self.find(name)), **self.why}
            case "GET", ["jobs", name, "metrics"]:
                job = self.find(name)
                self.on_metrics(job)
                about = {"job": job["id"], "name": job["name"], "state": job["state"]}
                return 200, {**about, "points": self.points, "total": len(self.points)}
            case "GET", ["jobs", name, "logs"]:
                return 200, self._log(self.find(name), query)
            case "POST", ["jobs", name, "cancel"]:
                return 200, self._cancel(self.find(name))
            case "POST", ["jobs", name, "requeue"]:
                old = self.find(name)
                goes_on = {"job": old["id"], "step": 600, "text": f"goes on from step 600 of job {old['id']}"}
                return 201, {**_brief(self.add(name=old["name"])), "goes_on": {**goes_on, "changes": []}}
            case "POST", ["jobs", name, ("hold" | "release") as action]:
                return 200, self._hold(self.find(name), action == "hold")
            case "PATCH", ["jobs", name]:
                job = self.find(name)
                job.update({key: body["overrides"][key] for key in ("priority",) if key in body["overrides"]})
                return 200, _brief(job)
            case "GET", ["audit"]:
                return 200, self.audit
            case "GET", ["events"]:
                after, before = int(query.get("after", 0)), int(query.get("before", 10**12))
                found = [one for one in self.events if after < one["id"] < before]
                limit = int(query["limit"])
                shown = found[:limit] if "after" in query else found[::-1][:limit]
                return 200, {"events": shown, "more": len(found) > limit}
            case "POST", ["plan"]:
                parse(body["job"], plan=True)
                return self.plans.pop(0) if len(self.plans) > 1 else self.plans[0]
            case "GET", ["hosts"]:
                return 200, {"hosts": self.hosts}
            case "POST", ["hosts", name, "drain"]:
                return 200, {"hosts": [host for host in self.hosts if host["name"] == name]}
            case "GET", ["fleet"]:
                return 200, fleet(self.gpus, list(self.jobs.values()), query)
            case "GET", ["gpus"]:
                return 200, {"gpus": self.gpus}
            case "GET", ["gpus", *place]:
                held = place[-1] == "jobs"
                name = "/".join(place[: -1 if held else None])
                for gpu in self.gpus:
                    if name in (str(gpu["id"]), gpu["uuid"], f"{gpu['host']}/{gpu['index']}"):
                        return 200, {"jobs": self.held, "more": False} if held else {**gpu, "present": True}
                raise NotFound(f"there is no card {name}")
            case "GET", ["groups", name]:
                mine = self._group(name)
                members = [{"job": _brief(job), "values": job["spec"]} for job in mine]
                keys = list(mine[0]["spec"])
                return 200, {"id": mine[0]["group"], "name": name, "keys": keys, "members": members}
            case "POST", ["groups", name, "cancel"]:
                mine = self._group(name)
                return 200, {"jobs": [self._cancel(job) for job in mine if job["state"] not in ENDED]}
            case "POST", ["groups", name, ("hold" | "release") as action]:
                held = action == "hold"
                mine = [job for job in self._group(name) if job["state"] == "queued"]
                mine = [job for job in mine if (job["reason"]["code"] == "held") is not held]
                return 200, {"jobs": [self._hold(job, held) for job in mine]}
            case "GET", ["projects"]:
                return 200, self.projects
            case (("PUT" | "DELETE"), ["projects", _]):
                return 200, self.projects
            case "POST", ["accuracy", "forget"]:
                return 200, {"attempts": 2, "jobs": 1}
            case "GET", ["accuracy"]:
                return 200, self.accuracy
            case "GET", ["history"]:
                return 200, {"jobs": self.history}
        raise NotFound(f"no route {method} {path}")

    def _group(self, text: str) -> list[dict[str, Any]]:
        mine = [
            job
            for job in self.jobs.values()
            if job["group"] is not None and text in (str(job["group"]), job["name"].rpartition("-")[0])
        ]
        if not mine:
            raise NotFound(f"there is no group {text}")
        return mine

    def _page(self, query: dict[str, str]) -> dict[str, Any]:
        states = [state for state in query.get("state", "").split(",") if state]
        if "group" in query:
            query["group"] = str(self._group(query["group"])[0]["group"])
        matching = [
            job
            for job in reversed(self.jobs.values())
            if (not states or job["state"] in states)
            and all(query.get(key, str(job[key])) == str(job[key]) for key in ("group", "project", "user"))
        ]
        before = int(query.get("before", 10**12))
        if "sort" in query:  # that of the real one is tested with it; here only that pages are asked for
            matching = matching[int(query.get("offset", 0)) :]
        later = [job for job in matching if job["id"] < before]
        limit = int(query.get("limit", 50))
        return {
            "jobs": [_brief(j) for j in later[:limit]],
            "more": len(later) > limit,
            "total": len(matching),
        }

    def _submit(self, body: Any, dry_run: bool) -> tuple[int, Any]:
        files = [parse(item) for item in body["jobs"]]
        replaced = [line for item in body["jobs"] for line in laid_over(item)[1]]
        if dry_run:
            return 200, {
                "jobs": [],
                "valid": [m.spec.model_dump(mode="json") for f in files for m in f],
                "replaced": replaced,
                "warnings": warnings_of(m.spec for f in files for m in f),
            }
        made, groups = [], []
        for members in files:
            jobs = [self._add(member.spec, body["user"]) for member in members]
            made += jobs
            if members[0].values:
                ids, values = [job["id"] for job in jobs], [member.values for member in members]
                name = jobs[0]["name"].rpartition("-")[0]
                groups.append({"id": ids[0], "name": name, "jobs": ids, "values": values})
                for job in jobs:
                    job["group"] = ids[0]
        return 201, {"jobs": [_brief(job) for job in made], "groups": groups, "replaced": replaced}

    def _add(self, spec: Any, user: str) -> dict[str, Any]:
        after = [{"job": link.job, "on": str(link.on), "state": "queued"} for link in spec.after]
        about = {"name": spec.name, "method": spec.method.kind, "model": spec.model.path or "config"}
        return self.add(**about, user=user, project=spec.project, after=after)

    def _cancel(self, job: dict[str, Any]) -> dict[str, Any]:
        if job["state"] in ENDED:
            raise Conflict(f"job {job['id']} has ended ({job['state']}); there is nothing to cancel")
        if job["state"] == "queued":
            self.end(job, "cancelled")
        job["cancel_requested"] = True
        return _brief(job)

    def _hold(self, job: dict[str, Any], held: bool) -> dict[str, Any]:
        if job["state"] != "queued":
            raise Conflict(f"job {job['id']} is {job['state']}; a hold keeps a queued job from starting")
        text = f"held by ada: `tuneyard release {job['id']}` lets it start"
        job["reason"] = (
            {"code": "held", "text": text, "figures": {"by": "ada", "since": time.time()}}
            if held
            else {"code": "new", "text": "released", "figures": {}}
        )
        return _brief(job)

    def _log(self, job: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
        attempt = int(query.get("attempt") or job["attempts"])
        raw = self.logs.get((job["id"], attempt), "").encode()
        offset = int(query.get("offset", 0))
        # Small pages, so that clients must page; whole characters, as those of the real one are.
        piece = raw[offset : offset + self.log_page].decode(errors="ignore").encode()
        later = attempt < job["attempts"] or job["state"] in ENDED
        ended = later and offset + len(piece) >= len(raw)
        return {
            "attempt": attempt,
            "offset": offset,
            "text": piece.decode(),
            "next_offset": offset + len(piece),
            "bytes": len(raw),
            "ended": ended,
        }


def parse(item: dict[str, Any], plan: bool = False) -> list[Member]:
    """The jobs of a file as the server reads it; a plan's may lack its data. Raises SpecError."""
    value, _ = laid_over(item)
    model = value.get("model")
    if plan and "data" not in value:
        value["data"] = "nowhere.jsonl"
        if isinstance(model, dict) and "config" in model:
            value["model"] = {**model, "tokenizer": "none"}
    return read_members(value, item["source"])


def laid_over(item: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A file with what is laid over it, and what that replaces."""
    source, overrides = item["source"], item["overrides"]
    value = parse_yaml(item["text"], source) if item["text"] is not None else dict(item["spec"])
    kept, said = without_contradicted(value, overrides, source)
    return apply_overrides(kept, overrides, source), said


def _brief(job: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in job.items() if key not in ("spec", "attempts_detail", "events")}


def _handler(fake: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve("GET")

        def do_POST(self) -> None:
            self._serve("POST")

        def do_PUT(self) -> None:
            self._serve("PUT")

        def do_PATCH(self) -> None:
            self._serve("PATCH")

        def do_DELETE(self) -> None:
            self._serve("DELETE")

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

        def _serve(self, method: str) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            fake.requests.append((method, self.path, body))
            fake.users.append(self.headers.get("X-Tuneyard-User", ""))
            time.sleep(fake.hang_s)
            if fake.raw is not None:
                self._send(*fake.raw)
                return
            if parts.path != "/api/v1/health" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._json(
                    401, {"error": {"kind": "unauthorized", "message": "the token is wrong", "faults": []}}
                )
                return
            try:
                self._json(*fake.answer(method, parts.path, query, body))
            except TuneyardError as error:
                status, kind = KINDS[type(error)]
                faults = [fault.as_dict() for fault in error.faults] if isinstance(error, SpecError) else []
                self._json(status, {"error": {"kind": kind, "message": str(error), "faults": faults}})

        def _json(self, status: int, value: Any) -> None:
            self._send(status, "application/json", json.dumps(value).encode())

        def _send(self, status: int, kind: str, raw: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    return Handler
