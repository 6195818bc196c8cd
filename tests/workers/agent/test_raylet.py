"""The raylet child: Ray's own, and a stand-in for what takes two heads."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.workers.agents import wait_until
from workers import processes
from workers.agent.raylet import MARK, Raylet, node_ip, temp_folder

# Stands in for `ray start --block`: two children in sessions of their own, as actors that left their group.
_STAND_IN = """
import subprocess, sys, time
from pathlib import Path
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
pids = [subprocess.Popen(sleeper, start_new_session=True).pid for _ in range(2)]
address = next(word for word in sys.argv if word.startswith("--address=")).partition("=")[2]
Path(f"actors-{address}").write_text(" ".join(map(str, pids)))
print("Ray runtime started.", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def no_ray_files_left(tmp_path: Path) -> Iterator[None]:
    yield
    shutil.rmtree(temp_folder(tmp_path))  # outside of tmp_path, whose name is too long for sockets


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Raylet]:
    script = tmp_path / "ray.py"
    script.write_text(_STAND_IN)
    made = Raylet(tmp_path, "alpha", ray=[sys.executable, str(script)])
    yield made
    made.stop()


def actors(home: Path, address: str) -> list[psutil.Process]:
    note = home / f"actors-{address}"
    wait_until(lambda: note.exists() and len(note.read_text().split()) == 2)
    return [psutil.Process(int(pid)) for pid in note.read_text().split()]


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def words(process: psutil.Process) -> list[str]:
    """The command line; [] of a process that is gone or belongs to another."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def follow_until(
    raylet: Raylet, address: str, trainers: set[int], true: Callable[[], bool], token: str = "token"
) -> None:
    def followed() -> bool:
        raylet.follow(address, token, trainers, time.time())
        return true()

    wait_until(followed, timeout_s=60)


def test_a_new_head_ends_the_old_raylet(stand_in: Raylet, tmp_path: Path) -> None:
    follow_until(stand_in, "127.0.0.2:1", set(), lambda: stand_in.ready("127.0.0.2:1"))
    old = actors(tmp_path, "127.0.0.2:1")
    stand_in.follow(None, "token", set(), time.time())
    assert all(map(alive, old)), "no head is no news: the raylet waits for it"
    follow_until(stand_in, "127.0.0.2:2", set(), lambda: stand_in.ready("127.0.0.2:2"))
    assert not any(map(alive, old))
    assert not stand_in.ready("127.0.0.2:1")


def test_a_new_head_waits_for_the_trainer_of_the_old_one(stand_in: Raylet, tmp_path: Path) -> None:
    follow_until(stand_in, "127.0.0.2:1", set(), lambda: stand_in.ready("127.0.0.2:1"))
    trainer, idle = actors(tmp_path, "127.0.0.2:1")
    follow_until(stand_in, "127.0.0.2:2", {trainer.pid}, lambda: stand_in.ready("127.0.0.2:2"))
    assert alive(trainer)
    stand_in.follow("127.0.0.2:2", "token", set(), time.time())
    assert not alive(trainer) and not alive(idle)
    assert stand_in.ready("127.0.0.2:2")


def test_a_dead_raylet_loses_its_idle_actors_but_not_its_trainer(stand_in: Raylet, tmp_path: Path) -> None:
    address = "127.0.0.2:1"
    follow_until(stand_in, address, set(), lambda: stand_in.ready(address))
    trainer, idle = actors(tmp_path, address)
    raylet = next(p for p in psutil.Process().children() if "--block" in words(p))
    raylet.kill()
    (tmp_path / f"actors-{address}").unlink()
    follow_until(stand_in, address, {trainer.pid}, lambda: not alive(idle))
    assert alive(trainer)
    follow_until(stand_in, address, {trainer.pid}, lambda: stand_in.ready(address))
    assert not {trainer, idle} & set(actors(tmp_path, address)), "a new raylet, new actors"
    trainer.kill()


def test_the_next_agent_takes_the_raylet_over(stand_in: Raylet, tmp_path: Path) -> None:
    address = "127.0.0.2:1"
    follow_until(stand_in, address, set(), lambda: stand_in.ready(address))
    mine = actors(tmp_path, address)
    following = Raylet(tmp_path, "alpha", ray=["/bin/false"])
    following.follow(address, "token", set(), time.time())
    assert following.ready(address)
    following.stop()
    assert not any(map(alive, mine))


def test_a_raylet_that_fails_is_not_started_over_and_over(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    starts.touch()
    fails = f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(1)"
    raylet = Raylet(tmp_path, "alpha", ray=[sys.executable, "-c", fails])
    for tenth in range(200):  # twenty seconds, by its clock
        raylet.follow("127.0.0.2:1", "token", set(), tenth / 10)
        time.sleep(0.01)
    raylet.stop()
    assert 2 <= len(starts.read_text()) <= 5


def test_the_node_address_is_one_that_the_head_can_reach() -> None:
    assert node_ip("127.0.0.2:6379") == "127.0.0.2"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: no packet is sent
        except OSError:
            pytest.skip("this machine has no route")
        assert node_ip("192.0.2.1:6379") == probe.getsockname()[0]


def test_socket_paths_stay_short(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    folder = temp_folder(deep)
    try:
        assert len(str(folder)) <= 36 and folder.stat().st_mode & 0o777 == 0o700
        assert temp_folder(deep) == folder
    finally:
        folder.rmdir()


def test_a_folder_that_others_could_reach_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    folder = temp_folder(deep)
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match=r"is open to other users \(mode 777\): remove it"):
        temp_folder(deep)
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="or a link to one"):
        temp_folder(deep)
    folder.unlink()


@pytest.fixture
def head() -> Iterator[tuple[str, str]]:
    """A real Ray head on loopback: its address and token."""
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    token = "f" * 40
    with tempfile.TemporaryDirectory(prefix="ty-", ignore_cleanup_errors=True) as folder:
        command = [
            *(sys.executable, "-m", "workers.ray_network", "start", "--head", "--block", "--num-cpus=0"),
            *("--node-ip-address=127.0.0.2", f"--port={port}", f"--temp-dir={folder}"),
            *("--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=80000000"),
            "--include-log-monitor=false",
        ]
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "RAY_TMPDIR": folder}
        log = Path(folder) / "head.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, env=environment, stdout=out, stderr=out, start_new_session=True
            )
        try:
            wait_until(lambda: b"Ray runtime started." in log.read_bytes(), timeout_s=60)
            yield f"127.0.0.2:{port}", token
        finally:
            processes.end_all([*processes.children(psutil.Process(process.pid)), psutil.Process(process.pid)])
            process.wait()


def test_rays_own_raylet_joins_is_started_again_and_leaves(head: tuple[str, str], tmp_path: Path) -> None:
    address, token = head
    raylet = Raylet(tmp_path, "alpha")

    try:
        follow_until(raylet, address, set(), lambda: raylet.ready(address), token)
        starter = next(p for p in psutil.Process().children() if f"--address={address}" in words(p))
        mark = starter.environ()[MARK]
        native = next(p for p in starter.children() if p.name() == "raylet")
        folder = temp_folder(tmp_path)  # closed to others, with all that Ray puts there
        assert list(folder.glob("r/session_*")) and any(
            str(folder / "r") in word for word in native.cmdline()
        )
        assert any("host" in word and "alpha" in word for word in native.cmdline())
        os.kill(native.pid, signal.SIGKILL)
        follow_until(raylet, address, set(), lambda: not alive(starter), token)
        follow_until(raylet, address, set(), lambda: raylet.ready(address), token)
        assert processes.marked(MARK, mark) == [], "nothing of the first one is left"
    finally:
        raylet.stop()
    assert not [p for p in psutil.process_iter() if f"--address={address}" in words(p)]
