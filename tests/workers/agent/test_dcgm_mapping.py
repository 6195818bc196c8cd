"""The folder for dcgm-exporter: a file a card, a job a line, none where nothing runs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from workers.agent.dcgm_mapping import DcgmMapping


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_files_follow_the_jobs_on_the_cards(tmp_path: Path) -> None:
    folder = tmp_path / "mapping"
    mapping = DcgmMapping(folder)
    mapping.write({0: [], 1: [12], 2: [9, 7, 9]})
    assert files(folder) == {"1": "12\n", "2": "7\n9\n"}
    assert (folder / "1").stat().st_mode & 0o777 == 0o644
    mapping.write({0: [12], 1: [], 2: [7]})
    assert files(folder) == {"0": "12\n", "2": "7\n"}
    mapping.clear()
    assert files(folder) == {}


def test_what_an_agent_before_left_goes(tmp_path: Path) -> None:
    (tmp_path / "0").write_text("5\n")
    (tmp_path / "9").write_text("of another\n")
    DcgmMapping(tmp_path).write({0: [], 1: [3]})
    assert files(tmp_path) == {"1": "3\n", "9": "of another\n"}


def test_a_folder_that_takes_nothing_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    mapping = DcgmMapping(blocked / "mapping")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            mapping.write({0: [1]})
    assert len(caplog.records) == 1
    blocked.unlink()
    mapping.write({0: [1]})
    assert files(blocked / "mapping") == {"0": "1\n"}


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    DcgmMapping(None).write({0: [1]})
    assert list(tmp_path.iterdir()) == []
