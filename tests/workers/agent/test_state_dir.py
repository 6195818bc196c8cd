"""Ids that mean something else now: another database of the server, or one that went back to a backup."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from jobs.messages.reports import AttemptOffsets
from jobs.state import Outcome
from tests.workers.agents import IGNORES, OBEYS, SUCCEEDS, Host
from tests.workers.fake_server import FakeServer
from workers.attempt_folder import AttemptFolder, yard_root


def fault(server: FakeServer) -> str | None:
    """Of the card that trainers are on, as last reported."""
    return next(gpu.fault for gpu in server.reports[-1].gpus if gpu.uuid == "cpu-alpha-1")


def claimed_by(folder: AttemptFolder) -> tuple[int, int] | None:
    key = folder.identity()
    return None if key is None else (key.job_id, key.number)


def another_database(server: FakeServer) -> None:
    server.yard = "f" * 32
    server.open.clear()
    server.known_hosts.clear()


def test_what_another_database_had_run_here_is_not_this_ones(server: FakeServer, host: Host) -> None:
    server.open_attempt(7)
    host.train(7, SUCCEEDS).wait()
    another_database(server)  # before it heard of the outcome
    server.open_attempt(7)
    host.tick_until(lambda: len(server.reports) > 5)
    assert 7 not in server.ended and not server.logs[7] and not server.progress[7]
    assert host.folder(7).path.is_dir(), "the former database may come back"


def test_a_trainer_of_another_database_is_ended(server: FakeServer, host: Host) -> None:
    server.open_attempt(7)
    trainer = host.train(7, IGNORES)
    host.tick_until(lambda: bool(server.progress.get(7)))
    another_database(server)
    server.open_attempt(7)
    host.tick_until(lambda: not psutil.pid_exists(trainer.pid))
    ended = host.folder(7).ended()
    assert ended is not None and ended.outcome is Outcome.LOST
    host.tick_until(lambda: fault(server) is None)
    assert 7 not in server.ended and server.reports[-1].running == []


def test_a_trainer_that_another_agent_left_to_another_database_is_ended(
    server: FakeServer, host: Host, tmp_path: Path
) -> None:
    server.open_attempt(7)
    trainer = host.train(7, IGNORES)
    host.tick_until(lambda: bool(server.progress.get(7)))
    another_database(server)
    following = Host(server, tmp_path)  # the first one crashed: it never ticks again
    try:
        for _ in range(50):
            following.agent.tick()
            if trainer.poll() is not None:
                break
        assert trainer.poll() is not None
    finally:
        following.close()


def test_an_agent_looks_after_its_trainers_before_it_reaches_the_server(
    server: FakeServer, host: Host, tmp_path: Path
) -> None:
    server.open_attempt(7)
    host.tick_until(lambda: bool(server.reports))
    server.down()
    host.train(7, OBEYS)
    following = Host(server, tmp_path)
    try:
        following.agent.tick()
        following.leave(grace_s=5.0)
        assert host.folder(7).ended() is not None
    finally:
        server.up()
        following.close()


def test_a_number_given_twice_is_another_attempt(server: FakeServer, host: Host) -> None:
    """The database went back to a backup: same uuid, and attempt 7 is now job 2's."""
    host.train(7, SUCCEEDS).wait()
    server.open[7] = AttemptOffsets(attempt_id=7, job_id=2, number=1)
    host.tick_until(lambda: bool(list(host.root.glob("aside/attempt-7-????????"))))
    assert 7 not in server.ended and not server.logs.get(7)
    host.claim(7, job_id=2)
    folder = host.folder(7)
    assert claimed_by(folder) == (2, 1)
    folder.log_path.write_text("of job 2")
    host.tick_until(lambda: server.logs.get(7) == b"of job 2")


def test_its_trainer_is_ended_before_the_folder_changes_hands(server: FakeServer, host: Host) -> None:
    trainer = host.train(7, IGNORES)
    host.claim(7, job_id=2)
    assert claimed_by(host.folder(7)) == (1, 1), "not while it runs"
    server.open[7] = AttemptOffsets(attempt_id=7, job_id=2, number=1)
    host.tick_until(lambda: trainer.poll() is not None and not host.folder(7).path.exists())
    host.claim(7, job_id=2)
    host.tick_until(lambda: server.reports[-1].running == [])
    assert claimed_by(host.folder(7)) == (2, 1) and 7 not in server.ended


def test_an_outcome_without_an_assignment_counts_where_the_stop_was_this_agents(
    server: FakeServer, host: Host
) -> None:
    host.folder(7).request_stop("cancelled")
    leftover = host.folder(7).path.stat().st_ino
    host.tick_until(lambda: bool(server.reports))
    host.folder(7).outcome_path().write_text('{"ts": 1, "outcome": "cancelled"}')
    server.open_attempt(7)
    host.tick_until(lambda: not host.folder(7).path.exists())
    (aside,) = host.root.glob("aside/attempt-7-????????")
    assert aside.stat().st_ino == leftover and 7 not in server.ended


def test_an_outcome_is_told_when_the_process_is_gone(server: FakeServer, host: Host) -> None:
    """Its card would be given away with the old trainer still on it."""
    server.open_attempt(7)
    trainer = host.train(7, "steps(1, 2)\nend(Outcome.SUCCEEDED, steps=2)\nwhile True: time.sleep(1)")
    host.tick_until(
        lambda: host.folder(7).ended() is not None and sorted(server.progress.get(7, ())) == [1, 2]
    )
    told = len(server.reports)
    host.tick_until(lambda: len(server.reports) > told + 3)
    assert 7 not in server.ended and server.reports[-1].running == [7]
    trainer.kill()
    trainer.wait()
    host.tick_until(lambda: 7 in server.ended)


def test_a_card_that_an_ending_trainer_is_on_is_not_offered(server: FakeServer, host: Host) -> None:
    server.open_attempt(7)
    trainer = host.train(7, "end(Outcome.SUCCEEDED)\nwhile True: time.sleep(1)")
    host.tick_until(lambda: bool(server.reports) and 7 in server.reports[-1].running)
    host.tick_until(lambda: fault(server) is None)
    del server.open[7]  # the server gave up on it
    host.tick_until(lambda: fault(server) == "attempt 7 is being ended")
    trainer.kill()
    trainer.wait()
    host.tick_until(lambda: fault(server) is None)


def test_after_an_absence_the_server_speaks_first(
    server: FakeServer, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    server.open_attempt(7)
    host.train(7, IGNORES)
    host.tick_until(lambda: bool(server.progress.get(7)))
    server.down()
    host.tick_until(lambda: "news is kept on disk" in caplog.text)  # it has noticed
    server.up()
    told = len(server.reports)
    host.tick_until(lambda: len(server.reports) > told + 1)
    first, then = (report.gpus[1].fault for report in server.reports[told : told + 2])
    assert first is not None and "attempt 7 is on it" in first
    assert then is None


def test_the_root_of_a_database(tmp_path: Path) -> None:
    assert yard_root(tmp_path, "0123456789abcdef") == tmp_path / "0123456789ab"
