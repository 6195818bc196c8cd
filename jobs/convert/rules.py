"""What a key of another tool can come to, and the table that says so for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.convert.draft import Draft, NotHonoured


def same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class To:
    """A key of the job file. via: its value there; raises NotHonoured for one that has no counterpart."""

    path: str
    via: Callable[[Any], Any] = same


@dataclass(frozen=True)
class Left:
    """tuneyard decides it, or does it anyway."""

    reason: str


@dataclass(frozen=True)
class Not:
    """Not honoured. neutral: values that ask for nothing, or for what tuneyard does anyway."""

    reason: str
    neutral: tuple[Any, ...] = (False, "", 0)


Rule = To | Left | Not
Table = Mapping[str, Rule]

UNKNOWN = "tuneyard has nothing like it"
_EMPTY: tuple[Any, ...] = ("", [], {})


def apply(table: Table, draft: Draft) -> None:
    """Account for every key that is still open."""
    for key in draft.open:
        value = draft.values[key]
        if value is None or any(value == empty and type(value) is type(empty) for empty in _EMPTY):
            draft._account(key, "empty", reason="has no value")
            continue
        rule = table.get(key, Not(UNKNOWN, neutral=()))
        match rule:
            case To(path, via):
                try:
                    draft.map(key, path, via(value))
                except NotHonoured as error:
                    draft.unmet(key, str(error))
            case Left(reason):
                draft.leave(key, reason)
            case Not(reason, neutral):
                if any(value == one and type(value) is type(one) for one in neutral):
                    draft.leave(key, "asks for nothing that tuneyard does not do anyway")
                else:
                    draft.unmet(key, reason)
