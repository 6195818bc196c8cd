"""A server that is not there, not ours, slow, or refuses: one clear line, exit code 1."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.errors import NotFound, Unauthorized, Unavailable, UsageError
from orchestrator.client.http import Api, Patience
from orchestrator.client.settings import Server
from tests.cli import scenes
from tests.cli.conftest import COMMAND, Tuneyard, heed_ctrl_c
from tests.cli.fake_server import TOKEN, FakeServer


@pytest.fixture
def dead_url() -> Iterator[str]:
    """A port that is ours and that nothing listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_not_there(bare: Tuneyard, dead_url: str) -> None:
    hint = "start one with `tuneyard up`, or name one with --server or TUNEYARD_URL"
    said = f"no tuneyard server at {dead_url}; {hint}"
    ran = bare("list", TUNEYARD_URL=dead_url)
    assert (ran.code, ran.out, ran.err) == (1, "", f"error: {said}\n")
    ran = bare("--server", dead_url, "list", "--json")
    assert (ran.code, ran.err) == (1, "")
    assert ran.json == {"error": {"kind": "unavailable", "message": said, "faults": []}}


def test_none_known(bare: Tuneyard) -> None:
    ran = bare("list")
    assert ran.code == 1
    assert ran.err.startswith(
        "error: no tuneyard server is known on this machine; start one with `tuneyard up`"
    )


def test_a_host_that_does_not_resolve(bare: Tuneyard) -> None:
    ran = bare("list", TUNEYARD_URL="http://no-such-host.invalid:80")
    assert ran.code == 1
    assert ran.err.startswith("error: no tuneyard server at http://no-such-host.invalid:80 (")


@pytest.mark.parametrize(
    "url", ["127.0.0.1:80", "ftp://x", "http://", "http://x:99999", "http://a b", "http://x:0"]
)
def test_an_address_that_is_no_url(bare: Tuneyard, url: str) -> None:
    ran = bare("list", "--server", url)
    assert ran.code == 2
    assert (
        ran.err
        == f"error: the server address {url!r} is not a URL; write one such as http://127.0.0.1:7420\n"
    )


def test_a_wrong_token(tuneyard: Tuneyard, server: FakeServer) -> None:
    ran = tuneyard("list", TUNEYARD_TOKEN="wrong")
    assert ran.code == 1
    assert ran.err == (
        f"error: the server at {server.url} refused the token, or was given none; "
        "give the one in config.json of its home with TUNEYARD_TOKEN or --token\n"
    )
    assert tuneyard("list", "--json", TUNEYARD_TOKEN="").json["error"]["kind"] == "unauthorized"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ((200, "text/html", b"<html>"), "is not a tuneyard server (HTTP 200, text/html)"),
        ((500, "text/plain", b"oops"), "is not a tuneyard server (HTTP 500, text/plain)"),
        (
            (404, "application/json", b'{"detail": "Not Found"}'),
            "(HTTP 404 without an error that it would give)",
        ),
        ((200, "application/json", b"[]"), "(JSON, but no object)"),
        ((200, "application/json", b'{"jobs": ['), "is not a tuneyard server (HTTP 200, application/json)"),
    ],
    ids=str,
)
def test_something_else_answers(
    tuneyard: Tuneyard, server: FakeServer, raw: tuple[int, str, bytes], said: str
) -> None:
    server.raw = raw
    ran = tuneyard("list")
    assert ran.code == 1
    assert ran.err.startswith(f"error: what answers at {server.url} is not a tuneyard server")
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_the_servers_own_failure(tuneyard: Tuneyard, server: FakeServer) -> None:
    body = {"error": {"kind": "internal", "message": "KeyError", "faults": []}}
    server.raw = (500, "application/json", json.dumps(body).encode())
    ran = tuneyard("list")
    assert (ran.code, ran.err) == (
        1,
        "error: the server failed: KeyError; on its machine `tail ~/.tuneyard/server.log` shows why\n",
    )


