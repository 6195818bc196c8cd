"""pydantic's errors -> faults in our words: where, what stood there, what is wrong, what would be right."""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from jobs.errors import Fault
from jobs.jobfile.cross_field_rules import RuleError

MAX_SHOWN = 80

_PROBLEMS: dict[str, Callable[[dict[str, Any]], str]] = {
    "missing": lambda ctx: "is required",
    "literal_error": lambda ctx: "is not one of the choices",
    "greater_than_equal": lambda ctx: f"must be at least {_plain(ctx['ge'])}",
    "greater_than": lambda ctx: f"must be more than {_plain(ctx['gt'])}",
    "less_than_equal": lambda ctx: f"must be at most {_plain(ctx['le'])}",
    "less_than": lambda ctx: f"must be less than {_plain(ctx['lt'])}",
    "finite_number": lambda ctx: "is not a finite number",
    "string_type": lambda ctx: "is not text; put it in quotes",
    "string_too_short": lambda ctx: "is empty",
    "too_short": lambda ctx: "is empty",
    "int_type": lambda ctx: "is not a whole number",
    "bool_type": lambda ctx: "is not true or false",
    "bool_parsing": lambda ctx: "is not true or false",
    "dict_type": lambda ctx: "is not a mapping of keys",
    "model_type": lambda ctx: "is not a mapping of keys",
    "invalid_key": lambda ctx: "is a key that is not text",
}


def _plain(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else f"{bound:g}"


def faults_of(error: ValidationError, root: type[BaseModel]) -> list[Fault]:
    """Every fault in a ValidationError of root."""
    faults: list[Fault] = []
    for item in error.errors(include_url=False):
        cause = (item.get("ctx") or {}).get("error")
        faults += cause.faults if isinstance(cause, RuleError) else [_fault(item, root)]
    return faults


def _fault(item: Any, root: type[BaseModel]) -> Fault:
    loc, kind, context = [str(part) for part in item["loc"]], item["type"], item.get("ctx") or {}
    path = ".".join(loc) or "job"
    given = "" if kind == "missing" else _shown(item["input"])
    if kind == "extra_forbidden":
        return Fault(path, given, "unknown key", _meant(loc, root))
    if kind == "value_error":  # one of our own types: its message says what would be right
        problem, _, fix = str(context["error"]).partition(": ")
        return Fault(path, given, problem, fix or _expected(loc, root))
    if kind == "literal_error":
        return Fault(path, given, "is not one of the choices", f"use {context['expected']}")
    known = _PROBLEMS.get(kind)
    problem = known(context) if known else item["msg"][0].lower() + item["msg"][1:]
    return Fault(path, given, problem, _expected(loc, root))


def _meant(loc: list[str], root: type[BaseModel]) -> str:
    section, _ = _walk(loc[:-1], root)
    known = sorted(section.model_fields) if section else []
    elsewhere = [
        f"{name}.{loc[-1]}"
        for name, field in root.model_fields.items()
        if (inner := _section(field.annotation)) and loc[-1] in inner.model_fields
    ]
    if elsewhere:
        return f"did you mean {' or '.join(elsewhere)}?"
    close = difflib.get_close_matches(loc[-1], known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]}?"
    return f"known here: {', '.join(known)}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    # A terminal would obey a control character, and a line break would look like the next fault.
    text = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: MAX_SHOWN + 1]
    )
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def _section(annotation: Any) -> type[BaseModel] | None:
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def _walk(loc: list[str], root: type[BaseModel]) -> tuple[type[BaseModel] | None, FieldInfo | None]:
    """The section at a path, and the deepest field on the way that the job file knows."""
    section: type[BaseModel] | None = root
    known: FieldInfo | None = None
    for part in loc:
        if part.isdigit() and known is not None and typing.get_origin(known.annotation) is list:
            section = _section(typing.get_args(known.annotation)[0])
            continue
        field = section.model_fields.get(part) if section else None
        if field is None:
            return None, known
        known, section = field, _section(field.annotation)
    return section, known


def _expected(loc: list[str], root: type[BaseModel]) -> str:
    """What would be right at a path: the range of a number, true or false, else what its field is described as."""
    field = _walk(loc, root)[1]
    if field is None:
        return ""
    kinds = set(_types(field.annotation))
    if bool in kinds:
        return "write true or false"
    if kinds & {int, float} and str not in kinds:
        number = "a whole number" if int in kinds else "a number"
        return f"write {number}{_range(dict(_bounds(field)))}"
    described = (field.description or "").rstrip(".")
    first = described.partition(" ")[0]
    if first[1:].islower():
        described = described[0].lower() + described[1:]
    return f"expected: {described}" if described else ""


def _types(annotation: Any) -> Iterator[Any]:
    """The plain types in an annotation."""
    inner = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        inner = inner[:1]
    if isinstance(annotation, type):
        yield annotation
    for one in inner:
        yield from _types(one)


def _bounds(noted: Any) -> Iterator[tuple[str, float]]:
    """Least and greatest value, by pydantic's names, of a field or of what an annotation has noted."""
    for one in [*getattr(noted, "metadata", ()), *getattr(noted, "__metadata__", ())]:
        yield from _bounds(one)
    for name in ("ge", "gt", "le", "lt"):
        if (bound := getattr(noted, name, None)) is not None:
            yield name, bound
    if isinstance(noted, FieldInfo):
        for one in typing.get_args(noted.annotation):
            yield from _bounds(one)


def _range(bounds: dict[str, float]) -> str:
    """from 1 to 64, above 0 and below 1, of at least 1: with a space in front; empty of no bounds."""
    bound = {name: _plain(value) for name, value in bounds.items()}
    if "ge" in bound and "le" in bound:
        return f" from {bound['ge']} to {bound['le']}"
    words = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}
    said = [f"{words[name]} {bound[name]}" for name in words if name in bound]
    return f" {' and '.join(said)}" if said else ""
