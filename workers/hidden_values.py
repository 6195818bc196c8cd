"""What must not be read: values that are replaced by their names in whatever leaves this process as text.

python -m workers.hidden_values FILE     appends its input to FILE without the values that its first line names
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

LEAST = 8  # characters; shorter ones would garble everything


class Hidden:
    """Replaces values in text and in a stream of bytes. values: by name."""

    def __init__(self, values: Mapping[str, str]) -> None:
        found = {form: name for name, value in values.items() for form in _forms(value)}
        # The longest first: one may be a part of another.
        self._forms = sorted(
            ((form.encode(), f"[{name}]".encode()) for form, name in found.items()),
            key=lambda one: -len(one[0]),
        )
        self._rest = b""

    def text(self, text: str) -> str:
        return self._replaced(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def feed(self, data: bytes) -> bytes:
        """What can be written of a stream so far: the beginning of a value at its end waits for the rest."""
        whole = self._replaced(self._rest + data)
        keep = self._begun(whole)
        self._rest = whole[len(whole) - keep :]
        return whole[: len(whole) - keep]

    def end(self) -> bytes:
        rest, self._rest = self._rest, b""
        return rest

    def _replaced(self, data: bytes) -> bytes:
        for form, shown in self._forms:
            data = data.replace(form, shown)
        return data

    def _begun(self, data: bytes) -> int:
        """How many bytes at the end may be the beginning of a value."""
        longest = 0
        for form, _ in self._forms:
            for size in range(min(len(form) - 1, len(data)), longest, -1):
                if data.endswith(form[:size]):
                    longest = size
                    break
        return longest


def _forms(value: str) -> set[str]:
    """A value as it may be written: plain, line by line, in JSON, in a URL."""
    parts = {value, *value.splitlines()}
    spelt = {json.dumps(part, ensure_ascii=ascii)[1:-1] for part in parts for ascii in (True, False)}
    return {form for form in parts | spelt | {quote(part, safe="") for part in parts} if len(form) >= LEAST}


_hidden = Hidden({})


def hide(values: Mapping[str, str]) -> None:
    """From now on shown() leaves these out."""
    global _hidden
    _hidden = Hidden(values)


def shown(text: str) -> str:
    """A text without the values that this process hides."""
    return _hidden.text(text)


def filter_to(path: Path, values: Mapping[str, str]) -> int:
    """A pipe to a process that appends what it gets to a file, without these values; its writing end.

    A process, not a thread: what a trainer says as it dies is its last word. The values go through the pipe, so that
    no command line and no environment has them.
    """
    read, write = os.pipe()
    command = [sys.executable, "-m", "workers.hidden_values", str(path)]
    root = str(Path(__file__).resolve().parents[1])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
    }
    subprocess.Popen(command, stdin=read, close_fds=True, env=environment)
    os.close(read)
    os.write(write, json.dumps(dict(values)).encode() + b"\n")
    return write


def main() -> None:
    """Until the last who writes is gone."""
    source = io.BufferedReader(io.FileIO(0))
    hidden = Hidden(json.loads(source.readline()))
    target = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    while data := source.read1(1 << 16):
        if out := hidden.feed(data):
            os.write(target, out)
    os.write(target, hidden.end())


if __name__ == "__main__":
    main()
