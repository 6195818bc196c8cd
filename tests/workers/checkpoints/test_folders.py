"""Checkpoints: whole or not there, whatever breaks, whenever the process dies."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobs.identity import Owner
from workers.checkpoints.folders import (
    clear_leftovers,
    latest_good,
    listed,
    look_at,
    name_of,
    prune,
    publish_checkpoint,
    put_in_place,
    staging_folder,
)
from workers.checkpoints.manifest import MANIFEST, Corrupt, verify, write_manifest

BREAKAGES: dict[str, Callable[[Path], Any]] = {
    "a byte changed": lambda p: (p / "weights").write_bytes(b"x" * 999 + b"y"),
    "cut short": lambda p: (p / "weights").write_bytes(b"x" * 10),
    "a file is gone": lambda p: (p / "deep" / "state").unlink(),
    "no manifest": lambda p: (p / MANIFEST).unlink(),
    "half a manifest": lambda p: (p / MANIFEST).write_bytes((p / MANIFEST).read_bytes()[:20]),
    "another manifest": lambda p: (p / MANIFEST).write_text('["files"]'),
    "an empty manifest": lambda p: (p / MANIFEST).write_bytes(b""),
}


def stage(root: Path, content: bytes = b"x" * 1000) -> Path:
    """What a trainer leaves in its staging folder."""
    staged = staging_folder(root, 1) / "checkpoint"
    (staged / "deep").mkdir(parents=True)
    (staged / "weights").write_bytes(content)
    (staged / "deep" / "state").write_bytes(b"state")
    return staged


def test_the_newest_is_found_and_whole(tmp_path: Path) -> None:
    assert latest_good(tmp_path) is None
    for step in (2, 10, 4):
        publish_checkpoint(stage(tmp_path), tmp_path, step, {"attempt_id": 1})
    assert latest_good(tmp_path) == (tmp_path / name_of(10), 10)
    manifest = verify(tmp_path / name_of(10))
    assert manifest["step"] == 10 and manifest["attempt_id"] == 1
    assert set(manifest["files"]) == {"weights", "deep/state"}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_one_is_passed_over(breakage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2):
        publish_checkpoint(stage(tmp_path), tmp_path, step)
    BREAKAGES[breakage](tmp_path / name_of(2))
    with pytest.raises(Corrupt):
        verify(tmp_path / name_of(2))
    with caplog.at_level(logging.WARNING):
        assert latest_good(tmp_path) == (tmp_path / name_of(1), 1)
    assert name_of(2) in caplog.text


def test_a_good_one_stays_and_a_broken_one_makes_way(tmp_path: Path) -> None:
    publish_checkpoint(stage(tmp_path, b"first"), tmp_path, 3)
    publish_checkpoint(stage(tmp_path, b"second"), tmp_path, 3)
    assert (tmp_path / name_of(3) / "weights").read_bytes() == b"first"
    (tmp_path / name_of(3) / "weights").write_bytes(b"broken")
    publish_checkpoint(stage(tmp_path, b"third"), tmp_path, 3)
    assert (tmp_path / name_of(3) / "weights").read_bytes() == b"third"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".old")] == []


def test_prune_keeps_the_newest_whole_ones(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        publish_checkpoint(stage(tmp_path), tmp_path, step)
    (tmp_path / name_of(5)).mkdir()  # by hand: it has no manifest
    prune(tmp_path, keep=2)
    assert [step for _, step in listed(tmp_path)] == [3, 4]


def test_leftovers_go(tmp_path: Path) -> None:
    stage(tmp_path)
    (tmp_path / ".old-step-00000001-abc").mkdir()
    publish_checkpoint(stage(tmp_path / "other"), tmp_path, 1)
    clear_leftovers(tmp_path, attempt_id=2)
    assert {path.name for path in tmp_path.iterdir()} == {name_of(1), ".staging-2", "other"}


class Died(BaseException):
    """The process was killed here."""


@contextmanager
def dies_at(call: int) -> Iterator[list[str]]:
    """Die at the n-th call that changes the file system; yields the calls made so far."""
    made: list[str] = []

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **kwargs: Any) -> Any:
            made.append(name)
            if len(made) == call:
                raise Died(name)
            return real(*args, **kwargs)

        return act

    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (os, "replace"),
            (os, "rename"),
            (os, "fsync"),
            (os, "link"),
            (Path, "rename"),
            (shutil, "rmtree"),
        ):
            patch.setattr(module, name, watched(name, getattr(module, name)))
        yield made


def _calls(tmp_path: Path, act: Callable[[Path], Any]) -> int:
    with dies_at(0) as made:
        act(tmp_path)
    return len(made)


def test_dying_anywhere_leaves_a_good_checkpoint(tmp_path: Path) -> None:
    def second(root: Path) -> None:
        publish_checkpoint(stage(root, b"new"), root, 2)
        prune(root, keep=1)

    def fresh(name: str) -> Path:
        root = tmp_path / name
        publish_checkpoint(stage(root, b"old"), root, 1)
        return root

    calls = _calls(fresh("count"), second)
    assert calls > 6
    for call in range(1, calls + 1):
        root = fresh(f"at-{call}")
        with dies_at(call), pytest.raises(Died):
            second(root)
        found = latest_good(root)
        assert found is not None and (found[0] / "weights").read_bytes() in (b"old", b"new")
        clear_leftovers(root, attempt_id=3)
        second(root)  # the next attempt gets there
        assert [step for _, step in listed(root)] == [2]
        verify(root / name_of(2))


def test_dying_while_a_result_is_replaced_loses_neither(tmp_path: Path) -> None:
    """A job that runs again makes its result again: at any point the old or the new one is whole on disk."""

    def replace(root: Path) -> None:
        staged = root / ".result.attempt-2"
        staged.mkdir()
        (staged / "weights").write_bytes(b"new")
        write_manifest(staged)
        put_in_place(staged, root / "result")

    def fresh(name: str) -> Path:
        root = tmp_path / name
        (root / "result").mkdir(parents=True)
        (root / "result" / "weights").write_bytes(b"old")
        write_manifest(root / "result")
        return root

    for call in range(1, _calls(fresh("count"), replace) + 1):
        root = fresh(f"at-{call}")
        with dies_at(call), pytest.raises(Died):
            replace(root)
        whole = [path for path in root.iterdir() if (path / MANIFEST).exists() and verify(path)]
        assert whole


@pytest.mark.parametrize("breakage", [None, "cut short", "a file is gone", "no manifest", "half a manifest"])
def test_a_look_at_one_finds_what_is_missing(breakage: str | None, tmp_path: Path) -> None:
    path = publish_checkpoint(stage(tmp_path), tmp_path, 3)
    if breakage:
        BREAKAGES[breakage](path)
    found = look_at(path, Owner(job_id=1))
    assert found is not None and (found.step, found.whole) == (3, breakage is None)
    assert breakage or found.bytes == 1005
