"""JSON and text as columns hold them, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pydantic_core
import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from jobs.errors import TuneyardError
from orchestrator.store.engine.text import is_text

_encode = json.JSONEncoder(separators=(",", ":"), sort_keys=True, allow_nan=False).encode


def _finite(value: Any) -> Any:
    """value without what JSON has no word for: NaN and the infinities become None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def to_json(value: Any) -> str:
    """value as compact JSON with sorted keys, so that equal values are equal texts."""
    try:
        return _encode(value)
    except ValueError:
        return _encode(_finite(value))


def quick_json(value: Any) -> str:
    """value as compact JSON in the order of its keys, at a fraction of to_json's cost."""
    try:
        return pydantic_core.to_json(value, inf_nan_mode="null").decode()
    except pydantic_core.PydanticSerializationError:  # half of a surrogate pair, which is no text
        return to_json(value)


def clean_text(text: str) -> str:
    """text without NUL, which PostgreSQL can't hold; SUBSTITUTE in its place keeps the length in bytes."""
    return text.replace("\0", "\x1a") if "\0" in text else text


class Garbled(TuneyardError, ValueError):
    """A stored value is not what it must be."""


class Unreadable:
    """In place of a stored value that is no JSON: reading it raises Garbled."""

    def __init__(self, why: str) -> None:
        self.why = why

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise Garbled(self.why)

    __getitem__ = __iter__ = __len__ = __contains__ = _refuse
    get = keys = items = values = _refuse


class Json(TypeDecorator[Any]):
    """A JSON value in a text column: the same bytes on both databases, and NaN on neither."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else to_json(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        if value is None:
            return None
        try:
            if not is_text(value):
                return Unreadable(f"a stored value is no UTF-8 text: {value[:60]!r}")
            return json.loads(value)
        except (ValueError, AttributeError) as error:  # one row must not keep all others from being read
            return Unreadable(f"a stored value is no JSON ({error}): {value[:60]!r}")


class Flag(sa.Boolean):
    """True or false. What SQLite has that is neither is read as it is: to SQLAlchemy every text is true."""

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[Any], Any] | None:
        if dialect.supports_native_boolean:
            return None
        return lambda value: bool(value) if value in (0, 1) else value


class Words(TypeDecorator[str]):
    """Text that came from outside, and may hold a NUL."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else clean_text(value)
