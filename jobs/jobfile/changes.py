"""Which keys of a job file may change once the job is submitted, and what a change comes to."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from jobs.errors import Fault

# What the scheduler alone looks at. The rest of a running job is with its trainer.
WHILE_RUNNING = frozenset({"priority", "retries"})
# Of a job that goes on from a checkpoint, what changes nothing about what it trains.
ONCE_TRAINED = WHILE_RUNNING | {"name", "project", "time_limit", "resources", "report_to", "secrets"}
# Links and steps are made, and members of a sweep named, when jobs are submitted.
NEVER = frozenset({"after", "matrix", "sweep", "then", "step"})


def fixed(paths: Iterable[str]) -> list[Fault]:
    """A fault for each of these keys that a submitted job can't change."""
    fix = "cancel the job and submit its file again"
    return [
        Fault(path, "", "is settled when a job is submitted", fix)
        for path in paths
        if path.partition(".")[0] in NEVER
    ]


def outside(paths: Iterable[str], allowed: Collection[str]) -> list[str]:
    """Those of the keys that are not allowed, or inside of one that is."""
    return [path for path in paths if path.partition(".")[0] not in allowed]


class Difference(NamedTuple):
    """A dotted key that two job files have other values for. kept, given: whether the old, the new one has that key."""

    path: str
    before: Any
    after: Any
    kept: bool = True
    given: bool = True

    def __str__(self) -> str:
        return f"{self.path} {self.sides}"

    @property
    def sides(self) -> str:
        """What was there and what is now, cut to the place where they differ."""
        old, new = _text(self.before), _text(self.after)
        pairs = enumerate(zip(old, new, strict=False))
        shared = next((at for at, (one, other) in pairs if one != other), min(len(old), len(new)))
        old, new = (_around(text, shared) for text in (old, new))
        return f"{old} -> {new if self.given else '(removed)'}"


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Difference]:
    """Where two job files differ, key by key; inside of mappings too, where one of them has none at that place."""
    return list(compared("", before, after))


def compared(path: str, before: Any, after: Any) -> Iterable[Difference]:
    """The same of what stands at one dotted key in both."""
    old, new = dict(_leaves(path, before)), dict(_leaves(path, after))
    for key in {**old, **new}:
        kept, given = key in old, key in new
        was, now = old.get(key), new.get(key)
        if kept and given and _same(was, now):
            continue
        if not (was or now) and not (kept and given) and (_within(key, old) or _within(key, new)):
            continue  # an empty place of a mapping whose keys are told one by one
        yield Difference(key, was, now, kept, given)


def _leaves(path: str, value: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not value:
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(f"{path}.{key}" if path else str(key), inner)


def _same(was: Any, now: Any) -> bool:
    """1, 1.0 and true are equal in Python, and other values in a job file."""
    return was == now and isinstance(was, bool) == isinstance(now, bool)


def _within(path: str, leaves: Mapping[str, Any]) -> bool:
    return any(key.startswith(f"{path}.") for key in leaves)


_MOST, _LEAD = 60, 12


def _text(value: Any) -> str:
    if value is None:
        return "(not set)"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _around(text: str, place: int) -> str:
    """At most _MOST characters of a text, among them the one at `place`."""
    if len(text) > _MOST and place > _MOST // 2:
        text = f"...{text[place - _LEAD :]}"
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."
