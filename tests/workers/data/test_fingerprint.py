"""Rows that change between two attempts: told, and the number of steps stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.state import Outcome
from tests.workers.builders import make_assignment, prompt_rows, write_rows
from tests.workers.trainer.test_stops import StopsAfter, run
from workers.attempt_folder import AttemptFolder, checkpoints_root
from workers.checkpoints.folders import latest_good
from workers.checkpoints.manifest import read_manifest, write_manifest
from workers.data.fingerprint import Fingerprint, Printer, changed

ASKED = {"steps": None, "epochs": 2}
THEN = {"step": 120, "total_steps": 300, "asked": ASKED, "data": {"rows": 4000, "sha256": "a"}}


def test_it_says_what_changed_and_that_the_steps_did_not() -> None:
    news = changed(Fingerprint(4100, "b"), THEN, ASKED)
    assert news is not None and news.steps == 300
    assert news.text == (
        "the data changed since step 120: 4,000 rows then, 4,100 now; it goes on with the new rows, "
        "still 300 steps in all"
    )
    same = changed(Fingerprint(4000, "b"), THEN, ASKED)
    assert same is not None and "4,000 rows as before, but not the same" in same.text


@pytest.mark.parametrize("manifest", [{}, {"data": None}, {"data": {"rows": "?"}}, {**THEN, "data": {}}])
def test_a_checkpoint_that_tells_nothing_of_its_rows_is_gone_on_from_as_before(manifest: Any) -> None:
    assert changed(Fingerprint(1, "b"), manifest, ASKED) is None


def test_the_same_rows_are_no_news_and_a_changed_job_counts_its_steps_again() -> None:
    assert changed(Fingerprint(4000, "a"), THEN, ASKED) is None
    news = changed(Fingerprint(4100, "b"), THEN, {"steps": None, "epochs": 4})
    assert news is not None and news.steps is None and "counted again" in news.text


ROWS = st.lists(st.dictionaries(st.sampled_from(["prompt", "completion", "text"]), st.text()), max_size=6)


@given(some=ROWS, others=ROWS)
def test_only_equal_rows_in_the_same_order_have_one_fingerprint(some: Any, others: Any) -> None:
    def of(rows: Any) -> Fingerprint:
        printer = Printer()
        for row in rows:
            printer.add(dict(reversed(row.items())))
        return printer.made()

    assert (of(some) == of(others)) == (some == others)


def stopped_then_resumed(
    tmp_path: Path, tokenizer: Path, change: Any, log: pytest.LogCaptureFixture
) -> tuple[AttemptFolder, Any]:
    """A run over two epochs of 32 rows (16 steps), stopped after step 5; the file is changed, and it goes on."""
    data = write_rows(tmp_path / "rows.jsonl", prompt_rows(32))

    def assignment(attempt_id: int) -> Any:
        made = make_assignment(data, tokenizer, attempt_id=attempt_id, training={"steps": None, "epochs": 2})
        assert made.spec.training.epochs == 2
        return made

    first = run(tmp_path, StopsAfter(tmp_path, 1, 4, "preempted"), assignment(1))
    assert (first.outcome, first.steps, first.total_steps) == (Outcome.PREEMPTED, 5, 16)
    change(data)
    log.clear()
    folder = AttemptFolder(tmp_path, 2)
    ended = run(tmp_path, folder, assignment(2))
    assert ended.outcome is Outcome.SUCCEEDED, ended.message
    return folder, ended


@pytest.mark.parametrize("count", [40, 20])
def test_a_run_whose_data_changed_keeps_its_steps_and_says_so(
    count: int, tmp_path: Path, tokenizer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, ended = stopped_then_resumed(
        tmp_path, tokenizer, lambda data: write_rows(data, prompt_rows(count)), caplog
    )
    text = (
        f"the data changed since step 5: 32 rows then, {count} now; it goes on with the new rows, "
        "still 16 steps in all"
    )
    assert (ended.steps, ended.total_steps) == (16, 16)
    assert [line.note for line in folder.progress() if line.note] == [text]
    assert text in [record.getMessage() for record in caplog.records]
    found = latest_good(checkpoints_root(tmp_path, 1))
    assert found is not None
    manifest = read_manifest(found[0])
    assert (manifest["data"]["rows"], manifest["total_steps"]) == (count, 16)


def test_a_file_that_was_only_written_again_is_no_news(
    tmp_path: Path, tokenizer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, ended = stopped_then_resumed(
        tmp_path, tokenizer, lambda data: data.write_text(data.read_text() + "\n"), caplog
    )
    assert (ended.steps, [line.note for line in folder.progress() if line.note]) == (16, [])


def test_an_old_checkpoint_is_gone_on_from(
    tmp_path: Path, tokenizer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def older(data: Path) -> None:
        found = latest_good(checkpoints_root(tmp_path, 1))
        assert found is not None
        facts = read_manifest(found[0])
        write_manifest(found[0], {"step": facts["step"]})

    folder, ended = stopped_then_resumed(tmp_path, tokenizer, older, caplog)
    assert ended.steps == 16 and all(line.note is None for line in folder.progress())
