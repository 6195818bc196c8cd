"""Clients that send slowly, or not to the end, hold nobody up: real sockets, a real server."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn

from orchestrator.api.app import create_app
from orchestrator.api.context import Services
from orchestrator.api.edge import connections
from orchestrator.api.edge.budget import SUBMISSION_BYTES
from orchestrator.api.submission.group_commit import GroupCommit
from orchestrator.config import Settings
from orchestrator.control.controller import Controller
from orchestrator.store import Store
from tests.fakes import FakeDispatch

TOKEN = "token-of-the-connections"
HEAD = f"Host: x\r\nAuthorization: Bearer {TOKEN}\r\n"
Serve = Callable[[int], int]


@pytest.fixture
def serve(sqlite_store: Store, tmp_path: Path) -> Iterator[Serve]:
    """Starts a server that takes so many connections; its port."""
    ended = contextlib.ExitStack()

    def start(most: int = 1000) -> int:
        settings = Settings(home=tmp_path, database=str(sqlite_store.url), token=TOKEN, ray=False)
        controller = Controller(sqlite_store, FakeDispatch(), settings)
        services = Services(settings, sqlite_store, FakeDispatch(), controller, GroupCommit(sqlite_store))
        listener = ended.enter_context(socket.create_server(("127.0.0.1", 0), backlog=256))
        protocol = connections.guarded(most)
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(services), http=protocol, log_level="warning", timeout_graceful_shutdown=1
            )
        )
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        serving.start()
        ended.callback(serving.join)
        ended.callback(setattr, server, "should_exit", True)
        return int(listener.getsockname()[1])

    with ended:
        yield start


def begin(port: int, text: str) -> socket.socket:
    """A connection that has sent so much of a request."""
    made = socket.create_connection(("127.0.0.1", port), timeout=60)
    made.sendall(text.encode())
    return made


def answer(connection: socket.socket) -> tuple[int, dict[str, str], str]:
    """Status, headers and message of the answer that ends the connection."""
    with connection, connection.makefile("rb") as file:
        raw = file.read()
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, json.loads(body)["error"]["message"]


def health(port: int) -> int:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    client.request("GET", "/api/v1/health")
    status = client.getresponse().status
    client.close()
    return status


@pytest.mark.parametrize(
    "text",
    [
        "",
        "POST /api/v1/jobs HTT",
        f"POST /api/v1/jobs HTTP/1.1\r\n{HEAD}",
        f"POST /api/v1/jobs HTTP/1.1\r\n{HEAD}Content-Length: 100\r\n\r\n",
        f"POST /api/v1/jobs HTTP/1.1\r\n{HEAD}Content-Length: 100\r\n\r\n" + '{"jobs": [',
        f"POST /api/v1/plan HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        + "{",
    ],
    ids=["nothing", "a line", "a head", "no body", "half a body", "half a body for a plan"],
)
def test_a_request_that_does_not_come_to_its_end_is_ended(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    monkeypatch.setattr(connections, "HEADER_S", 0.2)
    monkeypatch.setattr(connections, "BODY_S", 0.2)
    port = serve(1000)
    status, headers, said = answer(begin(port, text))
    assert (status, headers["connection"]) == (408, "close")
    assert "the request did not come in time" in said
    monkeypatch.setattr(connections, "HEADER_S", 60.0)
    assert health(port) == 200
    assert "Traceback" not in caplog.text and "failed" not in caplog.text


def test_the_second_request_of_a_connection_has_its_time_too(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = serve(1000)
    made = begin(port, f"GET /api/v1/schema HTTP/1.1\r\n{HEAD}\r\n")
    assert made.recv(15) == b"HTTP/1.1 200 OK"
    monkeypatch.setattr(connections, "HEADER_S", 0.2)
    made.sendall(f"GET /api/v1/jobs HTTP/1.1\r\n{HEAD}".encode())
    with made, made.makefile("rb") as file:
        assert b"408 Request Timeout" in file.read()


def test_what_comes_steadily_has_longer(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a byte a second wanted, each byte that came is worth a second."""
    monkeypatch.setattr(connections, "BODY_S", 0.1)
    monkeypatch.setattr(connections, "SLOWEST", 1)
    port = serve(1000)
    made = begin(port, f"POST /api/v1/jobs HTTP/1.1\r\n{HEAD}Content-Length: 100\r\n\r\n{'x' * 99}")
    time.sleep(0.5)
    made.sendall(b"x")
    assert made.recv(12) == b"HTTP/1.1 422"
    made.close()


def test_half_sent_requests_lock_nobody_out(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BEGINNING_S", 0.0)
    monkeypatch.setattr(connections, "PER_ADDRESS", 10**6)
    port = serve(60)
    half = [begin(port, f"POST /api/v1/jobs HTTP/1.1\r\n{HEAD}") for _ in range(120)]
    assert [health(port) for _ in range(5)] == [200] * 5
    assert answer(half[0])[0] == 408, "the oldest went"
    for one in half[1:]:
        one.close()


def test_one_address_has_so_many_half_sent(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BEGINNING_S", 0.0)
    monkeypatch.setattr(connections, "PER_ADDRESS", 3)
    port = serve(1000)
    half = [begin(port, "GET /api/v1/hea") for _ in range(4)]
    status, _, said = answer(half[0])
    assert status == 408 and "more than 3 of this address are half sent" in said
    half[3].sendall(b"lth HTTP/1.1\r\nHost: x\r\n\r\n")
    assert half[3].recv(15) == b"HTTP/1.1 200 OK"
    for one in half[1:]:
        one.close()


def test_beyond_the_most_a_connection_is_told_so(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BEGINNING_S", 1000.0)
    port = serve(2)
    kept = [begin(port, "GET /api/v1/hea") for _ in range(2)]
    status, headers, said = answer(begin(port, ""))
    assert (status, headers["retry-after"]) == (503, "1000")
    assert "2 connections are open already" in said
    kept[0].close()
    while health_or_none(port) != 200:  # once the server has seen that it is gone
        time.sleep(0.01)
    kept[1].close()


def health_or_none(port: int) -> int | None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return health(port)
    return None


@pytest.mark.parametrize("size", [SUBMISSION_BYTES + 1, 5 * SUBMISSION_BYTES])
def test_a_client_that_sends_too_much_can_read_why(serve: Serve, size: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", serve(1000), timeout=60)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    client.request("POST", "/api/v1/jobs", bytes(size), headers)
    found = client.getresponse()
    said = json.loads(found.read())["error"]["message"]
    assert found.status == 413
    assert said.endswith("and a submission has at most 16 MiB") and said.startswith("the body has ")
    client.close()


def test_who_asks_for_leave_to_send_too_much_does_not_get_it(serve: Serve) -> None:
    text = f"POST /api/v1/jobs HTTP/1.1\r\n{HEAD}Expect: 100-continue\r\nContent-Length: {2**40}\r\n\r\n"
    status, _, said = answer(begin(serve(1000), text))
    assert status == 413 and "1024.00 GiB" in said
