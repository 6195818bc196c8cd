"""What the ranks of a gang see of each other."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from jobs.messages.reports import Assignment, Ended, Started
from jobs.state import Outcome
from tests.workers.builders import make_assignment
from workers.attempt_folder import AttemptFolder
from workers.trainer.ranks.rank_watch import Watch, environment, failed_peer, is_alive, wait_for_failed_peer


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for another rank."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def of(process: subprocess.Popen[bytes]) -> Started:
    return Started(ts=1.0, pid=process.pid, create_time=psutil.Process(process.pid).create_time())


def gang(tmp_path: Path, rank: int = 0) -> Assignment:
    return make_assignment(tmp_path / "d.jsonl", tmp_path, rank=rank, world_size=2, master_port=4711)


def ended(outcome: Outcome, message: str = "") -> Ended:
    return Ended(ts=1.0, outcome=outcome, message=message)


def test_a_peer_that_runs_or_succeeded_is_well(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    folder = AttemptFolder(tmp_path, 1)
    assert failed_peer(folder, gang(tmp_path)) is None  # not there yet
    folder.write_started(of(other), rank=1)
    assert failed_peer(folder, gang(tmp_path)) is None
    folder.write_ended(ended(Outcome.SUCCEEDED), rank=1)
    other.kill()
    other.wait()
    assert failed_peer(folder, gang(tmp_path)) is None


def test_a_peer_that_died_or_failed_is_seen(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    folder = AttemptFolder(tmp_path, 1)
    folder.write_started(of(other), rank=1)
    other.kill()  # not yet waited for: a zombie is dead
    time.sleep(0.1)
    found = failed_peer(folder, gang(tmp_path))
    assert found and found[0] == 1 and found[1].outcome is Outcome.LOST and str(other.pid) in found[1].message
    folder.write_ended(ended(Outcome.OOM, "memory ran out"), rank=1)
    found = wait_for_failed_peer(folder, gang(tmp_path), wait_s=0)
    assert found and found[1].outcome is Outcome.OOM


def test_a_later_process_with_the_same_pid_is_another(other: subprocess.Popen[bytes]) -> None:
    started = of(other)
    assert is_alive(started)
    assert not is_alive(started.model_copy(update={"create_time": started.create_time - 60}))


def test_trouble_that_ends_in_time_ends_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that sees its own exception within the grace reports it itself."""
    monkeypatch.setattr("workers.trainer.ranks.rank_watch.LOOK_EVERY_S", 0.01)
    folder, given_up = AttemptFolder(tmp_path, 1), []
    folder.write_ended(ended(Outcome.FAILED, "broken"), rank=1)
    with Watch(gang(tmp_path), folder, lambda outcome, message: given_up.append((outcome, message))):
        time.sleep(0.1)
    time.sleep(0.1)
    assert given_up == []


def test_the_environment_of_a_rank(tmp_path: Path) -> None:
    assignment = gang(tmp_path, rank=1)
    names = environment(assignment)
    assert names["CUDA_VISIBLE_DEVICES"] == "", "a CPU card sees no GPU"
    assert (names["RANK"], names["WORLD_SIZE"], names["MASTER_PORT"]) == ("1", "2", "4711")
    cards = [
        card.model_copy(update={"kind": "cuda", "uuid": f"GPU-{card.index}"}) for card in assignment.gpus
    ]
    cuda = environment(assignment.model_copy(update={"gpus": cards}))
    assert (cuda["CUDA_VISIBLE_DEVICES"], cuda["LOCAL_RANK"]) == ("GPU-0,GPU-1", "1")
    assert "RANK" not in environment(make_assignment(tmp_path / "d.jsonl", tmp_path))
