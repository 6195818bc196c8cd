"""Shape: what the rows of a data set hold, fixed by the first one; each row's values, checked against it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jobs.jobfile.trainers.facts import PAIR, PROMPTED
from workers.data.columns import EXTRAS, LABEL, kind_of, no_kind
from workers.data.conversations import check_messages
from workers.input_errors import Bad, type_of

# What the renderer sets itself: a row that sets it too would have two values for one name.
_OURS = ("tools", "chat_template", "messages", "conversation", "add_generation_prompt", "tokenize")
_ONE_SHAPE = "give all rows one shape"


class Shape:
    """kind: the columns that are trained on; chat: whether they hold conversations rather than text."""

    def __init__(self, first: Mapping[str, Any], trainer: str = "sft") -> None:
        kind = kind_of(first, trainer)
        if kind == PROMPTED and isinstance(first["prompt"], str) and isinstance(first["chosen"], list):
            kind = PAIR  # whole conversations, with their beginning once more as text
        if kind is None or (kind == PAIR and trainer == "dpo" and not isinstance(first["chosen"], list)):
            raise no_kind(first, trainer)
        self.kind = kind
        self.chat = kind == ("messages",) or (kind != ("text",) and isinstance(first[kind[0]], list))

    def take(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Just what is trained on. Raises Bad with the column and what is wrong with its value."""
        taken: dict[str, Any] = {}
        for column in self.kind:
            value = row.get(column)
            if column == LABEL:
                taken[column] = _label(value, column in row)
            elif self.chat:
                taken[column] = self._messages(column, value, column in row)
            elif type(value) is str:
                taken[column] = value
            else:
                raise _not_text(column, value, column in row)
        if self.chat:
            for column in EXTRAS:
                if row.get(column) is not None:
                    taken[column] = _tools(row) if column == "tools" else _template_values(row[column])
        return taken

    def _messages(self, column: str, value: Any, there: bool) -> list[dict[str, Any]]:
        if isinstance(value, list):
            check_messages(column, value)
            return value
        if value is None:
            raise _absent(column, there)
        if isinstance(value, str) and column != "messages":
            raise Bad(f"{column} is text, where the first row has a list of messages", _ONE_SHAPE)
        fix = "use a .jsonl file, where a row can hold a list" if isinstance(value, str) else ""
        raise Bad(f"{column} is not a list of messages but {type_of(value)}", fix)


def _not_text(column: str, value: Any, there: bool) -> Bad:
    if value is None:
        return _absent(column, there)
    if isinstance(value, list) and column != "text":
        return Bad(f"{column} is a list, where the first row has text", _ONE_SHAPE)
    fix = 'write it in quotes, such as "true"' if isinstance(value, bool) else "write it as text, in quotes"
    return Bad(f"{column} is not text but {type_of(value)}", fix)


def _label(value: Any, there: bool) -> bool:
    if value is True or value is False:
        return value
    if value is None:
        said = "null" if there else "missing"
        raise Bad(f"{LABEL} is {said}", "give it true for a good completion, false for a bad one")
    raise Bad(f"{LABEL} is not true or false but {type_of(value)}", "write true or false, without quotes")


def _absent(column: str, there: bool) -> Bad:
    fix = 'give it text, "" for none, or remove the row'
    return Bad(f"{column} is null" if there else f"{column} is missing", fix)


def _tools(row: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    given = row["tools"]
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            raise Bad("tools is text that is no JSON", "give a list of JSON schemas") from None
    if given is None or (isinstance(given, list) and all(isinstance(tool, dict) for tool in given)):
        return given
    raise Bad(f"tools is not a list of objects but {type_of(given)}", "give a list of JSON schemas")


def _template_values(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise Bad(
            f"chat_template_kwargs is not an object but {type_of(given)}",
            'such as {"enable_thinking": false}',
        )
    if taken := next((name for name in _OURS if name in given), None):
        raise Bad(f"chat_template_kwargs has {taken}, which is set already", f"remove {taken} from it")
    return given
