"""Types of a job file's values: units, names, choices. Each refuses with what would be right."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from jobs.jobfile.secret_names import NAME as SECRET_NAME
from jobs.jobfile.secret_names import fault_of_name
from jobs.jobfile.trackers import TRACKERS
from jobs.units import parse_duration, parse_size

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
PRIORITIES = {"low": 25, "normal": 50, "high": 75}
# From and to, both in it. `high` is in the middle of its class; `high:90` is in it, and before the others.
PRIORITY_CLASSES = {"low": (0, 37), "normal": (38, 62), "high": (63, 100)}
# Those who may share a fleet name each other: a project's name is never empty.
DEFAULT_PROJECT = "default"
# Optimizers, and the names that transformers' `optim` has for them (transformers 5.23, training_args.py).
OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_bnb_8bit",
    "paged_adamw": "paged_adamw_32bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "sgd": "sgd",
}
BITSANDBYTES_OPTIMIZERS = frozenset({"adamw_8bit", "paged_adamw", "paged_adamw_8bit"})
_OPTIMIZER_ALIASES = {optim: name for name, optim in OPTIMIZERS.items()} | {"adamw_torch": "adamw"}


def _number(value: Any) -> Any:
    """YAML 1.1 reads `2e-4` as text (it wants `2.0e-4`); what everybody writes is meant as a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise ValueError("is not a number") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("is not a number")
    return value


