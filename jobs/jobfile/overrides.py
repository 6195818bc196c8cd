"""Overrides: `training.steps = 20` laid over a job file's mapping, before it is validated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.errors import Fault, SpecError

# Sections that a job file may give as a plain string, and the key that the string stands for.
SHORTHAND = {"model": "path", "data": "path", "method": "kind"}


def apply_overrides(
    value: Mapping[str, Any], overrides: Mapping[str, Any], source: str = "job"
) -> dict[str, Any]:
    """A new mapping with each override at its dotted path; value is left as it is.

    A section given as a plain string (`model: org/name`) is read as what it stands for, so that `model.dtype`
    can be laid over it. Raises SpecError, with every fault, for a path that is empty or leads through what
    holds no keys.
    """
    made: dict[str, Any] = _copy(value)
    faults: list[Fault] = []
    for path, given in overrides.items():
        if fault := _set(made, path, given):
            faults.append(fault)
    if faults:
        raise SpecError(faults, source)
    return made


def _set(made: dict[str, Any], path: str, given: Any) -> Fault | None:
    keys = path.split(".")
    if not all(keys):
        return Fault(path or "override", "", "is not a dotted path", "write one such as training.steps")
    place = made
    for depth, key in enumerate(keys[:-1]):
        inner = place.get(key)
        if isinstance(inner, str) and depth == 0 and key in SHORTHAND:
            inner = {SHORTHAND[key]: inner}
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            at = ".".join(keys[: depth + 1])
            return Fault(
                path, str(given), f"can't be set: {at} holds a value, not keys", f"set {at} as a whole"
            )
        place[key] = inner
        place = inner
    place[keys[-1]] = given
    return None


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(inner) for key, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value
