"""The typed Python client: tuneyard from a script or a notebook.

    with Client() as yard:
        job = yard.submit("job.yaml")  # or a mapping: {"model": "org/name", "data": "pairs.jsonl"}
        print(yard.wait(job["id"])["state"])

It finds the server as the command line does: by its arguments, by TUNEYARD_URL and TUNEYARD_TOKEN, or by
config.json in TUNEYARD_HOME. Every failure is one of jobs.errors.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote

import httpx

from jobs.errors import Unanswered, Unavailable, UsageError
from jobs.jobfile.loader import parse_yaml
from jobs.state import TERMINAL, JobState
from orchestrator.client.idempotent import once
from orchestrator.client.project_calls import ProjectCalls
from orchestrator.client.responses import KEY_HEADER, PREFIX, USER_HEADER, decode, gone
from orchestrator.client.settings import find_server, user_name
from orchestrator.schemas import (
    Accuracy,
    ActionPage,
    Changed,
    EventPage,
    Gpu,
    GroupTable,
    Health,
    Host,
    Job,
    JobFull,
    JobPage,
    LogPage,
    Metrics,
    PlanShape,
    Requeued,
    Why,
)
from orchestrator.transfer.receive import pull
from workers.checks.enclosed import enclosed

JobFile = Mapping[str, Any] | str | Path
"""A job: the path of a job file, its text, or a mapping as it has one. Relative paths in a file are from its folder."""


class Client(ProjectCalls):
    """A connection to a tuneyard server. Use it as a context manager, or call close()."""

    def __init__(self, url: str | None = None, token: str | None = None, timeout_s: float = 30.0) -> None:
        """Raises Unavailable when no server is known, UsageError when its address is no URL."""
        server = find_server(url, token)
        self.url = server.url
        headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
        headers[USER_HEADER] = quote(user_name())
        self._http = httpx.Client(
            base_url=server.url.rstrip("/") + PREFIX, headers=headers, timeout=timeout_s
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def health(self) -> Health:
        """How the server is. The one call that needs no token."""
        return cast(Health, self._get("/health"))

    def submit(
        self,
        job: JobFile,
        overrides: Mapping[str, Any] | None = None,
        *,
        hold: bool = False,
        key: str | None = None,
    ) -> Job:
        """Submit one job; overrides are laid over it by dotted path. Raises SpecError with every fault.

        A job file with a matrix makes several: this gives the first, submit_all() all of them. hold: none starts
        before it is released. key: as submit_all() has it.
        """
        return self.submit_all([job], overrides, hold=hold, key=key)[0]

    def submit_all(
        self,
        jobs: Sequence[JobFile],
        overrides: Mapping[str, Any] | None = None,
        *,
        hold: bool = False,
        key: str | None = None,
    ) -> list[Job]:
        """Submit jobs together: all or, when one has a fault, none. Raises SpecError with every fault.

        A server that does not answer is asked again, and stores them once. key: what to call this submission, so that
        a script that runs again makes no second one within a week; made up by default. Raises Unanswered with the key
        when no answer came.
        """
        bodies = [body_of(job, overrides or {}) for job in jobs]
        answer = self._once("/jobs", {"jobs": bodies, "user": user_name(), "hold": hold}, key)
        return cast(list[Job], answer["jobs"])

    def plan(
        self,
        job: JobFile,
        overrides: Mapping[str, Any] | None = None,
        timeout_s: float = 300.0,
        cards: Sequence[str] = (),
        prices: Mapping[str, float] | None = None,
    ) -> PlanShape:
        """What the job would take on each card type. Raises Unavailable without a profile after timeout_s.

        cards: of the catalogue, beside the fleet's; prices: of an hour of one GPU, over the server's own.
        """
        asked = {"job": body_of(job, overrides or {}), "cards": list(cards), "prices": dict(prices or {})}
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self._post("/plan", asked)
            if "pending" not in answer:
                return cast(PlanShape, answer)
            if time.monotonic() >= deadline:
                raise Unavailable(f"there is no memory profile after {timeout_s:g} s: {answer['text']}")
            time.sleep(0.3)

    def jobs(
        self,
        states: Sequence[str] = (),
        limit: int = 50,
        before: int | None = None,
        *,
        group: int | str | None = None,
        project: str | None = None,
        user: str | None = None,
        name: str | None = None,
        since: float | None = None,
        sort: str | None = None,
        offset: int | None = None,
    ) -> JobPage:
        """A page of jobs, newest first; before is an id, for the next page.

        group: its id or name; name: a pattern such as docs-*; since: submitted then or later, Unix seconds; sort: a
        column such as loss, or -loss for the greatest first, whose next page begins at an offset. Raises UsageError.
        """
        query = {
            "state": ",".join(states),
            "limit": limit,
            "before": before,
            "group": group,
            "project": project,
            "user": user,
            "name": name,
            "since": since,
            "sort": sort,
            "offset": offset,
        }
        given = {name: value for name, value in query.items() if value is not None}
        return cast(JobPage, self._get("/jobs", **given))

    def all_jobs(self, states: Sequence[str] = (), **wanted: Any) -> Iterator[Job]:
        """Every job, newest first or as sorted, fetched page by page, each once. wanted: as jobs() has it."""
        told: set[int] = set()
        read = 0
        later: dict[str, Any] = {}
        while True:
            page = self.jobs(states, limit=500, **wanted, **later)
            for job in page["jobs"]:
                if job["id"] not in told:  # rows may move between pages
                    told.add(job["id"])
                    yield job
            if not page["more"] or not page["jobs"]:
                return
            read += len(page["jobs"])
            later = {"offset": read} if wanted.get("sort") else {"before": page["jobs"][-1]["id"]}

    def group(self, group: int | str) -> GroupTable:
        """The jobs of a sweep, by its id or name, with what differs between them: the best first. Raises NotFound."""
        return cast(GroupTable, self._get(f"/groups/{quote(str(group), safe='')}"))

    def job(self, job: int | str) -> JobFull:
        """One job by id or name, with its attempts and events. Raises NotFound."""
        return cast(JobFull, self._get(_path(job)))

    def why(self, job: int | str) -> Why:
        """Why a job waits, host by host, or how it ended. Raises NotFound."""
        return cast(Why, self._get(_path(job, "/why")))

    def cancel(self, job: int | str) -> Job:
        """Ask a job to end. Raises NotFound; Conflict when it has ended."""
        return cast(Job, self._post(_path(job, "/cancel")))

    def cancel_group(self, group: int | str) -> list[Job]:
        """Ask all jobs of a sweep to end that have not; those. Raises NotFound."""
        return cast(list[Job], self._post(f"/groups/{quote(str(group), safe='')}/cancel")["jobs"])

    def change(self, job: int | str, overrides: Mapping[str, Any]) -> Changed:
        """Lay values by dotted path over the job file of a job that waits. Raises SpecError, NotFound, Conflict."""
        body = {"overrides": dict(overrides), "base_dir": str(Path.cwd())}
        return cast(Changed, self._ask("PATCH", _path(job), json=body))

    def hold(self, job: int | str) -> Job:
        """Keep a queued job from starting. Raises NotFound; Conflict when it is not queued."""
        return cast(Job, self._post(_path(job, "/hold")))

    def release(self, job: int | str) -> Job:
        """Let a held job start. Raises NotFound; Conflict when it is not held."""
        return cast(Job, self._post(_path(job, "/release")))

    def hold_group(self, group: int | str) -> list[Job]:
        """Keep the queued jobs of a sweep from starting; those that were not held before. Raises NotFound."""
        return cast(list[Job], self._post(f"/groups/{quote(str(group), safe='')}/hold")["jobs"])

    def release_group(self, group: int | str) -> list[Job]:
        """Let the held jobs of a sweep start; those. Raises NotFound."""
        return cast(list[Job], self._post(f"/groups/{quote(str(group), safe='')}/release")["jobs"])

    def requeue(
        self, job: int | str, overrides: Mapping[str, Any] | None = None, *, from_start: bool = False
    ) -> Requeued:
        """Submit an ended job again, from its newest checkpoint; the new job.

        overrides: values by dotted key, laid over its job file; from_start: begin at step 0. Raises NotFound; Conflict
        when it has not ended, or can't go on with these changes; SpecError.
        """
        body = {"overrides": dict(overrides or {}), "base_dir": str(Path.cwd()), "from_start": from_start}
        return cast(Requeued, self._once(_path(job, "/requeue"), body))

    def log_page(self, job: int | str, attempt: int | None = None, offset: int = 0) -> LogPage:
        """The log of an attempt (the last by default) from a byte offset."""
        query = {"offset": offset} if attempt is None else {"offset": offset, "attempt": attempt}
        return cast(LogPage, self._get(_path(job, "/logs"), **query))

    def logs(self, job: int | str, attempt: int | None = None) -> str:
        """The whole log of an attempt (the last by default) so far."""
        text, offset = [], 0
        while True:
            page = self.log_page(job, attempt, offset)
            text.append(page["text"])
            if page["next_offset"] == offset:
                return "".join(text)
            offset, attempt = page["next_offset"], page["attempt"] or None

    def metrics(self, job: int | str, every: int = 1, last: int | None = None) -> Metrics:
        """What a job told of its steps, over all attempts: each n-th point and the last, or only the n last."""
        query = {"every": every} if last is None else {"every": every, "last": last}
        return cast(Metrics, self._get(_path(job, "/metrics"), **query))

    def pull(self, job: int | str, folder: str | Path | None = None) -> Path:
        """Copy a job's result into a folder (job-ID-NAME), and compare it with its manifest; where it is.

        Goes on where an earlier pull broke off. Raises Conflict where there is no result yet, UsageError where the
        folder has something else in it, TuneyardError for a file that does not match its checksum.
        """
        return pull(_Results(self, job), None if folder is None else Path(folder)).folder

    def wait(self, job: int | str, timeout_s: float | None = None, poll_s: float = 1.0) -> JobFull:
        """The job when it has ended. Raises TimeoutError after timeout_s; the job goes on."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            found = self.job(job)
            if JobState(found["state"]) in TERMINAL:
                return found
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"job {job} is {found['state']} after {timeout_s:g} s")
            time.sleep(poll_s)

    def hosts(self) -> list[Host]:
        """Every host that ever joined."""
        return cast(list[Host], self._get("/hosts")["hosts"])

    def gpus(self) -> list[Gpu]:
        """Every card, with its last reading and the job on it."""
        return cast(list[Gpu], self._get("/gpus")["gpus"])

    def drain(self, host: str, drained: bool = True) -> None:
        """Give a host no new jobs, or jobs again. Raises NotFound."""
        self._post(f"/hosts/{quote(host, safe='')}/drain", {"drained": drained})

    def accuracy(self, limit: int = 2000) -> Accuracy:
        """Projected against measured of the newest attempts: coverage, errors by group, the worst misses."""
        return cast(Accuracy, self._get("/accuracy", limit=limit))

    def audit(self, limit: int = 50, before: int | None = None) -> ActionPage:
        """Who asked for what, newest first; before is the id of an action, for older ones."""
        older = {} if before is None else {"before": before}
        return cast(ActionPage, self._get("/audit", limit=limit, **older))

    def events(self, limit: int = 100, **wanted: Any) -> EventPage:
        """What happened to jobs and hosts, newest first. wanted: since, job, host, card, by, kind, before, after."""
        return cast(EventPage, self._get("/events", limit=limit, **wanted))

    def schema(self) -> dict[str, Any]:
        """JSON schema of the job file."""
        return cast(dict[str, Any], self._get("/schema"))

    def _get(self, path: str, **query: Any) -> Any:
        return self._ask("GET", path, params=query)

    def _post(self, path: str, body: Any = None) -> Any:
        return self._ask("POST", path, json=body)

    def _once(self, path: str, body: Any, key: str | None = None) -> Any:
        key = key or str(uuid.uuid4())
        return once(key, lambda: self._ask("POST", path, json=body, headers={KEY_HEADER: key}))

    def _ask(self, method: str, path: str, **given: Any) -> Any:
        with _explained(self.url):
            answer = self._http.request(method, path, **given)
        return decode(answer.status_code, answer.headers.get("content-type", ""), answer.content, self.url)


