"""News of an attempt: from where the server stands, whole characters, the outcome last."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from jobs.messages.reports import AttemptOffsets, AttemptReport, Ended, Evaluated, Progress
from jobs.state import Outcome
from tests.workers.builders import claimed, make_assignment
from workers.agent.outbox import LOG_BYTES, PROGRESS_LINES, Shipper
from workers.attempt_folder import AttemptFolder


@pytest.fixture
def folder(tmp_path: Path) -> AttemptFolder:
    assignment = make_assignment(tmp_path / "d.jsonl", tmp_path, attempt_id=7)
    return claimed(tmp_path, assignment.model_copy(update={"number": 2}))


def line(step: int) -> Progress:
    return Progress(ts=float(step), step=step, total_steps=9000)


def read(shipper: Shipper, log_offset: int = 0, step: int = 0) -> tuple[AttemptReport, bool]:
    known = AttemptOffsets(attempt_id=7, job_id=1, number=2, log_offset=log_offset, step=step)
    news = shipper.news([known], over={7}, now=1.0)
    (report,) = news.attempts
    return report, news.more


def collect(shipper: Shipper) -> tuple[str, list[int], Ended | None, int]:
    """Everything, as a server takes it that confirms each report; with the number of reports."""
    log, reports = "", 0
    steps: list[int] = []
    while True:
        report, more = read(shipper, len(log.encode()), steps[-1] if steps else 0)
        assert len(report.log.encode()) <= LOG_BYTES and len(report.progress) <= PROGRESS_LINES
        assert report.log_offset == len(log.encode())
        log += report.log
        steps += [one.step for one in report.progress]
        reports += 1
        if not more:
            return log, steps, report.ended, reports
        assert report.ended is None, "the outcome goes last"


def test_a_long_log_goes_in_pieces_that_split_no_character(folder: AttemptFolder, tmp_path: Path) -> None:
    text = "".join(f"{n} läuft 火 🚂\n" for n in range(40_000))
    folder.log_path.write_text(text)
    folder.write_ended(Ended(ts=1, outcome=Outcome.SUCCEEDED))
    log, _, ended, reports = collect(Shipper(tmp_path))
    assert log == text
    assert ended is not None and ended.outcome is Outcome.SUCCEEDED
    assert reports == 1 + len(text.encode()) // LOG_BYTES


def test_evaluations_go_beside_the_steps(folder: AttemptFolder, tmp_path: Path) -> None:
    """One comes after the line of its step, which the server has by then."""
    folder.append_evaluation(Evaluated(ts=1.0, step=0, loss=3.0))
    folder.append_progress(line(5))
    folder.append_evaluation(Evaluated(ts=2.0, step=5, loss=math.nan))
    shipper = Shipper(tmp_path)
    known = AttemptOffsets(attempt_id=7, job_id=1, number=2, step=5)
    for has, told in ((-1, [(0, 3.0), (5, None)]), (0, [(5, None)]), (5, []), (-1, [(0, 3.0), (5, None)])):
        (report,) = shipper.news([known.model_copy(update={"evaluated": has})], {7}, now=1.0).attempts
        assert [(one.step, one.loss) for one in report.evaluations] == told
        assert report.progress == []


def test_many_steps_go_in_pieces(folder: AttemptFolder, tmp_path: Path) -> None:
    with folder.progress_path.open("w") as file:
        file.writelines(line(step).model_dump_json() + "\n" for step in range(1, 3 * PROGRESS_LINES + 1))
    folder.write_ended(Ended(ts=1, outcome=Outcome.FAILED))
    _, steps, ended, reports = collect(Shipper(tmp_path))
    assert steps == list(range(1, 3 * PROGRESS_LINES + 1))
    assert ended is not None and reports == 3


def test_what_the_server_did_not_store_comes_again(folder: AttemptFolder, tmp_path: Path) -> None:
    shipper = Shipper(tmp_path)
    for step in (1, 2, 3):
        folder.append_progress(line(step))
    assert [one.step for one in read(shipper)[0].progress] == [1, 2, 3]
    assert [one.step for one in read(shipper, step=2)[0].progress] == [3]
    folder.append_progress(line(4))
    assert [one.step for one in read(shipper, step=3)[0].progress] == [4]
    assert [one.step for one in read(shipper, step=1)[0].progress] == [2, 3, 4], "it went back to a backup"


def test_another_agent_goes_on_where_the_server_stands(folder: AttemptFolder, tmp_path: Path) -> None:
    folder.log_path.write_text("0123456789")
    for step in (1, 2, 3):
        folder.append_progress(line(step))
    report, _ = read(Shipper(tmp_path), log_offset=4, step=2)
    assert (report.log, report.log_offset, [one.step for one in report.progress]) == ("456789", 4, [3])


def test_a_torn_line_waits_and_a_foreign_one_is_left_out(folder: AttemptFolder, tmp_path: Path) -> None:
    shipper = Shipper(tmp_path)
    second = line(2).model_dump_json()
    folder.progress_path.write_text(f"not json\n{line(1).model_dump_json()}\n{second[:10]}")
    assert [one.step for one in read(shipper)[0].progress] == [1]
    with folder.progress_path.open("a") as file:
        file.write(second[10:] + "\n")
    assert [one.step for one in read(shipper, step=1)[0].progress] == [2]


def test_bytes_that_are_no_text_keep_the_offsets_right(folder: AttemptFolder, tmp_path: Path) -> None:
    data = b"a\xff\xfe\x00b\xed\xa0\x80c\xe7\x81"
    folder.log_path.write_bytes(data)
    report, _ = read(Shipper(tmp_path))
    assert report.log == "a???b???c"
    assert len(report.log.encode()) == len(data) - 2, "the beginning of a character waits for its end"


def test_a_folder_that_is_gone_ends_an_attempt_that_had_begun(tmp_path: Path) -> None:
    begun, _ = read(Shipper(tmp_path), log_offset=10, step=3)
    assert begun.ended is not None and begun.ended.outcome is Outcome.LOST and begun.ended.steps == 3
    assert str(tmp_path) in begun.ended.message
    not_yet, _ = read(Shipper(tmp_path))
    assert not_yet.ended is None
