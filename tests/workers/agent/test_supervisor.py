"""Ending trainers: gently, by force, when they are stale; and telling of those that died."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from jobs.messages.reports import Kept, Resumed, StopOrder
from jobs.state import Outcome
from tests.workers.agents import DIES, IGNORES, OBEYS, REPOSITORY, Host, wait_until
from tests.workers.fake_server import TOKEN, FakeServer
from workers.agent.supervisor import LOST_GRACE_S, Supervisor
from workers.attempt_folder import checkpoints_root
from workers.checkpoints.folders import name_of
from workers.checkpoints.manifest import MANIFEST


def test_a_trainer_that_obeys_ends_with_its_own_outcome(server: FakeServer, host: Host) -> None:
    server.open_attempt(7)
    trainer = host.train(7, OBEYS)
    server.stops = [StopOrder(attempt_id=7, reason="cancelled", grace_s=30)]
    host.tick_until(lambda: 7 in server.ended)
    assert server.ended[7].message == "stopped when asked"
    assert trainer.wait(5) == 0


def test_a_trainer_that_does_not_is_killed_after_its_grace(server: FakeServer, host: Host) -> None:
    server.open_attempt(7)
    trainer = host.train(7, IGNORES)
    begun = time.monotonic()
    server.stops = [StopOrder(attempt_id=7, reason="timeout", grace_s=1.0)]
    host.tick_until(lambda: 7 in server.ended)
    assert time.monotonic() - begun >= 1.0
    assert not psutil.pid_exists(trainer.pid)
    assert server.ended[7].outcome is Outcome.TIMEOUT
    assert server.ended[7].steps == 3
    assert "ended by force (timeout), 1 s after" in server.ended[7].message


def test_force_takes_the_children_too(server: FakeServer, host: Host, tmp_path: Path) -> None:
    server.open_attempt(7)
    note = tmp_path / "child"
    host.train(
        7,
        f"""
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
open({str(note)!r}, "w").write(str(child.pid))
while True: time.sleep(1)
""",
    )
    wait_until(lambda: note.exists() and note.read_text() != "")
    child = psutil.Process(int(note.read_text()))
    server.stops = [StopOrder(attempt_id=7, reason="cancelled", grace_s=0)]
    host.tick_until(lambda: 7 in server.ended)
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_a_stop_before_the_trainer_started_keeps_it_from_starting(server: FakeServer, host: Host) -> None:
    server.open_attempt(7)
    server.stops = [StopOrder(attempt_id=7, reason="cancelled", grace_s=0.2)]
    host.tick_until(lambda: 7 in server.ended)
    assert server.ended[7].outcome is Outcome.CANCELLED
    assert "before a trainer started" in server.ended[7].message


def test_an_agent_that_is_told_to_end_says_so_before_and_after_its_trainers(
    server: FakeServer, host: Host
) -> None:
    server.open_attempt(7)
    host.train(7, OBEYS)
    host.agent.tick()
    before = len(server.reports)
    assert all(report.boot for report in server.reports)
    host.leave(grace_s=10.0)
    said = server.reports[before:]
    assert said
    assert all(report.boot == "" for report in said[1:])  # the first may have been on its way
    at_work = [report.running for report in said if report.boot == ""]
    assert at_work[0] == [7]  # before its trainer is stopped, or the server would start the job here again
    assert at_work[-1] == []
    assert server.ended[7].message == "stopped when asked"


def test_what_ends_with_its_host_was_preempted_by_nobody(server: FakeServer, host: Host) -> None:
    server.open_attempt(7)
    host.train(7, IGNORES)
    host.agent.tick()
    host.leave(grace_s=0.2)
    assert host.folder(7).stop_requested() == "host_stopped"
    assert server.ended[7].outcome is Outcome.HOST_STOPPED
    assert "by force (its host was stopped)" in server.ended[7].message


def test_what_the_server_does_not_hold_open_is_ended(server: FakeServer, host: Host) -> None:
    server.open_attempt(8)
    stale, fresh = host.train(7, IGNORES), host.train(8, IGNORES)
    host.tick_until(lambda: not psutil.pid_exists(stale.pid))
    host.agent.tick()
    assert fresh.poll() is None
    outcome = host.folder(7).ended()
    assert outcome is not None and outcome.outcome is Outcome.LOST
    assert 7 not in server.ended


def test_a_folder_that_came_after_the_report_is_no_stale_one(server: FakeServer, host: Host) -> None:
    host.tick_until(lambda: bool(server.reports))
    with server.lock:  # a report is under way, its answer will not name attempt 7
        host.agent.tick()
        trainer = host.train(7, IGNORES)
    server.open_attempt(7)
    told = len(server.reports)
    host.tick_until(lambda: len(server.reports) > told + 3)
    assert trainer.poll() is None


def test_a_trainer_that_died_is_told_as_lost_with_what_is_known(server: FakeServer, host: Host) -> None:
    server.open_attempt(7)
    checkpoint = checkpoints_root(host.root, 1) / name_of(2)
    checkpoint.mkdir(parents=True)
    (checkpoint / MANIFEST).write_text("{}")
    host.train(7, DIES).wait()
    begun = time.monotonic()
    host.tick_until(lambda: 7 in server.ended)
    assert time.monotonic() - begun > 2.0, "its last file may still be on the way"
    ended = server.ended[7]
    assert (ended.outcome, ended.steps) == (Outcome.LOST, 3)
    assert (ended.first_loss, ended.last_loss) == (1.0, pytest.approx(1 / 3))
    assert "ended without an outcome" in ended.message and "3 of 100 steps" in ended.message


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may take a byte (setrlimit(2)); each write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_delays_the_outcome_of_what_died_and_nothing_else(host: Host) -> None:
    host.train(7, DIES).wait()
    host.train(8, OBEYS)
    host.train(9, IGNORES)
    now = time.time()
    supervisor = Supervisor(host.root)
    supervisor.supervise(now)
    with full_disk():
        for _ in range(3):
            now += LOST_GRACE_S + 1
            supervisor.supervise(now)
        assert host.folder(7).ended() is None and supervisor.running() == [8, 9]
        supervisor.stop(StopOrder(attempt_id=9, reason="cancelled", grace_s=0.0), now)
        supervisor.supervise(now)
        assert supervisor.running() == [8], "one that can't be asked is ended by force"
    assert not list(host.folder(7).path.glob(".outcome*")), "each try left a file"
    supervisor.supervise(now)
    lost, cancelled = host.folder(7).ended(), host.folder(9).ended()
    assert lost is not None and lost.outcome is Outcome.STORAGE
    assert "nothing could be written to the host's disk (File too large)" in lost.message
    assert cancelled is not None and cancelled.outcome is Outcome.CANCELLED


def test_a_trainer_that_hangs_past_its_time_limit_is_ended(server: FakeServer, host: Host) -> None:
    server.open_attempt(7)
    host.claim(7, time_limit="10s")
    trainer = host.train(7, OBEYS)
    started = host.folder(7).started()
    assert started is not None
    begun = time.time()
    for age_s, stopped in ((39.0, None), (41.0, "timeout")):  # the limit and 30 s
        host.folder(7).write_started(started.model_copy(update={"ts": begun - age_s}))
        Supervisor(host.root).supervise(begun)
        assert host.folder(7).stop_requested() == stopped
    assert trainer.wait(5) == 0


def test_the_time_limit_does_not_count_the_way_of_the_checkpoint(server: FakeServer, host: Host) -> None:
    server.open_attempt(7)
    host.claim(7, time_limit="10s", kept=[Kept(host="b", home="/b", step=3)])
    trainer = host.train(7, OBEYS)
    begun = time.time()
    Supervisor(host.root).supervise(begun + 1000)
    assert host.folder(7).stop_requested() is None, "it may still be fetching it"
    host.folder(7).write_resumed(Resumed(ts=begun + 990, step=3))
    for after_s, stopped in ((1029.0, None), (1031.0, "timeout")):  # the limit and 30 s
        Supervisor(host.root).supervise(begun + after_s)
        assert host.folder(7).stop_requested() == stopped
    assert trainer.wait(5) == 0


def test_one_that_does_not_stop_even_then_is_killed(server: FakeServer, host: Host) -> None:
    host.claim(7, time_limit="10s")
    trainer = host.train(7, IGNORES)
    supervisor, begun = Supervisor(host.root), time.time()
    for after_s in (0.0, 45.0, 64.0):  # asked to stop at 45 s, with 20 s to do so
        supervisor.supervise(begun + after_s)
        assert trainer.poll() is None
    supervisor.supervise(begun + 66.0)
    trainer.wait(5)
    ended = host.folder(7).ended()
    assert ended is not None and ended.outcome is Outcome.TIMEOUT


def test_a_reused_pid_is_not_taken_for_the_trainer(server: FakeServer, host: Host) -> None:
    server.open_attempt(7)
    bystander = host.train(7, IGNORES)
    started = host.folder(7).started()
    assert started is not None
    forged = started.model_copy(update={"create_time": started.create_time - 1000})
    host.folder(7).write_started(forged)
    host.tick_until(lambda: 7 in server.ended)
    assert server.ended[7].outcome is Outcome.LOST
    assert bystander.poll() is None


def test_sigterm_leaves_no_process_behind(server: FakeServer, tmp_path: Path) -> None:
    program = f"""
import sys
from workers.agent.agent import run_host
sys.exit(run_host({server.url!r}, {TOKEN!r}, {str(tmp_path)!r}, "alpha", [2**30], warm=0))
"""
    agent = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY)
    try:
        server.open_attempt(7)
        other = Host(server, tmp_path)  # only for its trainers
        trainer = other.train(7, OBEYS)
        wait_until(lambda: bool(server.progress.get(7)))
        assert server.reports[-1].running == [7]
        agent.send_signal(signal.SIGTERM)
        assert trainer.wait(15) == 0
        assert agent.wait(15) == 0
        assert 7 in server.ended, "the last report told of it"
        assert not psutil.pid_exists(trainer.pid)
    finally:
        for process in (agent, *other.trainers):
            process.kill()
            process.wait()
    assert [path.name for path in (other.root / "attempts").glob("[!.]*")] in ([], ["7"])
