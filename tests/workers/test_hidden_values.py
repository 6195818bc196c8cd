"""Values that no text of a trainer has, however it is cut and written."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from workers.hidden_values import Hidden, filter_to

VALUES = {"TOKEN": 'hunter2/hunter2 "x"', "KEY": "-----BEGIN-----\nline-of-a-key\n-----END-----"}


@given(st.lists(st.integers(0, 40), max_size=30))
def test_a_value_is_found_however_the_stream_is_cut(cuts: list[int]) -> None:
    hidden, out = Hidden(VALUES), b""
    text = b'a hunter2/hunter2 "x" b hunter2/hun line-of-a-key c'
    places = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})
    for begin, end in pairwise(places):
        out += hidden.feed(text[begin:end])
    assert out + hidden.end() == b"a [TOKEN] b hunter2/hun [KEY] c"


def test_spellings_of_a_value_are_found() -> None:
    hidden = Hidden(VALUES)
    for text in ('{"url": "hunter2/hunter2 \\"x\\""}', "?t=hunter2%2Fhunter2%20%22x%22"):
        assert "[TOKEN]" in hidden.text(text) and "hunter2" not in hidden.text(text)
    assert hidden.text("nothing of the kind") == "nothing of the kind"


def test_what_a_process_says_as_it_dies_is_kept_without_them(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    pipe = filter_to(log, VALUES)
    code = "import os; os.write(1, b'the token is hunter2/hunter2 \"x\", and now'); os.abort()"
    subprocess.run([sys.executable, "-c", code], stdout=pipe, check=False)
    os.close(pipe)
    while not (log.exists() and log.read_bytes().endswith(b"now")):
        pass
    assert log.read_text() == "the token is [TOKEN], and now"
