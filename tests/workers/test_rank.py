"""The rank actor in a real Ray: warm, adopted once, answering while it trains, gone at the end."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from jobs.state import Outcome
from tests.workers.builders import make_assignment
from workers.folder import AttemptFolder
from workers.rank import rank_actor

ROOT = Path(__file__).parents[2]
ENV = {"TUNEYARD_CPU_THREADS": "1"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray on this machine. Its sockets need a short path, its token a home of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="ty-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("HOME", folder)  # where Ray puts the token it makes
        patch.setenv("PYTHONPATH", str(ROOT))
        ray.init(num_cpus=1, namespace="tuneyard", include_dashboard=False, log_to_driver=False)
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
