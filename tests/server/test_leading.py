"""Two real servers on one database: one decides, the other stands by and follows within ten seconds."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.store import Store
from tests import invariants
from tests.server.servers import SOON_S, Home, trained_job, training, until

TAKEOVER_S = 10.0


class Pair:
    """Two homes, one database."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.homes = [Home(folder / name) for name in "ab"]
        for home in self.homes:
            home.path.mkdir()

    def serve(self, which: int) -> tuple[Any, httpx.Client]:
        home = self.homes[which]
        child = home.serve("--port", "0", "--database", self.url, "--token", "a-token-that-both-of-them-have")
        http = home.client()
        http.timeout = httpx.Timeout(5.0)
        return child, http

    def close(self) -> None:
        for home in self.homes:
            home.close()


@pytest.fixture
def pair(tmp_path: Path, url: str) -> Iterator[Pair]:
    made = Pair(tmp_path, url)
    yield made
    made.close()
    store = Store(url)
    invariants.check_all(store)
    store.close()


def leader(http: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = http.get("/health").json()["leader"]
    return found


def leads(http: httpx.Client) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return bool(leader(http)["leads"])
    return False


def pause(child: Any, url: str) -> None:
    """Stop it, but not within a write to SQLite: that would hold up every writer, also under another leader."""
    while True:
        child.send_signal(signal.SIGSTOP)
        if not url.startswith("sqlite"):
            return
        with (
            contextlib.closing(
                sqlite3.connect(url.removeprefix("sqlite:///"), timeout=1.0, isolation_level=None)
            ) as other,
            contextlib.suppress(sqlite3.OperationalError),
        ):
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
            return
        child.send_signal(signal.SIGCONT)
        time.sleep(0.05)


def test_one_leads_and_the_other_takes_over_and_the_deposed_one_decides_nothing(pair: Pair) -> None:
    first, one = pair.serve(0)
    until(lambda: leads(one))
    _, two = pair.serve(1)
    assert not leads(two)
    assert leader(two)["url"] == str(one.base_url).removesuffix("/api/v1/") == leader(one)["url"]
    assert two.get("/hosts").json()["leader"] == leader(two)
    (made,) = one.post("/jobs", json=trained_job(pair.homes[0])).json()["jobs"]
    with training(two, made["id"]) as agent:  # a host may report to either
        until(lambda: agent.heard > 3)
        (other,) = two.post("/jobs", json=trained_job(pair.homes[0])).json()["jobs"]
        until(lambda: agent.job(other["id"])["reason"]["code"] != "new")
        pause(first, pair.url)
        paused_at = time.monotonic()
        until(lambda: leads(two))
        took_s = time.monotonic() - paused_at
        print(f"takeover after {took_s:.1f} s")
        assert took_s < TAKEOVER_S
        epoch = leader(two)["epoch"]
        (third,) = two.post("/jobs", json=trained_job(pair.homes[0])).json()["jobs"]
        until(lambda: agent.job(third["id"])["reason"]["code"] != "new")  # the new one plans
        first.send_signal(signal.SIGCONT)
        until(lambda: leader(one)["epoch"] == epoch and not leads(one))
        for http in (one, two):
            shown = http.get(f"/jobs/{made['id']}").json()
            assert [attempt["outcome"] for attempt in shown["attempts_detail"]] == [None]
        two.post(f"/jobs/{third['id']}/cancel")
        assert leads(two) and leader(two)["epoch"] == epoch, "nor is it taken back"


def test_a_leader_that_ends_is_followed_at_once_and_one_that_is_killed_in_ten_seconds(pair: Pair) -> None:
    first, one = pair.serve(0)
    until(lambda: leads(one))
    second, two = pair.serve(1)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=SOON_S)
    ended_at = time.monotonic()
    until(lambda: leads(two))
    print(f"followed {time.monotonic() - ended_at:.1f} s after its end")
    _, one = pair.serve(0)
    assert not leads(one)
    second.kill()
    killed_at = time.monotonic()
    until(lambda: leads(one))
    took_s = time.monotonic() - killed_at
    print(f"followed {took_s:.1f} s after it was killed")
    assert took_s < TAKEOVER_S


def test_a_server_that_is_killed_and_started_again_need_not_wait(pair: Pair) -> None:
    first, one = pair.serve(0)
    until(lambda: leads(one))
    first.kill()
    first.communicate()
    _, one = pair.serve(0)
    assert leads(one), "it has the lock of the one before it: that one has ended"
    assert leader(one)["epoch"] == 2
