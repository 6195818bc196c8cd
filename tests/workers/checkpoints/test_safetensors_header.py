"""Malformed files of weights: a sentence that names the file, whatever its header says."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from workers.checkpoints.safetensors_header import Malformed
from workers.trainer.finite import not_finite_in

GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DATA = b"\0" * 8


def written(folder: Path, header: Any, length: int | None = None, data: bytes = DATA) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    count = len(text) if length is None else length
    (folder / "model.safetensors").write_bytes(count.to_bytes(8, "little") + text + data)
    return folder


def test_a_good_header_is_read(tmp_path: Path) -> None:
    assert not_finite_in(written(tmp_path, {"__metadata__": {"format": "pt"}, "a": GOOD})) is None
    nan = b"\0\0\xc0\x7f" * 2
    assert not_finite_in(written(tmp_path, {"a": GOOD}, data=nan)) == "a"


@pytest.mark.parametrize(
    ("header", "length", "says"),
    [
        ({"a": GOOD}, 2**63, "its header is said to have 9,223,372,036,854,775,808 bytes"),
        ({"a": GOOD}, 10_000, "its header is said to have 10,000 bytes, and the file has"),
        (b"not json", None, "its header is not JSON"),
        (b"\xff\xfe{}", None, "its header is not JSON"),
        (b"[" * 100_000, None, "its header is not JSON"),
        (b"", None, "its header is not JSON"),
        ([1, 2], None, "its header is no mapping of tensors"),
        ({"a": 3}, None, "a has no type, shape and place"),
        ({"a": {**GOOD, "dtype": 3}}, None, "a has no type, shape and place"),
        ({"a": {"dtype": "F32"}}, None, "a has no type, shape and place"),
        ({"a": {**GOOD, "data_offsets": [0]}}, None, "a has no type, shape and place"),
        ({"a": {**GOOD, "data_offsets": [-4, 4]}}, None, "a has no type, shape and place"),
        ({"a": {**GOOD, "data_offsets": ["0", "8"]}}, None, "a has no type, shape and place"),
        ({"a": {**GOOD, "data_offsets": [8, 0]}}, None, "a is said to be at 8 to 0"),
        ({"a": {**GOOD, "data_offsets": [0, 2**60]}}, None, "and the file has 8 bytes of tensors"),
        ({"a": {**GOOD, "dtype": "I64", "data_offsets": [0, 2**60]}}, None, "and the file has 8 bytes"),
        ({"a": {**GOOD, "shape": [3]}}, None, "a has 8 bytes, which its shape [3] does not take"),
        ({"a": {**GOOD, "data_offsets": [0, 7]}}, None, "a has 7 bytes, which its shape [2] does not take"),
    ],
    ids=str,
)
def test_a_malformed_header_is_a_readable_fault(
    tmp_path: Path, header: Any, length: int | None, says: str
) -> None:
    folder = written(tmp_path, header, length)
    tracemalloc.start()
    try:
        with pytest.raises(Malformed) as caught:
            not_finite_in(folder)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20, "nothing is read by what the header says"
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith("model.safetensors is damaged: ") and says in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\1", b"\0" * 7])
def test_a_file_that_is_no_header_long(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(Malformed, match=f"it has {len(content)} bytes, fewer than"):
        not_finite_in(tmp_path)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_is_spoilt_is_told_or_read(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes of a real file are changed, or its end is cut off: never another error."""
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(3), "b": torch.ones(2, 2, dtype=torch.bfloat16), "n": torch.tensor([1])}, file)
    content = bytearray(file.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = not_finite_in(tmp_path)
    except Malformed as error:
        assert str(error).startswith("model.safetensors is damaged: ")
    else:
        assert found is None or isinstance(found, str)
