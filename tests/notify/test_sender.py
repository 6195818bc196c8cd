"""Notices on their way: a real web server on loopback, both databases, and a day that passes by the test's clock."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import NotFound, UsageError
from orchestrator.notify.addresses import read_url, resolve
from orchestrator.notify.post import DELIVERY, SIGNATURE, TIMESTAMP, sign
from orchestrator.notify.sender import GIVE_UP_S, Sender
from orchestrator.store import Store
from orchestrator.store.requests import NOTIFIED, NewJob
from orchestrator.store.sealed_rows import TargetRow
from orchestrator.vault import Vault

LOOPBACK = ("127.0.0.0/8",)


class Hook:
    """A web server that answers with `status` and keeps what it got."""

    def __init__(self) -> None:
        self.status, self.got = 200, list[tuple[str, dict[str, str], bytes]]()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append((self.path, dict(self.headers), body))
                self.send_response(hook.status)
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?a=b"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.server.shutdown()
    made.server.server_close()


class Desk:
    """A sender over a store, by the test's clock."""

    def __init__(self, store: Store, home: Path, allowed: tuple[str, ...] = LOOPBACK) -> None:
        self.now, self.leads, self.store, self.vault = 1000.0, True, store, Vault(home / "secrets.key")
        self.sender = Sender(store, self.vault, lambda: self.now, lambda: self.leads, allowed)

    def target(self, url: str, project: str | None = None, kind: str = "webhook", on: str = "") -> int:
        sealed = self.vault.seal("", "u", json.dumps({"url": url, "key": "k" * 40}))
        kinds = f",{on or ','.join(NOTIFIED)},"
        row = TargetRow(0, "u", project, kind, kinds, "127.0.0.1", sealed.key_id, sealed.box)
        return self.store.add_target(row, self.now)

    def cancelled(self, project: str = "default") -> int:
        spec = {"model": "org/model", "data": "rows.jsonl", "project": project}
        (job,) = self.store.submit([NewJob("n", "ada", spec, 50, project=project)], self.now)
        self.store.request_cancel(job.id, self.now)
        return job.id


@pytest.fixture
def desk(store: Store, tmp_path: Path) -> Desk:
    return Desk(store, tmp_path)


def test_an_outcome_is_told_once_and_signed(desk: Desk, hook: Hook) -> None:
    desk.target(hook.url)
    job = desk.cancelled()
    desk.sender.send_due()
    desk.sender.send_due()
    ((path, headers, body),) = hook.got
    told = json.loads(body)
    assert (path, told["job"], told["kind"], told["ts"]) == ("/hook?a=b", job, "cancelled", 1000.0)
    assert headers[DELIVERY] == told["id"] and headers["Host"] == hook.url.split("/")[2]
    assert headers[SIGNATURE] == f"sha256={sign('k' * 40, int(headers[TIMESTAMP]), body)}"
    assert desk.store.waiting_notices() == {}


def test_slack_gets_a_text(desk: Desk, hook: Hook) -> None:
    desk.target(hook.url, kind="slack")
    job = desk.cancelled()
    desk.sender.send_due()
    ((_, _, body),) = hook.got
    assert list(json.loads(body)) == ["text"] and f"job {job}: cancelled" in json.loads(body)["text"]


def test_a_target_hears_of_its_project_and_its_kinds_alone(desk: Desk, hook: Hook) -> None:
    for project, on in (("ours", ""), (None, "failed"), ("theirs", "cancelled")):
        desk.target(hook.url, project, on=on)
    desk.cancelled("ours")
    assert desk.store.waiting_notices() == {1: 1}


def test_one_that_answers_500_for_a_day_is_given_up_and_the_events_say_so(desk: Desk, hook: Hook) -> None:
    desk.target(hook.url)
    job, hook.status = desk.cancelled(), 500
    times = []
    while due := desk.store.due_notices(1e12):
        desk.now = due[0].next_at - 1
        desk.sender.send_due()
        assert len(hook.got) == len(times), "before its time"
        desk.now += 1
        desk.sender.send_due()
        times.append(desk.now)
    waits = [later - sooner for sooner, later in pairwise(times)]
    assert waits[:4] == [5, 10, 20, 40] and max(waits) <= 3600 and 25 < len(times) < 45
    assert times[-1] - 1000 >= GIVE_UP_S
    assert len({headers[DELIVERY] for _, headers, _ in hook.got}) == 1
    (event,) = [one for one in desk.store.events(job) if one.kind == "notice_lost"]
    assert "did not take the notice of 'cancelled' for a day" in event.text and "500" in event.text
    hook.status = 200
    desk.cancelled()
    desk.sender.send_due()
    assert hook.got[-1][1][DELIVERY] != hook.got[0][1][DELIVERY]


def test_a_redirect_is_not_followed_and_a_server_that_does_not_lead_sends_nothing(
    desk: Desk, hook: Hook
) -> None:
    desk.target(hook.url)
    desk.cancelled()
    desk.leads = False
    desk.sender.send_due()
    assert not hook.got
    desk.leads, hook.status = True, 302
    desk.sender.send_due()
    assert len(hook.got) == 1 and desk.store.waiting_notices() == {1: 1}


def test_a_private_address_is_posted_to_only_where_the_operator_allows_it(
    store: Store, tmp_path: Path, hook: Hook
) -> None:
    desk = Desk(store, tmp_path, ())
    desk.target(hook.url)
    desk.cancelled()
    desk.sender.send_due()
    assert not hook.got and desk.store.waiting_notices() == {1: 1}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
def test_addresses_that_are_not_public(host: str) -> None:
    with pytest.raises(OSError, match="is not public"):
        resolve(read_url(f"http://{host}/"), ())


@pytest.mark.parametrize(
    "url",
    ["ftp://a/b", "file:///etc/passwd", "https://", "http://u:p@host/", "http://[x", "http://a b/", "x"],
)
def test_what_is_no_url_of_a_web_server(url: str) -> None:
    with pytest.raises(UsageError, match="url: "):
        read_url(url)


def test_a_removed_target_takes_its_notices_along(desk: Desk, hook: Hook) -> None:
    desk.target(hook.url)
    desk.cancelled()
    desk.store.remove_target(1, desk.now)
    assert desk.store.waiting_notices() == {}
    with pytest.raises(NotFound, match="no target 1"):
        desk.store.add_notice(1, "test", "t", desk.now)
