"""The line to another host's checkpoints, over a real Ray: what comes is what is there, and a broken line is one."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import ray

from jobs.report import Kept
from tests.workers.test_checkpoints import stage
from workers.carry import Carrier, SourceLost
from workers.checkpoints import Corrupt, name_of, publish_checkpoint, staging_folder, verify
from workers.courier import AT_A_TIME, PIECE_BYTES, Courier, Line, hosts_alive, reach
from workers.folder import checkpoints_root

ROOT = Path(__file__).parents[2]
LARGE = PIECE_BYTES * (AT_A_TIME + 2) + 17


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Ray on this machine, which is host a. Its sockets need a short path, its token a home of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="ty-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("HOME", folder)
        patch.setenv("PYTHONPATH", str(ROOT))
        ray.init(
            num_cpus=1,
            namespace="tuneyard",
            include_dashboard=False,
            log_to_driver=False,
            labels={"host": "a"},
            object_store_memory=80_000_000,
        )
        yield
        ray.shutdown()


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
    return Carrier(1, root, staging, reach, nothing)


def couriers() -> list[psutil.Process]:
    return [
        one for one in psutil.Process().children(recursive=True) if "ray::Courier" in " ".join(one.cmdline())
    ]


def test_a_checkpoint_of_many_pieces_comes_as_it_is(tmp_path: Path) -> None:
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


def test_a_courier_that_dies_on_the_way_is_replaced(tmp_path: Path) -> None:
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


def test_a_host_that_is_not_in_the_cluster_is_told_at_once(tmp_path: Path) -> None:
    assert list(hosts_alive()) == ["a"]
    with (
        pytest.raises(SourceLost, match="host b is not in the Ray cluster"),
        reach(Kept(host="b", home="/"), 1, nothing),
    ):
        pass


def test_what_is_wrong_with_a_checkpoint_is_told_from_a_broken_line(tmp_path: Path) -> None:
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


def test_a_host_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.courier.QUIET_S", 2.0)
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
