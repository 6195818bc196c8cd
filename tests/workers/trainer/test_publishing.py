"""A finished model and a full disk: real trainers, a real disk that is full at the start, on the way, at the end."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from jobs.messages.reports import Assignment, Ended, Progress
from jobs.state import Outcome
from jobs.units import MiB
from tests.workers.builders import claimed, make_assignment
from tests.workers.disks import Disk, mounted
from workers.attempt_folder import AttemptFolder, checkpoints_root
from workers.checkpoints import disk_space
from workers.checkpoints.folders import (
    clear_leftovers,
    latest_good,
    listed,
    publish_checkpoint,
    staging_folder,
)
from workers.checkpoints.manifest import verify
from workers.trainer.saving.artifacts import clear_unfinished, from_checkpoint, publish_result
from workers.trainer.train import run_attempt

LORA = {"kind": "lora", "rank": 4}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Of the results."""
    with mounted(tmp_path / "results") as made:
        yield made


@pytest.fixture
def home_disk(tmp_path: Path) -> Iterator[Disk]:
    """Of the host's own files, checkpoints among them."""
    with mounted(tmp_path / "home") as made:
        yield made


def job(rows: Path, tokenizer: Path, attempt: int = 1, **sections: Any) -> Assignment:
    made = make_assignment(rows, tokenizer, attempt_id=attempt, **sections)
    return made.model_copy(update={"result_bytes": 200_000, "checkpoint_bytes": 600_000})


def run(home: Path, assignment: Assignment, out: Path) -> Ended:
    return run_attempt(assignment, claimed(home, assignment), home, out)


class At(AttemptFolder):
    """Does something as soon as a step is reported."""

    def __init__(self, home: Path, attempt_id: int, step: int, act: Any) -> None:
        super().__init__(home, attempt_id)
        self._step, self._act = step, act

    def append_progress(self, progress: Progress) -> None:
        super().append_progress(progress)
        if progress.step == self._step:
            self._act()


def run_at(home: Path, assignment: Assignment, out: Path, step: int, act: Any) -> Ended:
    folder = At(home, assignment.attempt_id, step, act)
    assert folder.claim(assignment)
    return run_attempt(assignment, folder, home, out)


