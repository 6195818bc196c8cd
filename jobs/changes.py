"""Which keys of a job file may change once the job is submitted, and what a change comes to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from jobs.errors import Fault

# What the scheduler alone looks at. The rest of a running job is with its trainer.
WHILE_RUNNING = frozenset({"priority", "retries"})
# Of a job that goes on from a checkpoint, what changes nothing about what it trains.
ONCE_TRAINED = WHILE_RUNNING | {"name", "project", "time_limit", "resources"}
# Links are made, and members of a sweep named, when jobs are submitted.
NEVER = frozenset({"after", "matrix", "sweep"})


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


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """By dotted key, what stood in one job file and stands in the other, where they differ."""
    old, new = dict(_leaves("", before)), dict(_leaves("", after))
    return {
        path: (old.get(path), new.get(path))
        for path in {**old, **new}
        if old.get(path) != new.get(path) or (path in old) != (path in new)
    }


def _leaves(path: str, value: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not value:
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(f"{path}.{key}" if path else str(key), inner)
