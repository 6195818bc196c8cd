"""Actors in a real Ray. A rank: warm, adopted once, answering while it trains, gone at the end.

A courier: what comes over its line is what is there, and a broken line is told from a broken checkpoint. Both are here
for a process can't have two Rays one after the other: the token of the first is kept.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from jobs.identity import Owner
from jobs.messages.reports import Kept
from jobs.state import Outcome
from tests.workers.builders import make_assignment
from tests.workers.checkpoints.test_folders import stage
from workers.attempt_folder import AttemptFolder, checkpoints_root
from workers.checkpoints.folders import name_of, publish_checkpoint, staging_folder
from workers.checkpoints.manifest import Corrupt, verify
from workers.checkpoints.ray_transport import AT_A_TIME, PIECE_BYTES, Courier, Line, hosts_alive, reach
from workers.checkpoints.transfer import Carrier, SourceLost
from workers.trainer.ray_actor import rank_actor

ROOT = Path(__file__).parents[3]
ENV = {"TUNEYARD_CPU_THREADS": "1"}
LARGE = PIECE_BYTES * (AT_A_TIME + 2) + 17  # bytes of a checkpoint of many pieces


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray on this machine, which is host a. Its sockets need a short path, its token a home of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="ty-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("HOME", folder)  # where Ray puts the token it makes
        patch.setenv("PYTHONPATH", str(ROOT))
        ray.init(
            num_cpus=1,
            namespace="tuneyard",
            include_dashboard=False,
            log_to_driver=False,
            labels={"host": "a"},
            object_store_memory=80_000_000,  # as workers/agent/raylet.py says
        )
        yield
        ray.shutdown()


def wait_for(what: Any, timeout_s: float = 60.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)
    return found


def test_an_actor_is_warm_then_works_once_then_is_gone(
    cluster: None, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    actor = (
        rank_actor().options(name="rank-test", lifetime="detached", runtime_env={"env_vars": ENV}).remote()
    )
    idle = ray.get(actor.state.remote(), timeout=60)
    assert idle["attempt"] is None and not idle["warm"]
    ray.get(actor.warm.remote(), timeout=90)
    assert ray.get(actor.state.remote())["warm"]

    assignment = make_assignment(rows, tokenizer, training={"steps": 5_000})
    folder = AttemptFolder(tmp_path, 1)
    began = time.monotonic()
    given = (assignment.model_dump_json(), str(tmp_path), str(tmp_path / "out"))
    assert ray.get(actor.adopt.remote(*given, {"MARK": "1"}), timeout=10)
    assert time.monotonic() - began < 5, "adopt must not wait for the training"
    assert ray.get(actor.adopt.remote(*given, {}), timeout=10), "told again, it is still its own"
    wait_for(folder.progress)
    assert ray.get(actor.state.remote(), timeout=10) == {"pid": idle["pid"], "warm": True, "attempt": 1}
    started = folder.started()
    assert started and started.pid == idle["pid"] and os.getpgid(started.pid) == started.pid

    late = rank_actor().remote()
    pid = ray.get(late.state.remote(), timeout=60)["pid"]
    assert ray.get(late.adopt.remote(*given, {}), timeout=30) is False
    wait_for(lambda: not psutil.pid_exists(pid))

    folder.request_stop("cancelled")
    ended = wait_for(folder.ended)
    assert (ended.outcome, ended.last_checkpoint is not None) == (Outcome.CANCELLED, True)
    wait_for(lambda: not psutil.pid_exists(idle["pid"]))
    assert "checkpoint" in folder.read_log().decode()


def burn(parent: int) -> None:
    while os.getppid() == parent:
        pass


def test_a_patient_actor_waits_for_a_core_to_spare_and_for_work_no_longer(
    cluster: None, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    actor = rank_actor().options(runtime_env={"env_vars": ENV}).remote()
    ray.get(actor.state.remote(), timeout=60)
    burners = [multiprocessing.Process(target=burn, args=(os.getpid(),)) for _ in range(os.cpu_count() or 1)]
    for burner in burners:
        burner.start()
    try:
        done = actor.warm.remote(True)
        process = psutil.Process(ray.get(actor.state.remote(), timeout=30)["pid"])
        before_s = sum(process.cpu_times()[:2])
        assert not ray.wait([done], timeout=5)[0]
        assert sum(process.cpu_times()[:2]) - before_s < 0.5, "the imports have begun"

        assignment = make_assignment(rows, tokenizer, training={"steps": 1})
        given = (assignment.model_dump_json(), str(tmp_path), str(tmp_path / "out"))
        assert ray.get(actor.adopt.remote(*given), timeout=30)
        wait_for(lambda: sum(process.cpu_times()[:2]) - before_s > 1)
    finally:
        for burner in burners:
            burner.kill()
    ended = wait_for(AttemptFolder(tmp_path, 1).ended, timeout_s=180)
    assert ended.outcome is Outcome.SUCCEEDED


def nothing() -> None:
    """Nobody wants it to stop."""


def kept(tmp_path: Path, content: bytes = b"x" * LARGE) -> Kept:
    """Host a has a checkpoint of job 1."""
    root = checkpoints_root(tmp_path / "a", 1)
    publish_checkpoint(stage(root, content), root, 50)
    return Kept(host="a", home=str(tmp_path / "a"), step=50)


def carrier(tmp_path: Path) -> Carrier:
    root = checkpoints_root(tmp_path / "b", 1)
    staging = staging_folder(root, 2)
    staging.mkdir(parents=True)
    return Carrier(Owner(job_id=1), root, staging, reach, nothing)


def couriers() -> list[psutil.Process]:
    """Their processes, except those that died and were not waited for."""
    found = []
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie's command line, too
            if "ray::Courier" in " ".join(one.cmdline()):
                found.append(one)
    return found


def test_a_checkpoint_of_many_pieces_comes_as_it_is(cluster: None, tmp_path: Path) -> None:
    place = kept(tmp_path, os.urandom(LARGE))
    found = carrier(tmp_path).newest([place], None)
    there = checkpoints_root(tmp_path / "a", 1) / name_of(50)
    assert found is not None and found[1] == 50
    assert (found[0] / "weights").read_bytes() == (there / "weights").read_bytes()
    assert verify(found[0]) == verify(there)
    deadline = time.monotonic() + 20
    while left := couriers():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_a_courier_that_dies_on_the_way_is_replaced(cluster: None, tmp_path: Path) -> None:
    place, made = kept(tmp_path), carrier(tmp_path)
    killed: list[int] = []

    def obey() -> None:
        staged = made.staging / "carried" / "weights"
        if not killed and staged.is_file():
            (courier,) = couriers()
            killed.append(courier.pid)
            courier.send_signal(signal.SIGKILL)

    made.obey = obey
    found = made.newest([place], None)
    assert killed and found is not None
    verify(found[0])


def test_a_host_that_is_not_in_the_cluster_is_told_at_once(cluster: None, tmp_path: Path) -> None:
    assert list(hosts_alive()) == ["a"]
    with (
        pytest.raises(SourceLost, match="host b is not in the Ray cluster"),
        reach(Kept(host="b", home="/"), 1, nothing),
    ):
        pass


def test_what_is_wrong_with_a_checkpoint_is_told_from_a_broken_line(cluster: None, tmp_path: Path) -> None:
    place = kept(tmp_path, b"x" * 100)
    with reach(place, 1, nothing) as line:
        ((step, _),) = line.offers(0)
        with pytest.raises(Corrupt, match="is no file of step-00000050"):
            list(line.read(step, "../../../secret", 0, 5))
        with pytest.raises(Corrupt, match="weights ends after 100 bytes"):
            list(line.read(step, "weights", 0, 101))
        weights = checkpoints_root(tmp_path / "a", 1) / name_of(50) / "weights"
        weights.unlink()
        weights.mkdir()
        with pytest.raises(SourceLost, match="IsADirectoryError"):
            list(line.read(step, "weights", 0, 5))


def test_a_host_that_hangs_is_given_up(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.checkpoints.ray_transport.QUIET_S", 2.0)
    asked: list[None] = []
    courier = ray.remote(num_cpus=0)(Courier).remote(kept(tmp_path, b"x").home, 1)
    line = Line(courier, lambda: asked.append(None))
    (process,) = _up(line)
    process.suspend()
    try:
        with pytest.raises(SourceLost, match="nothing came for 2 s"):
            line.offers(0)
    finally:
        process.resume()
        ray.kill(courier)
    assert asked, "a stop would not have been seen meanwhile"


def _up(line: Line) -> list[psutil.Process]:
    deadline = time.monotonic() + 30
    while True:
        try:
            line.offers(0)
            return couriers()
        except SourceLost:
            assert time.monotonic() < deadline
