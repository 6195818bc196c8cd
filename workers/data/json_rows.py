"""Rows of JSON files: one row a line, or one list of rows; text and numbers as they are written."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from workers.data.columns import EXTRAS, kind_of
from workers.data.layout import PLAIN, Layout
from workers.input_errors import Bad, type_of

Row = dict[str, Any]

_HEAD = 4096  # bytes that tell a list from lines
_BLANK = b" \t\n\r"  # JSON's own
BLOCK = 1 << 20  # characters of a list that are read at a time
# Letters that are written as escapes, so that a key can be spelt two ways.
_ESCAPED_ASCII = re.compile(r"\\u00[2-7]")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"[ \t\n\r]*")
# What the decoder says where text is cut off within: it points at the beginning of the string.
_OPEN_STRING = "Unterminated string"
_LONGEST_WORD = 16
_MOST_DIGITS = 4000  # Python reads 4,300
_WRAPPED = re.compile(r'\s*\{\s*"([^"\\]+)"\s*:\s*\[')
_decode = json.JSONDecoder().decode
_scan = json.JSONDecoder().raw_decode


class _Number(str):
    """A number, as it is written."""


class _Pairs(list[tuple[str, Any]]):
    """An object, as it is written."""


_scan_exact = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number).raw_decode


class _Parser:
    """Objects -> rows. The columns that count are those of the first."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._kind: tuple[str, ...] = ()
        self._used: frozenset[str] = frozenset()
        self._once: tuple[str, ...] = ()

    def row(self, value: Any) -> Row:
        """A parsed value that is an object; the first says which columns count."""
        if not isinstance(value, dict):
            raise Bad(f"is not a JSON object but {type_of(value)}", "write one object a row")
        if not self._kind:
            self._kind = self._layout.kind(value) or ()
            extras = self._layout.extras
            self._used = frozenset((*self._kind, *extras)) if self._kind else frozenset()
            self._once = tuple(f'"{column}"' for column in (*self._kind, *extras))
        return value

    def checked(self, value: Any, text: str) -> Row:
        """row(), parsed again with care where the quick parse may have lost something."""
        row = self.row(value)
        if self._in_doubt(row, text):
            row = self.exact(text)
        if "\\" in text and _SURROGATE.search(text):
            self._check_characters(row)
        return row

    def exact(self, text: str) -> Row:
        """The row with numbers of the trained columns as written. Raises Bad for a key that stands twice."""
        pairs, _ = _scan_exact(text, _SPACE.match(text).end())  # type: ignore[union-attr]
        if not isinstance(pairs, _Pairs):
            raise Bad(f"is not a JSON object but {type_of(pairs)}", "write one object a row")
        self.row(dict(pairs))
        row: Row = {}
        for key, value in pairs:
            if key not in self._used:
                row[key] = None  # nobody reads it
                continue
            if key in row:
                raise Bad(f"has {key} twice", "remove one of them")
            row[key] = str(value) if isinstance(value, _Number) else _plain(key, value)
        return row

    def _in_doubt(self, row: Row, text: str) -> bool:
        for column in self._kind:
            value = row.get(column)
            if type(value) not in (str, bool) and (value is not None or column in row):
                if not isinstance(value, list):
                    return True
                if text.count('"role"') != len(value) or '"tool_calls"' in text or '"tools"' in text:
                    return True
                if text.count('"content"') != len(value) or "chat_template_kwargs" in text:
                    return True
        if any(text.count(name) > 1 for name in self._once):
            return True
        return "\\u00" in text and _ESCAPED_ASCII.search(text) is not None

    def _check_characters(self, row: Row) -> None:
        for column in self._used & row.keys():
            try:
                json.dumps(row[column], ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                half = f"\\u{ord(error.object[error.start]):04x}"
                problem = f"{column} has {half}, half of a pair, which is no character"
                raise Bad(problem, "write the whole pair, or leave it out") from None


def json_lines(file: IO[bytes], layout: Layout = PLAIN) -> Iterator[tuple[int, Row]]:
    """Line number and row of each line that is not blank."""
    parser = _Parser(layout)
    number = 0
    for number, line in enumerate(file, 1):
        if number == 1 and line.startswith(b"\xef\xbb\xbf"):
            line = line[3:]
        if line.isspace() or not line:
            continue
        try:
            text = line.decode()
            try:
                value = _decode(text)
            except json.JSONDecodeError:
                raise
            except ValueError:  # a number of more digits than Python takes; nobody may need it
                row = parser.exact(text)
            else:
                row = parser.checked(value, text)
        except json.JSONDecodeError as error:
            raise _no_json(number, error, text) from None
        except UnicodeDecodeError as error:
            raise Bad(f"line {number} is not UTF-8: {error.reason}", "save it as UTF-8") from None
        except RecursionError:
            raise Bad(f"line {number} is nested too deep") from None
        except Bad as bad:
            raise _of(f"line {number}", bad) from None
        yield number, row


def _of(where: str, bad: Bad) -> Bad:
    return bad.at(where) if ": " in bad.problem else Bad(f"{where} {bad.problem}", bad.fix)


def _no_json(number: int, error: json.JSONDecodeError, text: str) -> Bad:
    fix = "write one row a line, or a list of rows in a .json file" if number == 1 else ""
    return Bad(f"line {number} is not JSON: {error.msg} at column {error.colno}", fix)


def is_list(file: IO[bytes]) -> bool:
    """Whether a .json file holds one list of rows. Raises Bad where the list is wrapped in an object."""
    head = file.read(_HEAD).removeprefix(b"\xef\xbb\xbf")
    while not (head := head.lstrip(_BLANK)) and (more := file.read(_HEAD)):  # however far blanks go
        head = more
    head += file.read(_HEAD - len(head)) if len(head) < _HEAD else b""
    file.seek(0)
    if wrapped := _WRAPPED.match(head.decode(errors="replace")):
        name = wrapped[1]
        if kind_of([name]) is None and name not in EXTRAS and b"\n" in head.strip()[:64]:
            problem = f"is one object with a list under {name}, not a list of rows"
            raise Bad(problem, "write the list alone, without the object around it")
    return head[:1] == b"["


def json_list(file: IO[bytes], layout: Layout = PLAIN) -> Iterator[tuple[int, Row]]:
    """Row number and row of each object of one list; never more than a few of them in memory."""
    text = _Text(file)
    parser = _Parser(layout)
    text.skip("[")
    if text.peek() == "]":
        return
    number = 0
    while True:
        number += 1
        text.space()
        try:
            yield number, text.row(parser)
        except RecursionError:
            raise Bad(f"row {number} is nested too deep") from None
        except UnicodeDecodeError as error:
            raise Bad(f"is not UTF-8 in row {number}: {error.reason}", "save it as UTF-8") from None
        except Bad as bad:
            if bad.problem.startswith("is not JSON"):
                raise
            raise _of(f"row {number}", bad) from None
        following = text.peek()
        text.skip("]" if following == "]" else ",")
        if following == "]":
            if text.peek():
                raise text.wrong("Extra data")
            return


class _Text:
    """The text of a file, a block at a time."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = codecs.getreader("utf-8-sig")(file)
        self._text, self._at, self._lines, self._column = "", 0, 0, 0
        self._more = True

    def row(self, parser: _Parser) -> Row:
        while True:
            try:
                return self._row(parser)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith(_OPEN_STRING) or error.pos >= len(self._text) - _LONGEST_WORD
                if not (cut and self._more):
                    raise self.wrong(error.msg, error.pos) from None
                self._read()

    def _row(self, parser: _Parser) -> Row:
        start = self._at
        try:
            value, end = _scan(self._text, start)
        except json.JSONDecodeError:
            raise
        except ValueError:
            value, end = _scan_exact(self._text, start)
            row = parser.exact(self._text[start:end])
        else:
            row = parser.checked(value, self._text[start:end])
        self._at = end
        return row

    def space(self) -> None:
        """Go past white space."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._read():
                return

    def peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        self.space()
        return self._text[self._at : self._at + 1]

    def skip(self, character: str) -> None:
        if self.peek() != character:
            raise self.wrong(f"Expecting '{character}'")
        self._at += 1

    def wrong(self, what: str, at: int | None = None) -> Bad:
        before = self._text[: self._at if at is None else at]
        line = self._lines + before.count("\n") + 1
        last = before.rfind("\n")
        column = len(before) - last if last >= 0 else self._column + len(before) + 1
        return Bad(f"is not JSON: line {line}, column {column}: {what}")

    def _read(self) -> bool:
        """More text, in place of what was used; as much again where a row is longer than a block."""
        if not self._more:
            return False
        used, self._text = self._text[: self._at], self._text[self._at :]
        self._lines += used.count("\n")
        last = used.rfind("\n")
        self._column = len(used) - last - 1 if last >= 0 else self._column + len(used)
        self._at = 0
        block = self._file.read(max(BLOCK, len(self._text)))
        self._text += block
        self._more = bool(block)
        return self._more


def _plain(column: str, value: Any) -> Any:
    """A value that was parsed exactly, as plain data. Raises Bad for a key that stands twice in an object."""
    if isinstance(value, _Number):
        if set(value) & set(".eE"):
            return float(value)
        if len(value) > _MOST_DIGITS:
            raise Bad(f"{column}: a number has {len(value):,} digits", "write it in quotes")
        return int(value)
    if isinstance(value, _Pairs):
        made: Row = {}
        for key, inner in value:
            if key in made:
                raise Bad(f"{column}: an object has {key} twice", "remove one of them")
            made[key] = _plain(column, inner)
        return made
    return [_plain(column, inner) for inner in value] if isinstance(value, list) else value