def _trackers(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _secret(name: str) -> str:
    if fault := fault_of_name(name):
        raise ValueError(fault)
    return name


def _once(value: list[str]) -> list[str]:
    if twice := next((name for at, name in enumerate(value) if name in value[:at]), None):
        raise ValueError(f"names {twice} twice: leave one out")
    return value


def _size(value: Any) -> Any:
    if isinstance(value, str):
        return parse_size(value)
    raise ValueError("has no unit: write a size such as 24GiB or 700MiB")


def _duration(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("has no unit: write a duration such as 90s, 30m or 4h")
    seconds = parse_duration(value)
    if not 1 <= seconds < math.inf:
        raise ValueError("is not a time that can pass: write a duration of at least 1s")
    return seconds


def read_priority(value: Any) -> Any:
    """The number of a priority as a job file has it. Raises ValueError with what is wrong."""
    if isinstance(value, str) and value in PRIORITIES:
        return PRIORITIES[value]
    if isinstance(value, str) and (found := re.fullmatch(r"(low|normal|high):(\d{1,9})", value)):
        name, number = found[1], int(found[2])
        first, last = PRIORITY_CLASSES[name]
        if not first <= number <= last:
            raise ValueError(f"is outside its class: {name} goes from {first} to {last}")
        return number
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100:
        raise ValueError(
            "is no priority: write low, normal, high, a whole number from 0 to 100, "
            "or one inside its class such as high:90"
        )
    return value


def valid_name(value: str) -> str:
    """The value. Raises ValueError with what is wrong with it as a name."""
    if value and not re.fullmatch(NAME, value):
        raise ValueError(
            "is no name: use up to 100 letters, digits, dots, underscores and dashes, "
            "beginning with a letter or digit"
        )
    return value


def _project(value: str) -> str:
    if not value:
        raise ValueError(f"is empty: name a project, or leave it out for {DEFAULT_PROJECT}")
    return valid_name(value)


def _text(value: str) -> str:
    if value.isprintable():  # the common case, without looking at every character from here
        return value
    found = next((char for char in value if unicodedata.category(char) == "Cc"), None)
    if found is not None:
        raise ValueError(f"holds the control character U+{ord(found):04X}: write it without that")
    return value


def valid_output(value: str) -> str:
    """The value. Raises ValueError with what is wrong with it as a folder for the result."""
    parts = value.rstrip("/").split("/")
    if value.startswith("~") or not value.isprintable() or any(part in ("", ".", "..") for part in parts):
        raise ValueError("leads out of the host's output root: write a folder inside it, such as team/run-1")
    return value


def _checkpointing(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"every_n"}:
        every_n = value["every_n"]
        if isinstance(every_n, int) and not isinstance(every_n, bool) and every_n >= 1:
            return value
    elif isinstance(value, str) and value in ("auto", "off", "every_layer"):
        return value
    raise ValueError("is no checkpointing: write auto, off, every_layer, or {every_n: k} with k from 1")


def _choice(value: Any) -> Any:
    if isinstance(value, bool) or value == "auto":
        return value
    raise ValueError("is no choice here: write auto, true or false")


def _micro_batch(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError("is no micro-batch: write auto, or a whole number from 1")


def _optimizer(value: Any) -> Any:
    if isinstance(value, str) and (name := _OPTIMIZER_ALIASES.get(value, value)) in OPTIMIZERS:
        return name
    raise ValueError(
        f"is no optimizer here: write {', '.join(list(OPTIMIZERS)[:-1])} or {list(OPTIMIZERS)[-1]}"
    )


def _targets(value: Any) -> Any:
    if value == "all-linear":
        return value
    if isinstance(value, list) and value and all(isinstance(name, str) and name for name in value):
        return value
    raise ValueError("names no modules: write all-linear, or a list such as [q_proj, v_proj]")


def _spelt(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


# Strict: true is not 1, and "8" is not 8.
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, BeforeValidator(_number)]
# No file, hub id or label has a control character in it, and the system refuses a path with a NUL.
Text = Annotated[str, AfterValidator(_text)]
Positive = Annotated[float, Field(gt=0), BeforeValidator(_number)]
# Written back with their unit, so that what is stored reads like what a person would write.
Size = Annotated[
    int,
    BeforeValidator(_size),
    PlainSerializer(lambda count: f"{count}B", when_used="unless-none"),
    WithJsonSchema({"type": "string", "examples": ["24GiB", "700MiB"]}),
]
Duration = Annotated[
    float,
    BeforeValidator(_duration),
    PlainSerializer(_spelt, when_used="unless-none"),
    WithJsonSchema({"type": "string", "examples": ["90s", "30m", "4h"]}),
]
Priority = Annotated[
    int,
    BeforeValidator(read_priority),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(PRIORITIES)},
                {"type": "integer", "minimum": 0, "maximum": 100},
                {"type": "string", "pattern": "^(low|normal|high):[0-9]+$", "examples": ["high:90"]},
            ],
            "default": "normal",
        }
    ),
]
Name = Annotated[
    str,
    AfterValidator(valid_name),
    WithJsonSchema({"type": "string", "pattern": f"^({NAME})?$", "default": ""}),
]
Project = Annotated[str, AfterValidator(_project), WithJsonSchema({"type": "string", "pattern": f"^{NAME}$"})]
Output = Annotated[str, Field(min_length=1), AfterValidator(valid_output)]
Checkpointing = Annotated[
    Literal["auto", "off", "every_layer"] | dict[Literal["every_n"], Annotated[int, Field(ge=1)]],
    BeforeValidator(_checkpointing),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["auto", "off", "every_layer"]},
                {
                    "type": "object",
                    "properties": {"every_n": {"type": "integer", "minimum": 1}},
                    "required": ["every_n"],
                    "additionalProperties": False,
                },
            ],
            "default": "auto",
        }
    ),
]
Choice = Annotated[bool | Literal["auto"], BeforeValidator(_choice)]  # left to us, or not
Offload = Choice
Policy = Literal["smallest_card", "fastest", "cheapest"]
MicroBatch = Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], BeforeValidator(_micro_batch)]
# Known by transformers' names for them, too.
Optimizer = Annotated[
    str,
    BeforeValidator(_optimizer),
    WithJsonSchema({"enum": list(dict.fromkeys([*OPTIMIZERS, *_OPTIMIZER_ALIASES])), "default": "adamw"}),
]
Targets = Annotated[
    Literal["all-linear"] | list[str],
    BeforeValidator(_targets),
    WithJsonSchema(
        {
            "anyOf": [
                {"const": "all-linear"},
                {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            ],
            "default": "all-linear",
        }
    ),
]
_Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]
_TRACKER_SCHEMA = {"enum": list(TRACKERS)}
Trackers = Annotated[
    list[_Tracker],
    BeforeValidator(_trackers),
    AfterValidator(_once),
    WithJsonSchema(
        {
            "anyOf": [
                _TRACKER_SCHEMA,
                {"type": "array", "items": _TRACKER_SCHEMA, "uniqueItems": True},
            ],
            "default": [],
        }
    ),
]
Secrets = Annotated[
    list[Annotated[str, AfterValidator(_secret)]],
    AfterValidator(_once),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "string", "pattern": f"^{SECRET_NAME}$"},
            "uniqueItems": True,
            "default": [],
        }
    ),
]
