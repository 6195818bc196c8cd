"""The stream over a real socket: a snapshot, what changed, resumption, cuts, and its end."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import zlib

import pytest
import uvicorn

from jobs.errors import Unavailable
from orchestrator.api.app import create_app
from orchestrator.api.edge.connections import guarded
from orchestrator.api.edge.listener import Listener
from orchestrator.api.live import feed, stream
from orchestrator.api.live.columns import apply
from tests.api.conftest import TOKEN
from tests.api.scheduling.test_scheduling import FakeHost, card

PATH = "/api/v1/stream"


@pytest.fixture
def served(yard):
    """The yard's application on a socket of its own: (address, Listener, its thread)."""
    yard.services.window.apart_s = 0.02
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_app(yard.services),
        http=guarded(50),
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=30,
    )
    config.load()  # what it imports, it imports here and not on the event loop
    server = Listener(config, lambda: None, yard.services.feed.close)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname(), server, thread
    server.should_exit = True
    thread.join(60)
    assert not thread.is_alive()
    listener.close()


class Follower:
    """Reads one stream."""

    def __init__(self, address, mark="", gzip=False):
        self.link = http.client.HTTPConnection(*address, timeout=60)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        if mark:
            headers["Last-Event-ID"] = mark
        if gzip:
            headers["Accept-Encoding"] = "gzip, br"
        self.link.request("GET", PATH, headers=headers)
        self.answer = self.link.getresponse()
        self.unpack = zlib.decompressobj(31).decompress if gzip else bytes
        self.text = b""

    def event(self, *names):
        """The next event, of one of these names where some are given: (name, id, value)."""
        while True:
            while b"\n\n" not in self.text:
                data = self.answer.read1(65536)
                if not data:
                    return None
                self.text += self.unpack(data)
            block, _, self.text = self.text.partition(b"\n\n")
            found = dict(line.split(": ", 1) for line in block.decode().splitlines())
            if "event" in found and (not names or found["event"] in names):
                return found["event"], found.get("id", ""), json.loads(found["data"])

    def close(self):
        self.link.close()


@contextlib.contextmanager
def following(address, **given):
    made = Follower(address, **given)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("gzip", [False, True])
def test_a_snapshot_comes_first_and_then_what_changed(yard, served, gzip):
    host = FakeHost(yard, card(0, 2))
    with following(served[0], gzip=gzip) as one:
        assert one.answer.getheader("Content-Type").startswith("text/event-stream")
        assert one.answer.getheader("Content-Encoding") == ("gzip" if gzip else None)
        name, _, state = one.event()
        assert (name, state["hosts"]["name"], state["cards"]["used_bytes"]) == ("snapshot", ["h1"], [None])
        assert "uuid" not in state["cards"]
        host.report(samples=[{"uuid": "cpu-0", "ts": yard.now, "memory_used_bytes": 7}])
        while state["cards"]["used_bytes"] != [7]:
            name, _, changed = one.event()
            assert name == "delta"
            state = apply(state, changed)


def test_all_get_the_same_bytes_and_the_fleet_is_read_for_them_together(yard, served, monkeypatch):
    FakeHost(yard, card(0, 2))
    with contextlib.ExitStack() as stack:
        all_ = [stack.enter_context(following(served[0])) for _ in range(5)]
        firsts = [one.event("snapshot") for one in all_]
        assert all(first == firsts[0] for first in firsts)
        FakeHost(yard, card(1, 2), name="h2")
        seconds = [one.event("delta") for one in all_]
        assert all(second == seconds[0] for second in seconds)
        assert yard.services.feed.followers == 5


def test_a_stream_that_was_cut_goes_on_where_it_was(yard, served):
    host = FakeHost(yard, card(0, 2))
    with following(served[0]) as one, following(served[0]) as other:
        _, mark, state = one.event("snapshot")
        other.event("snapshot")
        one.close()
        for used in (1, 2):
            host.report(samples=[{"uuid": "cpu-0", "ts": yard.now + used, "memory_used_bytes": used}])
            other.event("delta")
    with following(served[0], mark=mark) as one:
        while state["cards"]["used_bytes"] != [2]:
            name, _, changed = one.event()
            assert name == "delta", "no second snapshot"
            state = apply(state, changed)


