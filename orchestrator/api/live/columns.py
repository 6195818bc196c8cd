"""Tables by column, and what changed between two states of them.

A state is a mapping. A member that is a mapping with a list under `id` is a table: equally long lists by the name of
their column, one of which is `id`. What else a state has is compared as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

State = Mapping[str, Any]
# From so many changed values on, a column is sent whole: places and values would take more.
MOST_CHANGED = 0.5


def is_table(value: Any) -> bool:
    """Whether a member of a state is a table."""
    return isinstance(value, Mapping) and isinstance(value.get("id"), list)


def changes(before: State, after: State) -> dict[str, Any]:
    """What of a state is not as it was; {} where nothing changed.

    A table with the same rows in the same order: {"set": {column: {"at": places, "to": values} or {"all": values}}}.
    One with other rows, and whatever is no table: {"all": it}.
    """
    found: dict[str, Any] = {}
    for name, value in after.items():
        old = before.get(name)
        if value == old:
            continue
        if (
            old is not None
            and is_table(value)
            and is_table(old)
            and value["id"] == old["id"]
            and value.keys() == old.keys()
        ):
            found[name] = {
                "set": {column: _column(old[column], value[column]) for column in _other(old, value)}
            }
        else:
            found[name] = {"all": value}
    return found


def apply(state: State, changed: Mapping[str, Any]) -> dict[str, Any]:
    """The state after changes(): as a client works it out."""
    made = dict(state)
    for name, change in changed.items():
        if "all" in change:
            made[name] = change["all"]
            continue
        table = dict(made[name])
        for column, one in change["set"].items():
            if "all" in one:
                table[column] = one["all"]
                continue
            values = [*table[column]]
            for place, value in zip(one["at"], one["to"], strict=True):
                values[place] = value
            table[column] = values
        made[name] = table
    return made


def _other(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [column for column, values in after.items() if values != before[column]]


def _column(before: list[Any], after: list[Any]) -> dict[str, Any]:
    at = [place for place, value in enumerate(after) if value != before[place]]
    if len(at) > MOST_CHANGED * len(after):
        return {"all": after}
    return {"at": at, "to": [after[place] for place in at]}