def weights(folder: Path | str | None) -> dict[str, str]:
    """Digests of the weights in a result or checkpoint."""
    assert folder is not None
    files = Path(folder).glob("*.safetensors")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(
    "method", ["full", LORA, {"kind": "lora", "adapter_dtype": "bfloat16", "dora": True}]
)
def test_a_disk_that_fills_before_the_result_is_made_costs_no_training(
    method: Any, disk: Disk, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    home, out = tmp_path / "home", disk.path / "out"
    first = run_at(home, job(rows, tokenizer, method=method), out, 4, lambda: disk.fill(leave=8192))
    assert (first.outcome, first.steps, first.total_steps) == (Outcome.STORAGE, 4, 4)
    assert first.message.startswith(
        f"trained to the end, result not published: no space left on device in {out}"
    )
    assert "free)" in first.message and "needs" in first.message
    checkpoint = latest_good(checkpoints_root(home, 1))
    assert checkpoint is not None and checkpoint[1] == 4 and first.last_checkpoint == str(checkpoint[0])
    assert [name for path in disk.path.rglob("*") if (name := path.name).startswith(".attempt")] == []

    again = run(home, job(rows, tokenizer, 2, method=method), out)
    assert (again.outcome, again.steps) == (Outcome.STORAGE, 4)
    assert again.device_bytes is None, "it trained nothing, so what it took of the card is no measurement"

    disk.empty()
    third = job(rows, tokenizer, 3, method=method)
    made = run(home, third, out)
    assert (made.outcome, made.steps) == (Outcome.SUCCEEDED, 4)
    assert AttemptFolder(home, 3).progress() == [], "no step was done again"
    assert weights(made.result) == weights(checkpoint[0])
    assert verify(Path(str(made.result)))["final_loss"] == first.last_loss

    # What a run without any trouble makes, to the byte.
    whole = run(tmp_path / "other", job(rows, tokenizer, method=method), tmp_path / "out")
    assert weights(whole.result) == weights(made.result)


def test_a_disk_that_is_full_at_the_start_is_seen_before_any_step(
    disk: Disk, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    disk.fill(leave=8192)
    ended = run(tmp_path / "home", job(rows, tokenizer), disk.path)
    assert (ended.outcome, ended.steps) == (Outcome.STORAGE, 0)
    assert ended.message.startswith(f"not begun: too little space in {disk.path} for the result (needs ")
    assert AttemptFolder(tmp_path / "home", 1).progress() == [] and disk.names() == []
    disk.empty()
    assert run(tmp_path / "home", job(rows, tokenizer, 2), disk.path).outcome is Outcome.SUCCEEDED


def test_checkpoints_need_room_for_one_more_than_are_kept(
    home_disk: Disk, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    assignment = job(rows, tokenizer, training={"steps": 8})
    too_large = assignment.model_copy(update={"checkpoint_bytes": 3 * MiB})
    ended = run(home_disk.path, too_large, tmp_path / "out")
    assert ended.outcome is Outcome.STORAGE
    assert f"in {checkpoints_root(home_disk.path, 1)} for 3 checkpoints (needs 9 MiB, " in ended.message


def test_a_checkpoint_disk_that_is_full_at_the_end_does_not_keep_the_result_from_another(
    home_disk: Disk, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    act = lambda: home_disk.fill(leave=65536)  # noqa: E731
    ended = run_at(home_disk.path, job(rows, tokenizer), tmp_path / "out", 4, act)
    assert (ended.outcome, ended.steps, ended.last_checkpoint) == (Outcome.SUCCEEDED, 4, None)
    verify(Path(str(ended.result)))
    assert list(checkpoints_root(home_disk.path, 1).iterdir()) == [], "no half of a checkpoint is left"


def test_a_checkpoint_disk_that_fills_on_the_way_is_the_hosts_fault(
    home_disk: Disk, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    training = {"steps": 8, "checkpoint_steps": 2}
    reported = {"early_stop": {"after_steps": 4}}  # so that this step has a line of its own
    assignment = job(rows, tokenizer, training=training, sweep=reported)
    act = lambda: home_disk.fill(leave=65536)  # noqa: E731
    ended = run_at(home_disk.path, assignment, tmp_path / "out", 4, act)
    assert ended.outcome is Outcome.STORAGE and ended.message.startswith(
        "no space left on device on this host"
    )
    home_disk.empty()
    root = checkpoints_root(home_disk.path, 1)
    assert [step for _, step in listed(root)] == [2] and [path.name for path in root.iterdir()] == [
        "step-00000002"
    ]
    made = run(home_disk.path, job(rows, tokenizer, 2, training=training), tmp_path / "out")
    assert (made.outcome, made.steps) == (Outcome.SUCCEEDED, 8)
    assert min(line.step for line in AttemptFolder(home_disk.path, 2).progress()) == 3


def test_an_earlier_result_stays_where_a_new_one_finds_no_room(
    disk: Disk, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    home = tmp_path / "home"
    first = run(home, job(rows, tokenizer), disk.path)
    shutil.rmtree(checkpoints_root(home, 1))
    second = run_at(home, job(rows, tokenizer, 2), disk.path, 4, lambda: disk.fill(leave=8192))
    assert second.outcome is Outcome.STORAGE
    assert verify(Path(str(first.result)))["attempt_id"] == 1 and disk.names() == ["job-1"]


def checkpoint(root: Path, step: int = 4) -> Path:
    """One with no more than a trainer's names in it."""
    clear_leftovers(root, 1)
    staged = staging_folder(root, 1) / "checkpoint"
    staged.mkdir()
    save_file({"weight": torch.zeros(2)}, staged / "model.safetensors")
    for name in ("config.json", "optimizer.pt", "rng_state.pth", "trainer_state.json"):
        (staged / name).write_text(name)
    made = publish_checkpoint(staged, root, step)
    staging_folder(root, 1).rmdir()
    return made


def test_a_result_beside_its_checkpoint_takes_no_room(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    source = checkpoint(tmp_path / "jobs")
    made = publish_result(from_checkpoint(source), tmp_path / "out" / "x", job(rows, tokenizer), {}, "f")
    assert {path.name for path in made.iterdir()} == {"model.safetensors", "config.json", "manifest.json"}
    assert (made / "model.safetensors").samefile(source / "model.safetensors")
    verify(made)


@pytest.mark.parametrize(
    "error", [errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.ENOSPC, errno.ESTALE]
)
def test_whatever_a_folder_says_to_a_write_is_named_and_leaves_nothing(
    error: int, tmp_path: Path, tokenizer: Path, rows: Path
) -> None:
    def fill(folder: Path) -> None:
        folder.mkdir()
        (folder / "half").write_text("x")
        raise OSError(error, "any")

    with pytest.raises(disk_space.NoStorage, match=f"in {tmp_path} \\(needs 5 MiB, .* free\\)"):
        publish_result(fill, tmp_path / "here", job(rows, tokenizer), {}, "f", size=5 * MiB)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("needed", "free", "says"),
    [
        (5 * MiB, 0, "needs 5 MiB, 0 MiB free"),
        (70_000, 12_000, "needs 68 KiB, 12 KiB free"),
        (70_000, -5, "needs 68 KiB, 0 MiB free"),
        (600, 0, "needs 600 bytes, 0 MiB free"),
        (3 * MiB + 400_000, 3 * MiB + 1_000, "needs 3,463 KiB, 3,073 KiB free"),
        (2048 * MiB + 700_000, 2048 * MiB, "needs 2,049 MiB, 2,048 MiB free"),
        (5_000_001, 5_000_000, "needs 5,000,001 bytes, 5,000,000 bytes free"),
    ],
)
def test_what_is_needed_and_what_is_free_are_told_apart(needed: int, free: int, says: str) -> None:
    assert disk_space.figures(needed, free) == says


def test_a_fault_of_the_model_is_no_fault_of_the_disk(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    def fill(folder: Path) -> None:
        folder.mkdir()
        raise ValueError("this generation config can't be saved")

    with pytest.raises(ValueError, match="can't be saved"):
        publish_result(fill, tmp_path / "here", job(rows, tokenizer), {}, "f")
    assert list(tmp_path.iterdir()) == []


def test_only_our_own_jobs_leftovers_are_removed(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    mine = [".attempt-f.1.3-aaaa"]
    others = [
        *(".attempt-g.1.3-aaaa", ".attempt-f.11.3-aaaa", ".attempt-f.2.3-aaaa"),
        *(".attempt-7-aaaa", ".old-g.1.aaaa", "job-7"),
    ]
    for name in (*mine, *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    clear_unfinished(tmp_path / "here", job(rows, tokenizer), "f")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_an_older_result_that_was_moved_aside_comes_back(tmp_path: Path, tokenizer: Path, rows: Path) -> None:
    """The attempt that was about to replace it died in between."""
    assignment = job(rows, tokenizer)
    source = checkpoint(tmp_path / "jobs")
    out = tmp_path / "out"
    made = publish_result(from_checkpoint(source), out / "here", assignment, {}, "f")
    made.rename(out / ".old-f.1.aaaa")
    clear_unfinished(out / "here", assignment, "f")
    assert [path.name for path in out.iterdir()] == ["here"]
    verify(out / "here")


@pytest.mark.parametrize("made", ["safetensors", "torch", "text"])
def test_a_full_disk_is_known_by_every_librarys_words(made: str, disk: Disk) -> None:
    tensors = {"a": torch.zeros(4 * MiB)}
    path = disk.path / "x"
    with pytest.raises(Exception) as raised:
        if made == "safetensors":
            save_file(tensors, path)
        elif made == "torch":
            torch.save(tensors, path)
        else:
            path.write_text("x" * 16 * MiB)
    assert disk_space.full(raised.value) == disk_space.refused(raised.value) == "No space left on device"
    assert disk_space.full(FileNotFoundError(errno.ENOENT, "x")) is None
    assert disk_space.full(PermissionError(errno.EACCES, "x")) is None, "a read says that, too"
    assert disk_space.refused(ValueError("no space left for a doubt")) is None


def test_what_is_needed_on_one_disk_adds_up(disk: Disk, tmp_path: Path) -> None:
    first, second = (
        disk_space.Need(disk.path / "a", 5 * MiB, "this"),
        disk_space.Need(disk.path / "b" / "c", 5 * MiB, "that"),
    )
    assert disk_space.shortage([first]) is None and disk_space.shortage([second]) is None
    assert (
        disk_space.shortage([first, second])
        == f"too little space in {disk.path}/b/c for that (needs 5 MiB, 3 MiB free)"
    )
    beside = disk_space.Need(disk.path / "b", 50 * MiB, "links", beside=disk.path / "a")
    assert disk_space.shortage([first, beside]) is None
    assert (
        disk_space.shortage([disk_space.Need(disk.path / "b", 50 * MiB, "copies", beside=tmp_path)])
        is not None
    )
