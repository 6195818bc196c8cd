"""What a job file says that flags laid over it contradict: it is taken out, and named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.jobfile.cross_field_rules import LORA_DEFAULTS, written_out

# Of two that exclude each other, the one that is given last is meant.
_EXCLUSIVE = {
    "training.steps": "training.epochs",
    "training.epochs": "training.steps",
    "training.warmup_steps": "training.warmup_ratio",
    "training.warmup_ratio": "training.warmup_steps",
}


def without_contradicted(
    value: Mapping[str, Any], overrides: Mapping[str, Any], source: str = "job"
) -> tuple[dict[str, Any], list[str]]:
    """The mapping without what the overrides contradict, and a sentence for each key that is gone.

    What contradicts another override is left for validation to refuse. An axis of the matrix that an override sets
    gives way too: else the matrix would undo the override without a word.
    """
    made = _copy(written_out(dict(value)))
    said = []
    for path, given in overrides.items():
        if given is None:
            continue
        for gone in _replaced(path, given, made):
            if not any(gone == one or gone.startswith(f"{one}.") for one in overrides if one != path):
                said.append(f"{source}: {path} {_shown(given)} replaces {gone} {_shown(_get(made, gone))}")
        for gone in [*_keys(path, given, made), *_axes(path, given, made)]:
            if gone in overrides or (found := _get(made, gone)) is None:
                continue
            _drop(made, gone)
            said.append(f"{source}: {path} {_shown(given)} replaces {gone} {_shown(found)}")
    if said and isinstance(made.get("matrix"), dict) and not _pruned(made["matrix"]):
        del made["matrix"]
        if _get(made, "sweep.early_stop") is not None and "sweep.early_stop" not in overrides:
            _drop(made, "sweep.early_stop")
            said.append(f"{source}: sweep.early_stop is left out, for nothing is left of the matrix")
    return made, said


def _replaced(path: str, given: Any, value: Mapping[str, Any]) -> list[str]:
    """Keys of a section that an override of the section as a whole leaves at their defaults."""
    section = _get(value, path)
    if not isinstance(section, dict) or path.partition(".")[0] == "matrix":
        return []
    meant = written_out({path: given})[path]
    kept = set(_flat(meant, f"{path}.")) if isinstance(meant, dict) else set()
    return [key for key in _flat(section, f"{path}.") if key not in kept]


def _excluded(path: str, given: Any) -> tuple[str, ...]:
    """Keys that can't stand beside what an override sets."""
    if path in _EXCLUSIVE:
        return (_EXCLUSIVE[path],)
    if path == "method.kind" and given == "full":
        return tuple(f"method.{name}" for name in LORA_DEFAULTS)
    return ("model.config",) if path == "model.path" else ()


def _keys(path: str, given: Any, value: Mapping[str, Any]) -> Iterator[str]:
    """Keys of the file that an override contradicts."""
    for key in _excluded(path, given):
        section, _, name = key.partition(".")
        if section != "method" or _get(value, key) != LORA_DEFAULTS[name]:
            yield key
    if path == "model.path":
        if _get(value, "model.config") is not None:
            yield "model.tokenizer"  # that config has none of its own; this model has
        elif _get(value, "model.path") != given:
            yield "model.revision"  # of another repository


def _axes(path: str, given: Any, value: Mapping[str, Any]) -> Iterator[str]:
    """Axes of the matrix that say what the override says, or what it excludes."""
    matrix = value.get("matrix")
    if not isinstance(matrix, dict) or path.partition(".")[0] == "matrix":
        return
    meant = (path, *_excluded(path, given))
    for axis in list(_flat(matrix)):
        if any(axis == one or axis.startswith(f"{one}.") or one.startswith(f"{axis}.") for one in meant):
            yield f"matrix.{axis}"


def _flat(matrix: Mapping[Any, Any], above: str = "") -> Iterator[str]:
    for key, given in matrix.items():
        if isinstance(given, dict) and given:
            yield from _flat(given, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def _get(value: Mapping[str, Any], path: str) -> Any:
    """What stands at a path; a key of the matrix may hold dots itself."""
    if path in value:
        return value[path]
    for key, inner in value.items():
        if isinstance(inner, dict) and path.startswith(f"{key}."):
            found = _get(inner, path[len(str(key)) + 1 :])
            if found is not None:
                return found
    return None


def _drop(value: dict[str, Any], path: str) -> bool:
    """Take a key out. Whether it was there."""
    if path in value:
        del value[path]
        return True
    return any(
        isinstance(inner, dict) and path.startswith(f"{key}.") and _drop(inner, path[len(str(key)) + 1 :])
        for key, inner in value.items()
    )


def _pruned(matrix: dict[str, Any]) -> dict[str, Any]:
    """The matrix without sections that are empty by now."""
    for key, inner in list(matrix.items()):
        if isinstance(inner, dict) and not _pruned(inner):
            del matrix[key]
    return matrix


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _copy(value: Any) -> Any:
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, dict) else value
