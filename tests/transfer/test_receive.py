"""What comes is put in place whole, wherever the line breaks."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import Conflict, TuneyardError, Unavailable
from orchestrator.transfer import receive


class Line:
    """A server whose line breaks after so many bytes, each time it is asked. Empty: it holds."""

    def __init__(self, files: dict[str, bytes], breaks: list[int], piece: int = 3) -> None:
        self.files_, self.breaks, self.piece = files, list(breaks), piece
        listed = {
            name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        }
        self.manifest = json.dumps({"job_id": 1, "files": listed})
        self.stream = b"".join(data for _, data in sorted(files.items()))
        self.sent = 0

    def result(self) -> Any:
        sha = hashlib.sha256(self.manifest.encode()).hexdigest()
        about = {"job": 1, "name": "tune", "host": "alpha", "bytes": len(self.stream)}
        return {**about, "manifest": self.manifest, "manifest_sha256": sha}

    def files(self, manifest_sha256: str, offset: int) -> Iterator[bytes]:
        left = self.breaks.pop(0) if self.breaks else len(self.stream)
        for at in range(offset, len(self.stream), self.piece):
            piece = self.stream[at : at + min(self.piece, left)]
            left -= len(piece)
            self.sent += len(piece)
            yield piece
            if left <= 0 and at + len(piece) < len(self.stream):
                raise Unavailable("it broke")


def pull(line: Line, target: Path, **given: Any) -> receive.Pulled:
    return receive.pull(line, target, sleep=lambda pause: None, clock=lambda: 0.0, **given)


names = st.text("abc", min_size=1, max_size=3) | st.sampled_from(["sub/a", "sub/b", "sub/deep/c"])


@settings(max_examples=60, deadline=None)
@given(
    files=st.dictionaries(names, st.binary(max_size=20), max_size=6),
    breaks=st.lists(st.integers(1, 12), max_size=8),
    piece=st.integers(1, 9),
)
def test_wherever_it_breaks_it_goes_on_and_is_whole(
    files: dict[str, bytes], breaks: list[int], piece: int
) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        line = Line(files, breaks, piece)
        pulled = pull(line, folder / "here")
        assert pulled.came == line.sent == len(line.stream), "no byte comes twice"
        got = {
            path.relative_to(folder / "here").as_posix(): path.read_bytes()
            for path in (folder / "here").rglob("*")
            if path.is_file() and path.name != "manifest.json"
        }
        assert got == files and (folder / "here" / "manifest.json").read_text() == line.manifest
        assert [path.name for path in folder.iterdir()] == ["here"]
    finally:
        shutil.rmtree(folder)


def test_a_later_pull_goes_on_where_the_last_gave_up(tmp_path: Path) -> None:
    files = {"a": b"0123456789", "b": b"abcdefghij"}
    times = iter((0.0, 1e9, 2e9, 3e9))
    with pytest.raises(Unavailable, match="it broke"):
        receive.pull(
            Line(files, [13, 0, 0]), tmp_path / "here", sleep=lambda pause: None, clock=lambda: next(times)
        )
    assert not (tmp_path / "here").exists()
    assert pull(Line(files, []), tmp_path / "here").came <= 7
    assert (tmp_path / "here" / "b").read_bytes() == files["b"]


def test_what_came_of_a_result_that_was_replaced_is_removed(tmp_path: Path) -> None:
    times = iter((0.0, 1e9, 2e9))
    with pytest.raises(Unavailable):
        receive.pull(
            Line({"a": b"0123456789"}, [4, 0]),
            tmp_path / "here",
            sleep=lambda pause: None,
            clock=lambda: next(times),
        )
    assert len(list(tmp_path.iterdir())) == 1
    (tmp_path / ".here.pull-12-abc").mkdir()  # of another job
    pull(Line({"a": b"0123456780"}, []), tmp_path / "here")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".here.pull-12-abc", "here"]


def test_a_break_is_told_when_it_lasts(tmp_path: Path) -> None:
    said: list[str] = []
    pull(Line({"a": b"0123456789"}, [4, 3]), tmp_path / "one", say=said.append)
    assert said == [], "each time the next answer was there"
    pull(Line({"a": b"0123456789"}, [4, 0, 0]), tmp_path / "two", say=said.append)
    assert said == ["it broke (waiting for it)"]


def test_what_was_spoilt_here_meanwhile_comes_again(tmp_path: Path) -> None:
    files = {"a": b"0123456789", "b": b"abcdefghij"}
    times = iter((0.0, 1e9, 2e9))
    with pytest.raises(Unavailable):
        receive.pull(
            Line(files, [14, 0]), tmp_path / "here", sleep=lambda pause: None, clock=lambda: next(times)
        )
    (staging,) = tmp_path.iterdir()
    (staging / "a").write_bytes(b"0123456780")
    pull(Line(files, []), tmp_path / "here")
    assert (tmp_path / "here" / "a").read_bytes() == files["a"]


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "", ".", "manifest.json", "a//b", "a\0b", "a/"])
def test_no_name_of_a_manifest_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(TuneyardError, match="is no file of a result; nothing was fetched"):
        pull(Line({name: b"x"}, []), tmp_path / "here")
    assert list(tmp_path.iterdir()) == []


def test_two_pulls_into_one_folder_do_not_mix(tmp_path: Path) -> None:
    line = Line({"a": b"0123456789"}, [])

    def again(have: int, total: int) -> None:
        if 0 < have < total:
            with pytest.raises(Conflict, match="another pull"):
                pull(Line({"a": b"0123456789"}, []), tmp_path / "here")

    pull(line, tmp_path / "here", tell=again)
    assert (tmp_path / "here" / "a").read_bytes() == b"0123456789"