class _Results:
    """A transfer.receive.Source over httpx."""

    def __init__(self, client: Client, job: int | str) -> None:
        self._client, self._job = client, job

    def result(self) -> Any:
        return self._client._get(_path(self._job, "/result"))

    def files(self, manifest_sha256: str, offset: int) -> Iterator[bytes]:
        asked: dict[str, Any] = {"manifest": manifest_sha256, "offset": offset}
        path, url = _path(self._job, "/result/files"), self._client.url
        with _explained(url), self._client._http.stream("GET", path, params=asked, timeout=90.0) as answer:
            if answer.status_code >= 400:
                kind = answer.headers.get("content-type", "")
                decode(answer.status_code, kind, answer.read(), url)
            yield from answer.iter_raw()  # as it comes: none is lost where it breaks off


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """What breaks in the block, as jobs.errors has it."""
    try:
        yield
    except httpx.TimeoutException:
        raise Unanswered(f"the server at {url} did not answer in time") from None
    except httpx.ConnectError:
        raise gone(url) from None
    except httpx.HTTPError as error:
        raise Unanswered(f"the server at {url} broke off: {error or type(error).__name__}") from None


def _path(job: int | str, rest: str = "") -> str:
    return f"/jobs/{quote(str(job), safe='')}{rest}"


def body_of(job: JobFile, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A job as a request has it. Raises UsageError, or SpecError for what is no YAML, before the server is asked."""
    made: dict[str, Any] = {"text": None, "spec": None, "overrides": dict(overrides)}
    if isinstance(job, Mapping):
        made["overrides"] |= enclosed(None, job, overrides, Path.cwd())
        return {**made, "spec": dict(job), "base_dir": str(Path.cwd()), "source": "mapping"}
    if isinstance(job, str) and _is_text(job):
        text, base, source = job, Path.cwd(), "text"
    else:
        path = Path(job)
        text, base, source = _read(path), path.resolve().parent, str(job)
    parse_yaml(text, source)
    made["overrides"] |= enclosed(text, {}, overrides, base)
    return {**made, "text": text, "base_dir": str(base), "source": source}


def _is_text(given: str) -> bool:
    """Whether a string is the text of a job file: a path has no line break, and no key with its value."""
    return not given.strip() or "\n" in given or ": " in given or given.lstrip().startswith("{")


def _read(path: Path) -> str:
    try:
        raw = path.expanduser().read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"there is no file {path}; give a path, the text of a job file, or a mapping"
        ) from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}); is it a job file?") from None
