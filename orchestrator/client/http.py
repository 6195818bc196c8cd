"""The thin transport of the CLI: JSON over http.client, every failure as one of jobs.errors.

httpx would do more and takes 0.25 s to import; the typed client for Python code uses it.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from jobs.errors import Unanswered, Unavailable, UsageError
from orchestrator.client.responses import KEY_HEADER, PREFIX, USER_HEADER, decode, gone, not_http
from orchestrator.client.settings import Server, user_name

PATIENCE_S = 120.0
STREAM_TIMEOUT_S = 90.0  # without a byte


class Api:
    """One connection to a server, kept open between requests and opened again when it breaks.

    find: the server, or what finds it at the first request: what is wrong with a verb's own input is told before it.
    """

    def __init__(self, find: Server | Callable[[], Server], timeout_s: float = 30.0) -> None:
        self._find = find
        self._timeout_s = timeout_s
        self._told: set[str] = set()

    @cached_property
    def server(self) -> Server:
        return self._find if isinstance(self._find, Server) else self._find()

    @cached_property
    def _base(self) -> str:
        return urlsplit(self.server.url).path.rstrip("/") + PREFIX

    @cached_property
    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.server.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(parts.hostname or "", parts.port, timeout=self._timeout_s)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON answer to GET. Raises what jobs.errors has for it."""
        given = {key: value for key, value in query.items() if value is not None}
        answer = self._ask("GET", f"{path}?{urlencode(given)}" if given else path)[1]
        self._tell_unreadable(answer)
        return answer

    def post(self, path: str, body: Any = None, key: str = "", **query: Any) -> tuple[int, Any]:
        """Status and JSON answer of POST. key: of a submission, see once(). Raises what jobs.errors has for it."""
        return self._ask("POST", f"{path}?{urlencode(query)}" if query else path, body, key)

    def put(self, path: str, body: Any) -> Any:
        """The JSON answer to PUT. Raises what jobs.errors has for it."""
        return self._ask("PUT", path, body)[1]

    def patch(self, path: str, body: Any) -> Any:
        """The JSON answer to PATCH. Raises what jobs.errors has for it."""
        return self._ask("PATCH", path, body)[1]

    def delete(self, path: str) -> Any:
        """The JSON answer to DELETE. Raises what jobs.errors has for it."""
        return self._ask("DELETE", path)[1]

    def stream(self, path: str, **query: Any) -> Iterator[bytes]:
        """The bytes of a long answer to GET, on a connection of its own. Raises what jobs.errors has for it, and
        Unavailable where it ends too early.
        """
        known = self._connection
        connection = type(known)(known.host, known.port, timeout=STREAM_TIMEOUT_S)
        with contextlib.closing(connection), self._explained(STREAM_TIMEOUT_S):
            connection.request("GET", f"{self._base}{path}?{urlencode(query)}", headers=self._headers())
            answer = connection.getresponse()
            if answer.status >= 400:
                decode(answer.status, answer.headers.get_content_type(), answer.read(), self.server.url)
            left = int(answer.headers["Content-Length"] or 0)
            while left:
                piece = answer.read(min(left, 1 << 20))
                if not piece:
                    raise ConnectionError
                left -= len(piece)
                yield piece

    def close(self) -> None:
        if "_connection" in vars(self):
            self._connection.close()

    def _ask(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
        headers = self._headers()
        if key:
            headers[KEY_HEADER] = key
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        with self._explained(self._timeout_s):
            status, kind, raw = self._exchange(method, self._base + path, data, headers)
        return status, decode(status, kind, raw, self.server.url)

    def _tell_unreadable(self, answer: dict[str, Any]) -> None:
        """What the server left out of its answers, each once, on stderr: no list looks whole that is not."""
        for one in answer.get("unreadable", ()):
            said = f"{one['kind']} {one['id']} can't be read by this server's version: {one['why']}"
            if said not in self._told:
                self._told.add(said)
                sys.stderr.write(f"note: {said}\n")

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", USER_HEADER: quote(user_name())}
        if self.server.token:
            headers["Authorization"] = f"Bearer {self.server.token}"
        return headers

    @contextlib.contextmanager
    def _explained(self, timeout_s: float) -> Iterator[None]:
        """What breaks in the block, as jobs.errors has it."""
        try:
            yield
        except TimeoutError:
            raise Unanswered(
                f"the server at {self.server.url} did not answer within {timeout_s:g} s"
            ) from None
        except ConnectionRefusedError:
            raise gone(self.server.url) from None
        except (http.client.RemoteDisconnected, http.client.IncompleteRead, ConnectionError):
            raise Unanswered(
                f"the server at {self.server.url} closed the connection before its answer was whole"
            ) from None
        except http.client.HTTPException as error:
            raise not_http(self.server.url, f"it does not speak HTTP: {type(error).__name__}") from None
        except UnicodeError:
            raise UsageError("the token has characters that no token has; check TUNEYARD_TOKEN") from None
        except OSError as error:
            raise gone(self.server.url, error.strerror or str(error)) from None

    def _exchange(
        self, method: str, path: str, data: bytes | None, headers: dict[str, str]
    ) -> tuple[int, str, bytes]:
        # A server may close an idle connection under us; for GET it is safe to ask again, on a fresh one.
        retry = method == "GET" and self._connection.sock is not None
        try:
            self._connection.request(method, path, data, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read()
        except ConnectionError:
            self._connection.close()
            if not retry:
                raise
            return self._exchange(method, path, data, headers)
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise


def job_path(job: str, rest: str = "") -> str:
    """The path of one job, by id or name."""
    return f"/jobs/{quote(job, safe='')}{rest}"


class Patience:
    """Lets a watcher outlive a server that restarts: Unavailable is borne for limit_s, then raised; None: for good."""

    def __init__(self, say: Callable[[str], object], limit_s: float | None = PATIENCE_S) -> None:
        self._say = say
        self._limit_s = limit_s
        self._since: float | None = None

    @contextlib.contextmanager
    def bear(self) -> Iterator[None]:
        """Swallow Unavailable. What comes after the failing call in the block does not run."""
        try:
            yield
        except Unavailable as error:
            now = time.monotonic()
            if self._since is None:
                self._since = now
                self._say(f"{error} (waiting for it)")
            if self._limit_s is not None and now - self._since > self._limit_s:
                raise
            return
        if self._since is not None:
            self._since = None
            self._say("the server is back")
