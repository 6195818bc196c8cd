"""Trainers as the processes they are: memory that runs out, gangs, a second claim."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs.messages.reports import Assignment
from jobs.state import Outcome
from jobs.units import GiB, MiB
from tests.workers.builders import TINY, VOCABULARY, make_assignment, write_rows
from workers.attempt_folder import AttemptFolder, checkpoints_root
from workers.checkpoints.folders import latest_good
from workers.checkpoints.manifest import verify

ROOT = Path(__file__).parents[3]
# 34 million weights: 128 MiB in float32, as much again for gradients, twice that for AdamW.
WIDE = {
    **TINY,
    "vocab_size": VOCABULARY,
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 4,
}


def start(
    assignment: Assignment, home: Path, before: Sequence[str] = (), **more: str
) -> subprocess.Popen[bytes]:
    """before: a command that runs it."""
    path = home / f"given-{assignment.attempt_id}-{assignment.rank}.json"
    path.write_text(assignment.model_dump_json())
    command = [
        *before,
        sys.executable,
        "-m",
        "workers.trainer.ray_actor",
        str(path),
        str(home),
        str(home / "out"),
    ]
    # As Ray starts an actor that asks for no CPU.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TUNEYARD_CPU_THREADS": "1", **more}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def gang(rows: Path, tokenizer: Path, **sections: Any) -> list[Assignment]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [
        make_assignment(rows, tokenizer, rank=rank, world_size=2, master_port=port, **sections)
        for rank in (0, 1)
    ]


def test_a_cpu_cards_memory_is_real(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    """Room for weights and gradients, not for the optimizer: an allocation fails, and the outcome says so."""
    assignment = make_assignment(rows, tokenizer, model={"config": WIDE}, memory_bytes=380 * MiB)
    trainer = start(assignment, tmp_path)
    assert trainer.wait(timeout=120) == 1
    folder = AttemptFolder(tmp_path, 1)
    ended = folder.ended()
    log = folder.read_log().decode()
    assert ended is not None, log
    assert ended.outcome is Outcome.OOM, ended.message + log
    assert "380 MiB" in ended.message and "DefaultCPUAllocator" in ended.message
    assert ended.device_bytes and 200 * MiB < ended.device_bytes <= 400 * MiB
    assert "Traceback" in log
    started = folder.started()
    assert started and started.pid == trainer.pid


def test_a_gang_trains_as_one(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    training = {"steps": 5, "checkpoint_steps": 2}
    trainers = [start(each, tmp_path) for each in gang(rows, tokenizer, training=training)]
    codes = [trainer.wait(timeout=120) for trainer in trainers]
    folder = AttemptFolder(tmp_path, 1)
    assert codes == [0, 0], folder.read_log().decode()
    assert sorted(folder.processes()) == [0, 1]
    first, second = folder.ended(0), folder.ended(1)
    assert first and second and first.first_loss == second.first_loss  # averaged over the ranks
    assert first.result and verify(Path(first.result))
    assert [line.step for line in folder.progress()][-1] == 5  # one rank writes
    checkpoint = latest_good(checkpoints_root(tmp_path, 1))
    assert checkpoint and checkpoint[1] == 5  # the last step is one, too
    assert {path.name for path in checkpoint[0].glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}


def test_a_gang_ends_when_one_rank_does(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    """Rank 0 would wait for rank 1 in a collective; the outcome names the rank that failed, and why."""
    whole, starved = gang(rows, tokenizer, model={"config": WIDE}, memory_bytes=4 * GiB)
    cards = [card.model_copy(update={"memory_bytes": 380 * MiB}) for card in starved.gpus]
    starved = starved.model_copy(update={"gpus": cards})
    trainers = [start(each, tmp_path) for each in (whole, starved)]
    codes = [trainer.wait(timeout=120) for trainer in trainers]
    ended = AttemptFolder(tmp_path, 1).ended()
    assert codes == [1, 1]
    assert ended and ended.outcome is Outcome.OOM, AttemptFolder(tmp_path, 1).read_log().decode()
    assert ended.message.startswith("rank 1: memory ran out")


def test_no_rank_waits_for_rows_that_another_can_not_read(tmp_path: Path, tokenizer: Path) -> None:
    """The first rank of a host reads them for all: the others end with what it found."""
    bad = write_rows(tmp_path / "rows.jsonl", [{"text": "fine"}, {"text": None}])
    trainers = [start(each, tmp_path) for each in gang(bad, tokenizer)]
    assert [trainer.wait(timeout=180) for trainer in trainers] == [1, 1]
    folder = AttemptFolder(tmp_path, 1)
    for rank in (0, 1):
        ended = folder.ended(rank)
        assert ended and ended.bad_input, folder.read_log().decode()
        assert "data.path: line 2: text is null" in ended.message


def test_an_attempt_is_run_once(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    assignment = make_assignment(rows, tokenizer)
    assert AttemptFolder(tmp_path, 1).claim(assignment)
    late = start(assignment, tmp_path)
    output, _ = late.communicate(timeout=60)
    assert late.returncode == 1 and b"is taken" in output
    assert not AttemptFolder(tmp_path, 1).log_path.exists()


def test_a_host_without_the_libraries_says_so(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    (tmp_path / "trl.py").write_text("raise ImportError('libfoo.so.6 is missing')")
    trainer = start(make_assignment(rows, tokenizer), tmp_path, PYTHONPATH=str(tmp_path))
    assert trainer.wait(timeout=120) == 1
    ended = AttemptFolder(tmp_path, 1).ended()
    assert ended and ended.outcome is Outcome.HOST_FAULT and "libfoo.so.6" in ended.message


@pytest.mark.parametrize("arguments", [[], ["one.json", "home"]])
def test_wrong_arguments_are_explained(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workers.trainer.ray_actor", *arguments],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2 and b"ASSIGNMENT.json HOST_HOME OUTPUT_ROOT" in done.stderr
