"""The attempt folder: whole files, one claim, torn lines, characters that are not cut."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from jobs.messages.reports import Ended, Progress, Started
from jobs.state import Outcome
from tests.workers.builders import make_assignment
from workers.attempt_folder import AttemptFolder, attempt_folders
from workers.durable import publish, publish_once


@pytest.fixture
def folder(tmp_path: Path) -> AttemptFolder:
    made = AttemptFolder(tmp_path, 7)
    made.path.mkdir(parents=True)
    return made


def ended(message: str = "") -> Ended:
    return Ended(ts=1.0, outcome=Outcome.SUCCEEDED, message=message)


def test_what_is_written_is_read(folder: AttemptFolder, tmp_path: Path) -> None:
    assignment = make_assignment(tmp_path / "d.jsonl", tmp_path, method="lora", time_limit="4h", attempt_id=7)
    assert folder.claim(assignment)
    assert folder.assignment() == assignment
    started = Started(ts=1.0, pid=5, create_time=2.0, baseline_bytes=3)
    folder.write_started(started)
    folder.write_started(started, rank=1)
    assert folder.processes() == {0: started, 1: started}
    assert folder.ended() is None
    assert folder.write_ended(ended("first"))
    assert not folder.write_ended(ended("second"))
    assert folder.ended() == ended("first")
    names = {"assignment.json", "started.json", "started-1.json", "outcome.json"}
    assert {path.name for path in folder.path.iterdir()} == names


def test_an_attempt_that_is_over_cant_be_claimed(tmp_path: Path) -> None:
    folder = AttemptFolder(tmp_path, 1)
    folder.write_ended(ended())
    assert not folder.claim(make_assignment(tmp_path / "d.jsonl", tmp_path))


def test_one_of_many_gets_the_claim(tmp_path: Path) -> None:
    assignment = make_assignment(tmp_path / "d.jsonl", tmp_path)
    gate, got = threading.Barrier(16), []

    def claim() -> None:
        gate.wait()
        got.append(AttemptFolder(tmp_path, 1).claim(assignment))

    threads = [threading.Thread(target=claim) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 15 + [True]


def test_each_rank_of_a_gang_has_its_claim(tmp_path: Path) -> None:
    for rank in (0, 1):
        assignment = make_assignment(tmp_path / "d.jsonl", tmp_path, rank=rank, world_size=2)
        assert AttemptFolder(tmp_path, 1).claim(assignment)
        assert not AttemptFolder(tmp_path, 1).claim(assignment)


def test_a_torn_last_line_waits(folder: AttemptFolder) -> None:
    assert folder.progress() == []
    for step in (1, 2, 3):
        folder.append_progress(Progress(ts=1.0, step=step, total_steps=9))
    whole = folder.progress_path.read_bytes()
    line = whole.splitlines(keepends=True)[0]
    for cut in range(1, len(line)):
        folder.progress_path.write_bytes(whole + line[:cut])
        assert [each.step for each in folder.progress()] == [1, 2, 3]
    folder.progress_path.write_bytes(whole + b"\0\0\n" + line)
    assert [each.step for each in folder.progress(after_step=2)] == [3]


def test_the_log_is_read_in_pieces_of_whole_characters(folder: AttemptFolder) -> None:
    text = "loss 5.7 → 2.1 ünïcode 🚂 end"
    folder.log_path.write_text(text, encoding="utf-8")
    for limit in range(4, 12):
        offset, pieces = 0, []
        while piece := folder.read_log(offset, limit):
            pieces.append(piece.decode())
            offset += len(piece)
        assert "".join(pieces) == text
    assert AttemptFolder(folder.path.parent.parent, 99).read_log() == b""


def test_bytes_that_are_no_text_do_not_stop_the_log(folder: AttemptFolder) -> None:
    folder.log_path.write_bytes(b"ok\xff\xff\xff\xff\xff\xffmore\x80\x80\x80\x80\x80")
    offset = 0
    while piece := folder.read_log(offset, 4):
        offset += len(piece)
    assert offset == folder.log_path.stat().st_size


def test_a_stop_says_why(folder: AttemptFolder) -> None:
    assert folder.stop_requested() is None
    folder.request_stop("preempted")
    assert folder.stop_requested() == "preempted"
    folder.request_stop("stale")
    assert folder.stop_requested() == "stale"
    folder.stop_path.write_text("")  # by hand: touch stop
    assert folder.stop_requested() == "cancelled"
    folder.stop_path.write_text(json.dumps({"reason": "unheard of"}))
    assert folder.stop_requested() == "cancelled"


def test_looking_for_a_stop_costs_next_to_nothing(folder: AttemptFolder) -> None:
    began = time.process_time()
    for _ in range(10_000):
        folder.stop_requested()
    assert (time.process_time() - began) / 10_000 < 50e-6


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path, texts = tmp_path / "file.json", ["a" * 100_000, "b" * 50_000]
    publish(path, texts[0])
    over = threading.Event()

    def write() -> None:
        for number in range(100):
            publish(path, texts[number % 2])
        over.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not over.is_set():
        assert path.read_text() in texts
    thread.join()
    assert os.listdir(tmp_path) == ["file.json"]


def test_published_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    assert publish_once(path, "first") and not publish_once(path, "second")
    assert path.read_text() == "first" and os.listdir(path.parent) == ["file.json"]


def test_folders_are_listed_and_removed(tmp_path: Path) -> None:
    assert attempt_folders(tmp_path) == []
    for number in (10, 9, 2):
        AttemptFolder(tmp_path, number).request_stop("cancelled")
    (tmp_path / "attempts" / "not-an-attempt").mkdir()
    assert [each.attempt_id for each in attempt_folders(tmp_path)] == [2, 9, 10]
    AttemptFolder(tmp_path, 9).remove()
    AttemptFolder(tmp_path, 9).remove()
    assert [each.attempt_id for each in attempt_folders(tmp_path)] == [2, 10]
