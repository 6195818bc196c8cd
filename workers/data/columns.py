"""Which columns of the data are trained on, and what to rename where they are not there."""

from __future__ import annotations

from collections.abc import Collection

from jobs.jobfile.trainers.facts import TRAINERS, suited
from workers.input_errors import Bad

KINDS = TRAINERS["sft"].columns
LABEL = "label"  # the column that holds true or false
EXTRAS = ("tools", "chat_template_kwargs")
WANTED = "it needs prompt and completion, or messages, or text"
_OF_SFT = "sft"

# Names that other programs give to a prompt and its answer.
_PAIRS = (
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("input", "output"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("prompt", "output"),
    ("prompt", "chosen"),
    ("source", "target"),
)
_LISTS = ("conversations", "conversation", "dialogue", "dialog", "chat", "chosen")
_TEXTS = ("content", "document", "body", "raw_content")
_FROM_VALUE = "from to role (human becomes user, gpt becomes assistant) and value to content"


def kind_of(columns: Collection[str], trainer: str = _OF_SFT) -> tuple[str, ...] | None:
    """The columns that will be trained on: the first of the trainer's kinds that is there whole."""
    return next((kind for kind in TRAINERS[trainer].columns if set(kind) <= set(columns)), None)


def wanted(trainer: str) -> str:
    """What rows need to have."""
    if trainer == _OF_SFT:
        return WANTED
    kinds = [f"{', '.join(kind[:-1])} and {kind[-1]}" for kind in TRAINERS[trainer].columns]
    return f"trainer: {trainer} needs {', or '.join(kinds)}"


def no_kind(columns: Collection[str], trainer: str = _OF_SFT) -> Bad:
    """Data without the columns of any kind: what is there, whom it suits, and what to rename."""
    there = ", ".join(str(column) for column in columns) or "none"
    others = [name for name in suited(tuple(columns)) if name != trainer]
    fix = f"{wanted(trainer)}{_rename(columns) if trainer == _OF_SFT else ''}"
    if others:
        fix += f"; rows like these suit trainer: {' or '.join(others)}"
    return Bad(f"has none of the expected columns; it has: {there}", fix)


def rename_turns(message: Collection[str]) -> str:
    """What to rename in a message of another format; empty where that is not known."""
    return f"rename {_FROM_VALUE}" if {"from", "value"} <= set(message) else ""


def _rename(columns: Collection[str]) -> str:
    if found := next((name for name in _LISTS if name in columns), None):
        return f": rename {found} to messages, and in it {_FROM_VALUE} if it has those"
    if pair := next((pair for pair in _PAIRS if set(pair) <= set(columns)), None):
        names = [f"{old} to {new}" for old, new in zip(pair, KINDS[0], strict=True) if old != new]
        more = (
            ", with input appended to the prompt" if pair[0] == "instruction" and "input" in columns else ""
        )
        return f": rename {' and '.join(names)}{more}"
    if found := next((name for name in _TEXTS if name in columns), None):
        return f": rename {found} to text"
    if list(columns) == ["data"] or list(columns) == ["rows"]:
        return ": write the list of rows alone, without the object around it"
    return ""