@pytest.mark.parametrize(
    "mark", ["0badc0de-1", "x", "-", "{boot}-99999999999999999999", "{boot}-0", "{boot}-5000"]
)
def test_a_mark_of_another_server_or_too_long_ago_gets_the_state_anew(yard, served, mark):
    FakeHost(yard, card(0, 2))
    with following(served[0], mark=mark.replace("{boot}", yard.services.feed.boot)) as one:
        assert one.event()[0] == "snapshot"


def test_who_was_away_for_longer_than_is_kept_gets_the_state_anew(yard, served, monkeypatch):
    monkeypatch.setattr(feed, "MOST_PIECES", 2)
    host = FakeHost(yard, card(0, 2))
    with following(served[0]) as one, following(served[0]) as other:
        _, mark, _ = one.event("snapshot")
        other.event("snapshot")
        one.close()
        for used in range(1, 6):
            host.report(samples=[{"uuid": "cpu-0", "ts": yard.now + used, "memory_used_bytes": used}])
            other.event("delta")
    with following(served[0], mark=mark) as one:
        name, _, state = one.event()
        assert (name, state["cards"]["used_bytes"]) == ("snapshot", [5])


def test_without_news_there_are_beats(yard, served):
    yard.services.feed._beat_s = 0.05
    with following(served[0]) as one:
        one.event("snapshot")
        assert one.event() == ("beat", "", {"at": 1_000.0})


def test_a_database_that_is_away_is_told_and_the_stream_goes_on(yard, served, monkeypatch):
    with following(served[0]) as one:
        one.event("snapshot")
        with monkeypatch.context() as patch:

            def away(*_):
                raise Unavailable("the database is away")

            patch.setattr(yard.services.store, "live_rows", away)
            assert one.event("trouble")[2] == {"text": "the database is away"}
        FakeHost(yard, card(0, 2))
        assert one.event("delta")[2]["hosts"]["all"]["name"] == ["h1"]


def test_a_fault_of_ours_is_told_and_the_stream_goes_on(yard, served, monkeypatch):
    with following(served[0]) as one:
        one.event("snapshot")
        with monkeypatch.context() as patch:
            patch.setattr(yard.services.window, "read", lambda: 1 / 0)
            assert "its log says why" in one.event("trouble")[2]["text"]
        FakeHost(yard, card(0, 2))
        assert one.event("delta")


def test_nobody_is_read_for_when_nobody_follows(yard, served):
    with following(served[0]) as one:
        one.event("snapshot")
    while yard.services.feed.followers or not yard.services.feed._rounds.done():
        threading.Event().wait(0.01)
    with following(served[0]) as one:
        assert one.event("snapshot")


def test_too_many_are_refused_and_may_come_again(yard, served, monkeypatch):
    monkeypatch.setattr(feed, "MOST_OF_ADDRESS", 2)
    with following(served[0]) as one, following(served[0]) as two, following(served[0]) as three:
        assert one.event() and two.event()
        assert (three.answer.status, three.answer.getheader("Retry-After")) == (429, "5")
        one.close()
        while yard.services.feed.followers > 1:
            threading.Event().wait(0.01)
        with following(served[0]) as four:
            assert four.answer.status == 200


def test_who_does_not_read_is_dropped(yard, served, monkeypatch):
    monkeypatch.setattr(stream, "SLOW_S", 0.2)
    yard.services.window.read = growing()
    with socket.create_connection(served[0]) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.sendall(f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        link.recv(1)
        assert yard.services.feed.followers == 1
        while yard.services.feed.followers or protocol_of(served).connections_.open:
            threading.Event().wait(0.02)


def protocol_of(served):
    return served[1].config.http_protocol_class


def growing():
    """A fleet that changes by 2 MB each time it is read."""
    count = 0

    def read():
        nonlocal count
        count += 1
        return {"at": count, "text": f"{count}" + "x" * 2_000_000}

    return read


def test_without_the_token_there_is_nothing(served):
    link = http.client.HTTPConnection(*served[0], timeout=60)
    link.request("GET", PATH)
    assert link.getresponse().status == 401
    link.close()


def test_the_end_of_the_server_ends_streams_at_once(served):
    address, server, thread = served
    with following(address) as one:
        one.event("snapshot")
        server.should_exit = True
        assert one.event("never") is None, "it ends as a whole answer"
        thread.join(10)
        assert not thread.is_alive(), "it did not wait for the 30 s that answers have"