def talker(said: bytes) -> tuple[threading.Thread, str]:
    """A socket that says something to the first who connects, and closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def talk() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    return thread, f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "it does not speak HTTP: BadStatusLine"),
        (b"", "closed the connection before its answer was whole"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
            "closed the connection before its answer was whole",
        ),
    ],
)
def test_it_speaks_something_else(bare: Tuneyard, said: bytes, told: str) -> None:
    thread, url = talker(said)
    ran = bare("list", TUNEYARD_URL=url)
    thread.join(5)
    assert ran.code == 1
    assert told in ran.err


def test_too_slow(server: FakeServer) -> None:
    server.hang_s = 1
    with pytest.raises(Unavailable, match=r"did not answer within 0\.2 s"):
        Api(Server(server.url, TOKEN), timeout_s=0.2).get("/jobs")


def test_a_connection_that_the_server_closed_is_opened_anew(server: FakeServer) -> None:
    api = Api(Server(server.url, TOKEN))
    api.get("/jobs")
    api._connection.sock.shutdown(socket.SHUT_RDWR)
    assert api.get("/jobs")["total"] == 0
    api.close()


def test_errors_have_their_types(server: FakeServer) -> None:
    api = Api(Server(server.url, TOKEN))
    with pytest.raises(NotFound, match="there is no job 7"):
        api.get("/jobs/7")
    with pytest.raises(Unauthorized):
        Api(Server(server.url, "x")).get("/jobs")
    with pytest.raises(UsageError, match="characters that no token has"):
        Api(Server(server.url, "\u2603")).get("/jobs")


def test_patience_ends() -> None:
    told: list[str] = []
    patience = Patience(told.append, limit_s=0.05)
    with patience.bear():
        raise Unavailable("away")
    with patience.bear():
        pass
    assert told == ["away (waiting for it)", "the server is back"]
    with patience.bear():
        raise Unavailable("away")
    time.sleep(0.06)
    with pytest.raises(Unavailable), patience.bear():
        raise Unavailable("away")


def test_config_json_is_read_and_flags_win(
    bare: Tuneyard, server: FakeServer, environment: dict[str, str]
) -> None:
    config = Path(environment["TUNEYARD_HOME"]) / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"url": server.url, "token": TOKEN}))
    assert bare("list", "--json").json["total"] == 0
    assert bare("list", "--token", "wrong").code == 1
    assert bare("list", "--server", "http://127.0.0.1:9").code == 1


def test_the_token_of_config_json_goes_to_no_other_server(
    bare: Tuneyard, server: FakeServer, environment: dict[str, str]
) -> None:
    config = Path(environment["TUNEYARD_HOME"]) / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"url": "http://127.0.0.1:1", "token": TOKEN}))
    assert "refused the token" in bare("list", "--server", server.url).err


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_a_config_json_that_is_none(bare: Tuneyard, environment: dict[str, str], text: str) -> None:
    config = Path(environment["TUNEYARD_HOME"]) / "config.json"
    config.parent.mkdir()
    config.write_text(text)
    ran = bare("list")
    assert ran.code == 2
    assert str(config) in ran.err


def test_ctrl_c_leaves_no_traceback(server: FakeServer, environment: dict[str, str]) -> None:
    scenes.waiting(server)
    child = subprocess.Popen(
        [*COMMAND, "logs", "-f", "1"],
        env={**os.environ, **environment, "TUNEYARD_URL": server.url, "TUNEYARD_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_ctrl_c,
    )
    deadline = time.monotonic() + 20
    while len(server.requests) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=20)
    assert child.returncode == 130
    assert out == ""
    assert "Traceback" not in err


def test_what_the_server_can_t_read_is_told_beside_the_list(tuneyard: Tuneyard, server: FakeServer) -> None:
    left_out = {"kind": "host", "id": "h2", "why": "last_seen is 'late', no number"}
    body = {"hosts": [], "leader": None, "unreadable": [left_out]}
    server.raw = (200, "application/json", json.dumps(body).encode())
    ran = tuneyard("hosts", "--json")
    said = "note: host h2 can't be read by this server's version: last_seen is 'late', no number\n"
    assert (ran.code, ran.err) == (0, said) and ran.json["unreadable"] == [left_out]


def test_one_that_it_can_t_read_is_named(tuneyard: Tuneyard, server: FakeServer) -> None:
    error = {"kind": "unreadable", "message": "job 1 can't be read by this version: no JSON", "faults": []}
    server.raw = (409, "application/json", json.dumps({"error": error}).encode())
    ran = tuneyard("show", "1")
    assert (ran.code, ran.err) == (1, f"error: {error['message']}\n")
