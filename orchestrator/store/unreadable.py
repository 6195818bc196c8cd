"""Rows that this version can't read: an answer is made without them, and names them; elsewhere they raise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

import sqlalchemy as sa

from jobs.errors import TuneyardError
from orchestrator.store.engine.text import is_text
from orchestrator.store.schema.column_types import Garbled, Json, Unreadable

T = TypeVar("T")
R = TypeVar("R")
Key = int | str

# What a value of a column is read as. Boolean comes first: it is no Integer to SQLAlchemy, and an int to Python.
_KINDS: tuple[tuple[type[Any], tuple[type[Any], ...], str], ...] = (
    (sa.Boolean, (bool,), "neither true nor false"),
    (sa.Integer, (int,), "no whole number"),
    (sa.Double, (float, int), "no number"),
    (sa.Text, (str,), "no text"),
)


@dataclass(frozen=True)
class LeftOut:
    """A row that is not in an answer. kind: job, attempt, host and so on; key: its id, or what else names it."""

    kind: str
    key: Key
    why: str

    def __str__(self) -> str:
        return f"{self.kind} {self.key} can't be read by this version: {self.why}"


Noted = dict[tuple[str, Key], LeftOut]
_noted: ContextVar[Noted | None] = ContextVar("left_out", default=None)


@contextmanager
def leaving_out() -> Iterator[Noted]:
    """In this context, rows that can't be read are left out and noted. Never where something is decided."""
    noted: Noted = {}
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def each(kind: str, found: Iterable[T], key: Callable[[T], Key], make: Callable[[T], R]) -> list[R]:
    """make() of each. One for which that raises is left out and noted, or raises where nobody leaves out.

    Other errors than those of a record, such as Unavailable, are raised as they are.
    """
    noted = _noted.get()
    if noted is None:
        return [make(one) for one in found]
    made = []
    for one in found:
        try:
            made.append(make(one))
        except Exception as error:  # whatever a record of another version makes of itself
            if isinstance(error, TuneyardError) and not isinstance(error, Garbled):
                raise
            named = key(one)
            if not isinstance(named, Key) or (isinstance(named, str) and not is_text(named)):
                named = repr(named)
            noted.setdefault((kind, named), LeftOut(kind, named, _said(error)))
    return made


def rows(
    kind: str,
    found: Iterable[Any],
    table: sa.Table,
    key: Callable[[Any], Key],
    make: Callable[[Any], R],
) -> list[R]:
    """each() of rows that have the columns of table. Where rows are left out, so are those with a wrong value."""
    if _noted.get() is None:
        return [make(row) for row in found]

    def checked(row: Any) -> R:
        check(row, table)
        return make(row)

    return each(kind, found, key, checked)


def checked(kind: str, found: Sequence[R], table: sa.Table, key: Callable[[Any], Key]) -> list[R]:
    """The rows themselves, which have the columns of table, without those that have a wrong value where rows are left
    out. By column: of thousands of good rows it takes a fraction of the time that rows() does.
    """
    if _noted.get() is None or all_good(found, table):
        return [*found]
    return rows(kind, found, table, key, lambda row: row)


def all_good(found: Sequence[Any], table: sa.Table) -> bool:
    """Whether check() passes each of these rows of one kind: by column, which takes a tenth of the time."""
    if not found:
        return True
    get, wanted = _columns(table, *_names(found[0]))
    for values, (_, kinds, _, nullable) in zip(zip(*map(get, found), strict=True), wanted, strict=True):
        for kind in {*map(type, values)}:
            if kind is type(None):
                good = nullable
            elif kind is bool:
                good = kinds[0] is bool
            else:
                good = issubclass(kind, kinds) and kind is not Unreadable
            if not good:
                return False
        if kinds[0] is str and not all(is_text(value) for value in values if value is not None):
            return False
    return True


@contextmanager
def one(kind: str, key: Key) -> Iterator[None]:
    """What is made of one record. Raises Garbled with its name for whatever that raises."""
    try:
        yield
    except Exception as error:  # as in each()
        if isinstance(error, TuneyardError) and not isinstance(error, Garbled):
            raise
        raise Garbled(str(LeftOut(kind, key, _said(error)))) from error


def check(row: Any, table: sa.Table) -> None:
    """Raises Garbled where a value is not of its column's type, as SQLite allows. row: has columns as attributes."""
    get, wanted = _columns(table, *_names(row))
    for value, (name, kinds, problem, nullable) in zip(get(row), wanted, strict=True):
        if isinstance(value, Unreadable):
            raise Garbled(f"{name}: {value.why}")
        if value is None:
            if not nullable:
                raise Garbled(f"{name} is missing")
        elif not isinstance(value, kinds) or (kinds[0] is not bool and value.__class__ is bool):
            raise Garbled(f"{name} is {str(value)[:60]!r}, {problem}")
        elif kinds[0] is str and not is_text(value):
            raise Garbled(f"{name} is {value[:60]!r}, no UTF-8 text")


def _names(row: Any) -> tuple[str, ...]:
    return row._fields if isinstance(row, sa.Row) else tuple(row.__dataclass_fields__)


@cache
def _columns(
    table: sa.Table, *has: str
) -> tuple[Callable[[Any], Any], list[tuple[str, tuple[type[Any], ...], str, bool]]]:
    """What gets the columns of table that a row has, and what each must be."""
    mine = [column for column in table.columns if column.name in has and not isinstance(column.type, Json)]
    named = [(column.name, *_kind(column), bool(column.nullable)) for column in mine]
    # JSON may be read on: only what is none is wrong.
    named += [
        (column.name, (object,), "", True)
        for column in table.columns
        if column.name in has and isinstance(column.type, Json)
    ]
    names = [name for name, *_ in named]
    if len(names) == 1:
        (name,) = names
        return lambda row: (getattr(row, name),), named
    return attrgetter(*names), named


def _kind(column: sa.Column[Any]) -> tuple[tuple[type[Any], ...], str]:
    kind = column.type.impl if isinstance(column.type, sa.types.TypeDecorator) else column.type
    return next((kinds, problem) for known, kinds, problem in _KINDS if isinstance(kind, known))


def _said(error: Exception) -> str:
    if isinstance(error, Garbled):
        return str(error)
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
