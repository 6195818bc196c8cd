"""The host agent against a server on loopback: joining, telling, and an absent server."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from jobs.errors import Unauthorized, Unavailable
from jobs.jobfile.spec import parse_spec
from jobs.messages.reports import TraceRequest, TraceResult
from jobs.state import Outcome
from tests.workers.agents import IGNORES, OBEYS, SUCCEEDS, TOKEN, Host, host_info
from tests.workers.fake_server import FakeServer
from workers.agent.server_client import Link


def test_it_joins_with_its_cards_and_reports_them(server: FakeServer, host: Host) -> None:
    server.ray_address = "127.0.0.2:6379"
    host.tick_until(lambda: len(server.reports) >= 3)
    assert [len(info.gpus) for info in server.joins] == [2]
    assert {uuid for uuid, _ in server.samples} == {"cpu-alpha-0", "cpu-alpha-1"}
    assert host.raylet.asked[-1] == ("127.0.0.2:6379", "ray-token", frozenset())
    assert server.reports[-1].ray_ready


def test_a_finished_attempt_is_told_whole_and_then_forgotten(server: FakeServer, host: Host) -> None:
    server.open_attempt(7)
    host.train(7, SUCCEEDS).wait()
    host.tick_until(lambda: 7 in server.ended)
    assert server.ended[7].outcome is Outcome.SUCCEEDED
    assert server.logs[7].decode() == "".join(f"step {step} ✓\n" for step in range(1, 6))
    assert sorted(server.progress[7]) == [1, 2, 3, 4, 5]
    host.tick_until(lambda: not host.folder(7).path.exists())


def test_a_card_shows_the_trainer_that_is_on_it(server: FakeServer, host: Host) -> None:
    server.open_attempt(7)
    trainer = host.train(7, IGNORES)

    def seen() -> bool:
        by_card = {sample.uuid: sample for sample in server.reports[-1].samples} if server.reports else {}
        shown = by_card.get("cpu-alpha-1")
        return shown is not None and list(shown.process_memory or {}) == [trainer.pid]

    host.tick_until(seen)
    assert server.reports[-1].running == [7]
    assert host.raylet.asked[-1][2] == {trainer.pid}, "the raylet must spare it"
    assert [(path.name, path.read_text()) for path in host.dcgm_folder.iterdir()] == [("1", "1\n")]


def test_an_absent_server_costs_no_sample_no_line_and_no_step(server: FakeServer, host: Host) -> None:
    server.open_attempt(7)
    trainer = host.train(7, OBEYS)
    host.tick_until(lambda: bool(server.progress.get(7)))
    told_before = len(server.samples)
    server.down()
    for _ in range(40):
        host.agent.tick()
        time.sleep(0.02)
    assert trainer.poll() is None, "the trainer went on"
    assert list((host.root / "spool").glob("*.jsonl")), "samples are on disk"
    server.up()
    host.tick_until(lambda: len(server.samples) >= told_before + 2 * 40)
    host.tick_until(lambda: not list((host.root / "spool").glob("*.jsonl")))
    host.leave(grace_s=10.0)
    assert 7 in server.ended
    steps = sorted(server.progress[7])
    assert steps == list(range(1, steps[-1] + 1)) and steps[-1] == server.ended[7].steps
    assert server.logs[7].decode().splitlines() == [f"step {step} ✓" for step in steps]
    assert max(server.told.values()) == 1, "no sample was told twice"
    times = sorted(ts for uuid, ts in server.samples if uuid == "cpu-alpha-0")
    assert max(later - earlier for earlier, later in pairwise(times)) < 1.5, "no gap in the samples"


def test_samples_survive_the_agent(server: FakeServer, tmp_path: Path) -> None:
    first = Host(server, tmp_path)
    first.tick_until(lambda: bool(server.reports))
    told = len(server.samples)
    server.down()
    for _ in range(5):
        first.agent.tick()
    server.up()
    second = Host(server, tmp_path)
    second.tick_until(lambda: len(server.samples) >= told + 2 * 6)
    second.close()


def test_a_server_that_hangs_does_not_stop_the_sampling(server: FakeServer, host: Host) -> None:
    host.tick_until(lambda: bool(server.reports))
    with server.lock:  # every request waits from here on
        for _ in range(5):
            begun = time.monotonic()
            host.agent.tick()
            assert time.monotonic() - begun < 1.0
    host.tick_until(lambda: len({ts for _, ts in server.samples}) >= 6)


def test_a_server_that_asks_for_quiet_is_left_alone_and_misses_nothing(
    server: FakeServer, tmp_path: Path
) -> None:
    host = Host(server, tmp_path, chance=lambda: 1.0)
    host.tick_until(lambda: bool(server.reports))
    begun, asked = time.monotonic(), server.asked
    server.busy_for_s = 1
    host.tick_until(lambda: server.asked == asked + 2)
    assert time.monotonic() - begun >= 1.5, "a second, and half of one so that not all come at once"
    server.busy_for_s = None
    host.tick_until(lambda: len(server.samples) >= 2 * 10)
    assert max(server.told.values()) == 1
    times = sorted(ts for uuid, ts in server.samples if uuid == "cpu-alpha-0")
    assert max(later - earlier for earlier, later in pairwise(times)) < 1.5, "no gap in the samples"
    server.busy_for_s = 60
    asked = server.asked
    host.tick_until(lambda: server.asked > asked)
    host.close()
    assert server.asked >= asked + 2, "that it ends is said all the same"


def test_a_forgotten_host_joins_anew(server: FakeServer, host: Host) -> None:
    host.tick_until(lambda: bool(server.reports))
    server.known_hosts.clear()
    told = len(server.samples)
    host.tick_until(lambda: len(server.joins) == 2 and len(server.samples) > told + 2)
    assert max(server.told.values()) == 1


def test_a_wrong_token_ends_the_agent_with_a_message(server: FakeServer, host: Host) -> None:
    server.token = "another"
    with pytest.raises(Unauthorized, match=r"refuses this token.*config\.json"):
        host.agent.run()


def test_a_token_that_changes_later_does_not_end_training(server: FakeServer, host: Host) -> None:
    host.tick_until(lambda: bool(server.reports))
    server.token = "another"
    for _ in range(5):
        host.agent.tick()
    server.token = "host-token"
    told = len(server.reports)
    host.tick_until(lambda: len(server.reports) > told)
    assert len(server.joins) == 1


def test_a_trace_is_run_once_and_told_until_it_is_stored(server: FakeServer, tmp_path: Path) -> None:
    spec = parse_spec({"model": "gpt2", "data": "/d.jsonl"})
    runs: list[str] = []
    going_on = threading.Event()

    def trace(request: TraceRequest) -> TraceResult:
        runs.append(request.key)
        going_on.wait(10)
        if request.key == "bad":
            raise RuntimeError("boom")
        return TraceResult(key=request.key, profile={"layers": 3})

    host = Host(server, tmp_path, trace)
    server.wanted_traces = [TraceRequest(key=key, spec=spec) for key in ("good", "bad")]
    host.tick_until(lambda: runs == ["good"])
    reports = len(server.reports)
    host.tick_until(lambda: len(server.reports) > reports + 3)
    assert runs == ["good"], "one at a time, and asking again starts no second one"
    going_on.set()
    host.tick_until(lambda: len(server.traces) == 2)
    assert server.traces["good"].profile == {"layers": 3}
    assert server.traces["bad"].error == "the trace failed: RuntimeError: boom"
    host.agent.tick()
    host.agent.tick()
    assert not server.reports[-1].traces
    assert runs == ["good", "bad"]
    host.close()


def test_of_several_servers_one_that_answers_is_told(server: FakeServer) -> None:
    second = FakeServer()
    second.token = server.token
    second.up()
    link = Link(f"{server.url},{second.url}/", TOKEN)
    try:
        link.join(host_info())
        server.down()
        with pytest.raises(Unavailable, match=f"{server.url} can't be reached"):
            link.join(host_info())
        link.join(host_info())
        assert (len(server.joins), len(second.joins)) == (1, 1)
        second.down()
        with pytest.raises(Unavailable, match=f"{second.url} can't be reached"):
            link.join(host_info())
        server.up()
        link.join(host_info())
        assert (len(server.joins), len(second.joins)) == (2, 1)
    finally:
        link.close()
        second.down()
