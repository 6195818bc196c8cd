"""Layout: which columns of a file are read, and what they are to us: names of its own, rows of other programs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.jobfile.options.columns import FORMATS
from jobs.jobfile.sections.data import DataSpec
from workers.data.columns import EXTRAS, kind_of, no_kind
from workers.input_errors import Bad, type_of

Row = dict[str, Any]

_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "observation": "tool",
    "function_response": "tool",
}


@dataclass(frozen=True)
class Layout:
    """trainer: that the rows are for; names: (ours, the file's) of columns that it names otherwise; format: of
    jobs.jobfile.options.columns."""

    trainer: str = "sft"
    names: tuple[tuple[str, str], ...] = ()
    format: str | None = None

    @classmethod
    def of(cls, data: DataSpec, trainer: str) -> Layout:
        return cls(trainer, tuple(data.columns.items()), data.format)

    @property
    def plain(self) -> bool:
        """Whether rows are taken as they are."""
        return not self.names and self.format is None

    @property
    def extras(self) -> tuple[str, ...]:
        """Columns of the file that rows may have beside those of kind()."""
        ours = EXTRAS if self.format is None else FORMATS[self.format][1]
        return tuple(self._theirs(name) for name in ours)

    def kind(self, columns: Collection[str]) -> tuple[str, ...] | None:
        """The columns of the file that rows need; None where it lacks them."""
        if self.format is not None:
            needed = tuple(self._theirs(name) for name in FORMATS[self.format][0])
            return needed if set(needed) <= set(columns) else None
        if not self.names:
            return kind_of(columns, self.trainer)
        found = kind_of([self.ours(name) for name in columns], self.trainer)
        return None if found is None else tuple(self._theirs(name) for name in found)

    def no_kind(self, columns: Collection[str]) -> Bad:
        """What to say of a file without them."""
        there = ", ".join(map(str, columns)) or "none"
        if missing := [theirs for _, theirs in self.names if theirs not in columns]:
            return Bad(f"has no column {missing[0]}; it has: {there}", "change that name in data.columns")
        if self.format is not None:
            needed = " and ".join(self._theirs(name) for name in FORMATS[self.format][0])
            fix = f"data.format {self.format} needs {needed}: name them in data.columns, or leave format out"
            return Bad(f"has none of the expected columns; it has: {there}", fix)
        return no_kind([self.ours(name) for name in columns], self.trainer)

    def ours(self, name: str) -> str:
        """Our name of a column of the file; what it calls so itself gives way to a column that is mapped to it."""
        for mine, theirs in self.names:
            if theirs == name:
                return mine
        return f"({name} of the file)" if any(mine == name for mine, _ in self.names) else name

    def convert(self, row: Mapping[str, Any]) -> Row:
        """A row of the file as one of ours. Raises Bad."""
        made = {self.ours(name): value for name, value in row.items()}
        if self.format == "alpaca":
            return _alpaca(made)
        return _sharegpt(made) if self.format == "sharegpt" else made

    def _theirs(self, name: str) -> str:
        return next((theirs for mine, theirs in self.names if mine == name), name)


PLAIN = Layout()


def _alpaca(row: Row) -> Row:
    """A conversation: system, history, the instruction with its input; the output is the completion."""
    turns = _system(row)
    history = row.get("history") or []
    if not isinstance(history, list) or not all(isinstance(one, list) and len(one) == 2 for one in history):
        raise Bad("history is no list of pairs", "give [[question, answer], ...], or leave it out")
    for question, answer in history:
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    asked = _text(row, "instruction")
    if row.get("input"):
        asked = f"{asked}\n{_text(row, 'input')}"
    answer = [{"role": "assistant", "content": _text(row, "output")}]
    return {"prompt": [*turns, {"role": "user", "content": asked}], "completion": answer}


def _sharegpt(row: Row) -> Row:
    """Messages of turns with from and value."""
    given = row.get("conversations")
    if not isinstance(given, list):
        raise Bad(
            f"conversations is not a list of turns but {type_of(given)}", "give a list of {from, value}"
        )
    turns = _system(row)
    for number, turn in enumerate(given, 1):
        if not isinstance(turn, dict) or not isinstance(turn.get("from"), str) or "value" not in turn:
            raise Bad(
                f"conversations: turn {number} has no from and value", "such as {from: human, value: Hello}"
            )
        turns.append({"role": _ROLES.get(turn["from"], turn["from"]), "content": turn["value"]})
    if any(turn["role"] == "function_call" for turn in turns):
        raise Bad("conversations has a function_call", "write it as messages with tool_calls")
    return {"messages": turns, **({"tools": row["tools"]} if row.get("tools") else {})}


def _system(row: Row) -> list[dict[str, Any]]:
    return [{"role": "system", "content": _text(row, "system")}] if row.get("system") else []


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        raise Bad(f"{column} is not text but {type_of(value)}", "write it as text, in quotes")
    return value
