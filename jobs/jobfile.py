"""The text of a job file -> the mapping in it. Safe YAML: no tags, no aliases, bounded in size and depth."""

from __future__ import annotations

import re
from typing import Any

import yaml

from jobs.errors import Fault, SpecError

MAX_FILE_BYTES = 256 * 1024
NO_JOB = "`tuneyard init` writes one to begin from; model and data are required"


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases (an alias bomb is small in bytes and huge in memory) and duplicate keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(
                None, None, "aliases (*name) are not allowed here", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (dict, list)):
                continue
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# The core schema of YAML 1.2. YAML 1.1 reads `off` as False, `2e-4` as text, 010 as 8, 1:30 as 90; 2024-01-01
# as a date. None of that is what people mean.
_CORE = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("null", r"~|null|Null|NULL|", "~nN"),
)
_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in _CORE:
    letters = [*_first, ""] if _name == "null" else list(_first)
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), letters)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


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
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "file"
        why = ", ".join(part for part in (error.context, error.problem) if part)
        raise SpecError([Fault(where, "", f"not readable as YAML: {why}")], source) from None
    except RecursionError:
        raise SpecError(
            [Fault("file", "", "not readable as YAML: it is nested too deeply")], source
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise SpecError([Fault("file", "", f"not readable as YAML: {why}")], source) from None
    if not isinstance(value, dict):
        given = "nothing" if value is None else type(value).__name__
        raise SpecError([Fault("file", given, "is not a mapping of keys", empty)], source)
    return value
