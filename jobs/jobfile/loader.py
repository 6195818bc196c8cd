"""The text of a job file -> the mapping in it. Safe YAML: no tags, no aliases, bounded in size, values and depth."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import yaml
from yaml._yaml import CParser  # libyaml: a hundred times as fast as the Python of the same library

from jobs.errors import Fault, SpecError

MAX_FILE_BYTES = 256 * 1024
MAX_VALUES = 20_000  # keys, values and containers of a file; some 0.1 s
MAX_DEPTH = 64
NO_JOB = "`tuneyard init` writes one to begin from; model and data are required"

_TAG = "tag:yaml.org,2002:"
# The core schema of YAML 1.2. YAML 1.1 reads `off` as False, `2e-4` as text, 010 as 8, 1:30 as 90; 2024-01-01
# as a date. None of that is what people mean.
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")
_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_KINDS: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None)}
_NULLS = ("", "~", "null", "Null", "NULL")
_MAYBE_NUMBER = frozenset("-+.0123456789")


def parse_yaml(
    text: str, source: str = "job", what: str = "a job file", empty: str = NO_JOB
) -> dict[str, Any]:
    """The mapping in a job file. Raises SpecError, with the line where it is not readable.

    what: it is, where it is no job file; empty: what to say of a file without a mapping.
    """
    size = len(text.encode("utf-8", errors="replace"))
    if size > MAX_FILE_BYTES:
        fix = f"{what} has at most {MAX_FILE_BYTES} bytes"
        raise SpecError([Fault("file", f"{size} bytes", "is too large", fix)], source)
    try:
        value = _load(text)
    except yaml.MarkedYAMLError as error:
        why = ", ".join(part for part in (error.context, error.problem) if part)
        where = _place(error.problem_mark or error.context_mark, text)
        raise SpecError([Fault(where, "", f"not readable as YAML: {why}")], source) from None
    except (yaml.YAMLError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise SpecError([Fault("file", "", f"not readable as YAML: {why}")], source) from None
    if not isinstance(value, dict):
        given = "nothing" if value is None else type(value).__name__
        raise SpecError([Fault("file", given, "is not a mapping of keys", empty)], source)
    return value


def _place(mark: Any, text: str) -> str:
    if mark is None:
        return "file"
    lines = text.split("\n")
    if mark.line >= len(lines):  # libyaml's end of a text is the line after it
        return f"line {len(lines)}, column {len(lines[-1]) + 1}"
    return f"line {mark.line + 1}, column {mark.column + 1}"


class _Level:
    """A mapping or a sequence that is being read. key: the mapping's key that waits for its value."""

    __slots__ = ("add", "key", "made", "waits")

    def __init__(self, made: dict[Any, Any] | list[Any]) -> None:
        self.made = made
        self.add: Callable[[Any], None] | None = made.append if isinstance(made, list) else None
        self.key: Any = None
        self.waits = False

    def put(self, value: Any, event: Any) -> None:
        if self.add is not None:
            self.add(value)
        elif self.waits:
            self.made[self.key] = value
            self.waits = False
        else:
            if isinstance(value, (dict, list)):
                raise _fault("found unhashable key", event, "while constructing a mapping")
            if value in self.made:
                raise _fault(f"the key {value!r} stands twice", event)
            self.key, self.waits = value, True


def _load(text: str) -> Any:
    """The value of the one document in a text: from libyaml's events, for its own way to nodes recurses in C."""
    parser = CParser(text)
    try:
        return _document(parser)
    finally:
        parser.dispose()


def _document(parser: Any) -> Any:
    levels = [_Level([])]  # the document's value is its first entry
    count, anchors = 0, set[str]()
    while (event := parser.get_event()) is not None:
        kind = type(event)
        if (anchor := getattr(event, "anchor", None)) is not None and kind is not yaml.AliasEvent:
            if anchor in anchors:
                raise _fault(f"the anchor &{anchor} stands twice", event)
            anchors.add(anchor)
        if kind is yaml.ScalarEvent:
            levels[-1].put(_scalar(event), event)
        elif kind in (yaml.MappingStartEvent, yaml.SequenceStartEvent):
            made: dict[Any, Any] | list[Any] = {} if kind is yaml.MappingStartEvent else []
            if event.tag not in (None, "!", f"{_TAG}{'map' if isinstance(made, dict) else 'seq'}"):
                raise _no_tag(event)
            if len(levels) > MAX_DEPTH:
                raise _fault(f"nested too deeply: more than {MAX_DEPTH} levels", event)
            levels[-1].put(made, event)
            levels.append(_Level(made))
        elif kind in (yaml.MappingEndEvent, yaml.SequenceEndEvent):
            levels.pop()
        elif kind is yaml.AliasEvent:
            raise _fault("aliases (*name) are not allowed here", event)
        elif kind is yaml.DocumentStartEvent and levels[0].made:
            problem = "but found another document"
            raise _fault(problem, event, "expected a single document in the stream")
        count += 1
        if count > MAX_VALUES:
            raise _fault(f"more than {MAX_VALUES:,} values", event)
    return levels[0].made[0] if levels[0].made else None


def _scalar(event: Any) -> Any:
    value: str = event.value
    tag: str | None = event.tag
    if tag is None or tag == "!":
        return _plain(value) if event.implicit[0] else value
    kind = _KINDS.get(tag.removeprefix(_TAG)) if tag.startswith(_TAG) else None
    if kind is None:
        raise _no_tag(event)
    if kind is str:
        return value
    found = _plain(value)
    if kind is float and type(found) is int:
        return float(found)
    if type(found) is not kind:
        raise _fault(f"{value!r} is no {tag.removeprefix(_TAG)}", event)
    return found


def _plain(value: str) -> Any:
    """What a scalar without quotes means."""
    if value in _NULLS:
        return None
    if value[0] in _MAYBE_NUMBER:
        if _INT.fullmatch(value):
            return int(value)
        if _FLOAT.fullmatch(value):
            return float(value)
        if found := _NOT_FINITE.fullmatch(value):
            return float(found[1] + found[2])
        return value
    return _WORDS.get(value, value)


def _fault(problem: str, event: Any, context: str | None = None) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(context, None, problem, event.start_mark)


def _no_tag(event: Any) -> yaml.MarkedYAMLError:
    return _fault(f"could not determine a constructor for the tag {event.tag!r}", event)
