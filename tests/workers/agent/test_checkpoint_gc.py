"""Checkpoints of jobs that ended go, once the server says so; nothing else does."""

from __future__ import annotations

from pathlib import Path

from jobs.identity import Owner
from tests.workers.agents import OBEYS, Host, wait_until
from tests.workers.checkpoints.test_folders import stage
from workers.agent.checkpoint_gc import SAY_EVERY_S, Tidier
from workers.attempt_folder import checkpoints_root, jobs_root, log_path
from workers.checkpoints.folders import publish_checkpoint


def make(home: Path, *job_ids: int) -> None:
    for job_id in job_ids:
        root = checkpoints_root(home, job_id)
        publish_checkpoint(stage(root), root, 3)


def ids(tidier: Tidier, now: float) -> list[int]:
    return [key.job_id for key in tidier.kept(now)]


def left(home: Path) -> list[str]:
    return sorted(path.name for path in jobs_root(home).iterdir())


def test_what_is_here_is_said_once_in_a_while(tmp_path: Path) -> None:
    make(tmp_path, 12, 3)
    log_path(tmp_path, 7, 1).parent.mkdir(parents=True)  # of a job without checkpoints here
    tidier = Tidier(tmp_path)
    assert ids(tidier, 0.0) == [3, 12]
    assert ids(tidier, SAY_EVERY_S - 1) == []
    assert ids(tidier, SAY_EVERY_S) == [3, 12]
    tidier.look_again()
    assert ids(tidier, SAY_EVERY_S + 1) == [3, 12]


def test_what_is_dropped_is_gone_and_logs_stay(tmp_path: Path) -> None:
    make(tmp_path, 1, 2, 3)
    log_path(tmp_path, 2, 1).parent.mkdir()
    log_path(tmp_path, 2, 1).write_text("words")
    tidier = Tidier(tmp_path)
    tidier.drop(Owner(job_id=job_id) for job_id in (1, 2, 99))
    wait_until(lambda: left(tmp_path) == [".lock", "2", "3"])
    assert not checkpoints_root(tmp_path, 2).exists()
    assert log_path(tmp_path, 2, 1).read_text() == "words"
    assert ids(tidier, 0.0) == [3]


def test_an_agent_that_ended_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    make(tmp_path, 1, 2)
    checkpoints_root(tmp_path, 1).rename(jobs_root(tmp_path) / ".dropped-1-0a1b2c3d")
    Tidier(tmp_path)
    wait_until(lambda: left(tmp_path) == ["1", "2"])


def test_the_server_says_which(host: Host) -> None:
    make(host.root, 5, 6)
    host.server.drop = {5}
    host.tick_until(lambda: left(host.root) == [".lock", "6"])
    assert [report.kept for report in host.server.reports if report.kept] == [[5, 6]]


def test_under_a_trainer_nothing_goes(host: Host) -> None:
    """Job 1 trains here; the server's word is from before."""
    make(host.root, 1, 2)
    host.server.open_attempt(4)
    host.train(4, OBEYS)
    host.server.drop = {1, 2}
    host.tick_until(lambda: left(host.root) == [".lock", "1"])
    assert checkpoints_root(host.root, 1).is_dir()
