"""Files of the same id with another uuid, digest or epoch, wherever files are used: nothing foreign is, nor is it lost.

A checkpoint or result of an older epoch is the job's own where uuid and digest are: the backup knew the job.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import Conflict
from jobs.identity import Owner, new_uuid
from jobs.messages.reports import Assignment, Kept
from tests.workers.agents import wait_until
from tests.workers.builders import make_assignment
from tests.workers.checkpoints.test_folders import stage
from tests.workers.checkpoints.test_transfer import Clock, Network
from workers.agent.checkpoint_gc import Tidier
from workers.agent.result_upload import ResultReader
from workers.attempt_folder import AttemptFolder, checkpoints_root, note_epoch
from workers.checkpoints.folders import listed, name_of, publish_checkpoint, staging_folder
from workers.checkpoints.job_folder import take_job_folder
from workers.checkpoints.transfer import Carrier
from workers.trainer.saving.artifacts import check_free, publish_result
from workers.trainer.saving.resume import checkpoint_of

MINE, OTHER, FIRST = new_uuid(), new_uuid(), new_uuid()
STEP = 4
# What differs in the job that left the files, and whether they are used all the same.
CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "the same": ({}, True),
    "an older epoch": ({"epoch": 1}, True),
    "another uuid": ({"uuid": OTHER}, False),
    "another uuid and epoch": ({"uuid": OTHER, "epoch": 1}, False),
    "another digest": ({"digest": "x"}, False),
    "another digest and epoch": ({"digest": "x", "epoch": 1}, False),
    "another uuid and digest": ({"uuid": OTHER, "digest": "x"}, False),
    "no uuid": ({"uuid": ""}, False),
    "no uuid, of an attempt that wrote none": ({"uuid": "", "unnamed": (1,)}, True),
    "no uuid, another digest, of such an attempt": ({"uuid": "", "unnamed": (1,), "digest": "x"}, False),
}


def assignment(attempt: int, uuid: str = MINE, digest: str = "d", epoch: int = 2, **more: Any) -> Assignment:
    """Of job 7. Without a uuid: as an older server handed it over."""
    unnamed = more.pop("unnamed", ())
    made = make_assignment(Path("rows.jsonl"), Path("tokenizer"), job_id=7, attempt_id=attempt)
    owner = Owner(job_id=7, job_uuid=uuid, digest=digest, unnamed=unnamed)
    return made.model_copy(
        update={"owner": owner, "uuid": FIRST[:31] + str(attempt) if uuid else "", "epoch": epoch, **more}
    )


def checkpoint(home: Path, left: Assignment, job_id: int = 7) -> Path:
    """What an attempt of this assignment left."""
    owner = left.mine.model_copy(update={"job_id": job_id})
    root = take_job_folder(home, owner)
    facts = {**owner.facts(), "attempt_id": left.attempt_id, "number": left.number, "epoch": left.epoch}
    return publish_checkpoint(stage(root), root, STEP, facts)


def contents(folder: Path) -> list[bytes]:
    """Every weight file below: nothing of a foreign job may be gone."""
    return [path.read_bytes() for path in sorted(folder.rglob("weights"))]


def _resume(tmp_path: Path, left: Assignment, now: Assignment) -> bool:
    home = tmp_path / "home"
    checkpoint(home, left)
    found = _begin(home, now)
    used = found is not None
    if not used:
        assert contents(home / "aside") == [b"x" * 1000], "set aside, not deleted"
        assert listed(checkpoints_root(home, 7)) == []
    return used


def _begin(home: Path, now: Assignment, **more: Any) -> tuple[Path, int] | None:
    root = take_job_folder(home, now.mine)
    folder = AttemptFolder(home, now.attempt_id)
    assert folder.claim(now)
    staging = staging_folder(root, now.attempt_id)
    staging.mkdir(exist_ok=True)
    return checkpoint_of(now, folder, root, staging, lambda: None, more.get("reach"))


def _adopt(tmp_path: Path, left: Assignment, now: Assignment) -> bool:
    """Job 8 goes on from job 7, whose folder is not empty."""
    home = tmp_path / "home"
    checkpoint(home, left)
    mine = Owner(job_id=8, job_uuid=new_uuid(), digest=now.mine.digest)
    heir = now.model_copy(update={"job_id": 8, "owner": mine, "continues": 7, "before": now.mine})
    found = _begin(home, heir)
    assert contents(checkpoints_root(home, 7)) == [b"x" * 1000]
    if found is not None:
        again = heir.model_copy(update={"attempt_id": 9, "number": 2, "uuid": new_uuid()})
        assert _begin(home, again) is not None, "it is its own from then on"
    return found is not None


def _carry(tmp_path: Path, left: Assignment, now: Assignment) -> bool:
    there, here = tmp_path / "there", tmp_path / "here"
    checkpoint(there, left)
    root = take_job_folder(here, now.mine)
    staging = staging_folder(root, now.attempt_id)
    staging.mkdir()
    network = Network({"a": there}, Clock(), piece=1 << 20)
    place = Kept(host="a", home=str(there), step=STEP)
    found = Carrier(now.mine, root, staging, network.reach, lambda: None).newest([place], None)
    assert contents(there) == [b"x" * 1000]
    if found is None:
        assert network.sent == [], "compared before a byte is fetched"
    return found is not None


def _publish(tmp_path: Path, left: Assignment, now: Assignment) -> bool:
    """Whether a result that is there makes way for the one of this job: only its own does."""
    target = tmp_path / "out" / "job-7"
    publish_result(_fill(b"before"), target, left, {}, "f")
    if (left.mine.job_uuid, left.mine.job_id) != (now.mine.job_uuid, 7) and left.mine.job_uuid:
        check_free(target, now)  # a job that had its id before is no reason to fail
    made = publish_result(_fill(b"after"), target, now, {}, "f")
    assert (made / "weights").read_bytes() == b"after"
    if made != target:
        assert (target / "weights").read_bytes() == b"before"
    return made == target


def _fill(content: bytes) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        folder.mkdir()
        (folder / "weights").write_bytes(content)

    return fill


def _pull(tmp_path: Path, left: Assignment, now: Assignment) -> bool:
    made = publish_result(_fill(b"before"), tmp_path / "out" / "job-7", left, {}, "f")
    uuid = left.uuid or "5" * 12 + "5" + "5" * 3 + "8" + "5" * 15  # derived, as of an attempt that wrote none
    if not left.mine.job_uuid and not now.mine.unnamed:
        uuid = new_uuid()
    try:
        ResultReader(made, now.mine, left.attempt_id, uuid).close()
    except Conflict:
        return False
    return True


def _tidy(tmp_path: Path, left: Assignment, now: Assignment) -> bool:
    """Whether they are removed. By the time that the order is obeyed something else is there."""
    home = tmp_path / "home"
    checkpoint(home, left)
    tidier = Tidier(home)
    tidier.drop([now.mine])
    tidier.close()
    left_there = contents(home / "aside") + contents(checkpoints_root(home, 7))
    if left_there == []:
        wait_until(lambda: not any((home / "jobs").rglob("weights")))
        return True
    assert left_there == [b"x" * 1000], "kept where it is, or set aside"
    return False


USES = {
    "resume": _resume,
    "adopt": _adopt,
    "carry": _carry,
    "publish": _publish,
    "pull": _pull,
    "tidy": _tidy,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("use", USES)
def test_only_what_is_the_jobs_own_is_used(use: str, case: str, tmp_path: Path) -> None:
    differs, used = CASES[case]
    unnamed = differs.get("unnamed", ())
    left = assignment(1, **{name: value for name, value in differs.items() if name != "unnamed"})
    now = assignment(1 if use == "pull" else 2, unnamed=unnamed)
    assert USES[use](tmp_path, left, now) == used


def test_an_assignment_of_an_older_epoch_is_not_begun(tmp_path: Path) -> None:

    note_epoch(tmp_path, 2)
    folder = AttemptFolder(tmp_path, 1)
    assert not folder.claim(assignment(1, epoch=1)) and not folder.path.exists()
    assert folder.claim(assignment(1, epoch=2))
    assert AttemptFolder(tmp_path, 2).claim(assignment(2, epoch=3)), "the host hears of it in a moment"


def test_what_is_set_aside_says_why(tmp_path: Path) -> None:
    checkpoint(tmp_path, assignment(1, uuid=OTHER))
    take_job_folder(tmp_path, assignment(2).mine)
    (note,) = (tmp_path / "aside").glob("*.json")
    said = json.loads(note.read_text())
    assert said["job_id"] == 7 and OTHER[:12] in said["text"]
    assert (note.with_suffix("") / "checkpoints" / name_of(STEP)).is_dir()
