"""Learning rate schedules: their names, transformers' names, what each may be told besides.

transformers 5.23, optimization.py, those made of a factor for each step (LambdaLR): a job that goes on from a
checkpoint can follow no other kind to another learning rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, WithJsonSchema

from jobs.errors import Fault

Given = Mapping[str, Any]

_SHAPES = ("linear", "cosine", "1-sqrt")


class Option(NamedTuple):
    """kind: int, float or str; at_least: of a number; choices: of text."""

    kind: type
    at_least: float = 0.0
    choices: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        return f"a {'whole ' if self.kind is int else ''}number of at least {self.at_least:g}"

    def takes(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        kinds = (int,) if self.kind is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and value >= self.at_least


class Schedule(NamedTuple):
    """name: transformers'; options: of it, beside warm-up and the number of steps; one_of: options of which one is
    needed, and no other beside it."""

    name: str
    options: Mapping[str, Option]
    one_of: tuple[str, ...] = ()


_WAVES = {"num_cycles": Option(float)}
_FLOOR = {"min_lr": Option(float), "min_lr_rate": Option(float)}
SCHEDULES: Mapping[str, Schedule] = {
    "linear": Schedule("linear", {}),
    "cosine": Schedule("cosine", _WAVES),
    "constant": Schedule("constant_with_warmup", {}),
    "cosine_with_restarts": Schedule("cosine_with_restarts", {"num_cycles": Option(int, 1)}),
    "polynomial": Schedule("polynomial", {"lr_end": Option(float), "power": Option(float)}),
    "inverse_sqrt": Schedule("inverse_sqrt", {"timescale": Option(int, 1)}),
    "cosine_with_min_lr": Schedule("cosine_with_min_lr", {**_WAVES, **_FLOOR}, tuple(_FLOOR)),
    "cosine_warmup_with_min_lr": Schedule(
        "cosine_warmup_with_min_lr", {**_WAVES, **_FLOOR, "warmup_lr_rate": Option(float)}, tuple(_FLOOR)
    ),
    "warmup_stable_decay": Schedule(
        "warmup_stable_decay",
        {
            "num_decay_steps": Option(int, 1),
            "num_stable_steps": Option(int),
            "warmup_type": Option(str, choices=_SHAPES),
            "decay_type": Option(str, choices=_SHAPES),
            "min_lr_ratio": Option(float),
            **_WAVES,
        },
        ("num_decay_steps",),
    ),
}
_ALIASES = {one.name: name for name, one in SCHEDULES.items() if one.name != name}
_OF_RATES = ("lr_end", "min_lr")  # as high as the learning rate, there is nothing to decay


def _scheduler(value: Any) -> Any:
    if isinstance(value, str) and (name := _ALIASES.get(value, value)) in SCHEDULES:
        return name
    raise ValueError(f"is no schedule here: write {', '.join(list(SCHEDULES)[:-1])} or {list(SCHEDULES)[-1]}")


# Known by transformers' names for them, too.
Scheduler = Annotated[
    str,
    BeforeValidator(_scheduler),
    WithJsonSchema({"enum": [*SCHEDULES, *_ALIASES], "default": "linear"}),
]


def faults(training: Given) -> list[Fault]:
    """What is wrong with the options of a schedule, and with its steps where their number is known."""
    given = training.get("scheduler", "linear")
    name = _ALIASES.get(given, given) if isinstance(given, str) else ""
    options = training.get("scheduler_kwargs") or {}
    if name not in SCHEDULES or not isinstance(options, Mapping):
        return []
    schedule, found = SCHEDULES[name], []
    known = ", ".join(schedule.options) or "none"
    for key, value in options.items():
        option, path = schedule.options.get(key), f"training.scheduler_kwargs.{key}"
        if option is None:
            found.append(Fault(path, str(value), f"is no option of {name}", f"known here: {known}"))
        elif not option.takes(value):
            found.append(Fault(path, str(value), "is no value for it", f"write {option.words}"))
    asked = [key for key in schedule.one_of if options.get(key) is not None]
    if schedule.one_of and len(asked) != 1:
        what = "needs one" if not asked else "has both"
        fix = f"give {' or '.join(schedule.one_of)}, such as {{{schedule.one_of[-1]}: {_such_as(schedule)}}}"
        found.append(Fault("training.scheduler_kwargs", "", f"{what} of {', '.join(schedule.one_of)}", fix))
    return found or [*_rate_faults(training, options), *_step_faults(training, options)]


def _such_as(schedule: Schedule) -> str:
    return "100" if schedule.options[schedule.one_of[-1]].kind is int else "0.1"


def _rate_faults(training: Given, options: Given) -> list[Fault]:
    rate = training.get("learning_rate")
    return [
        Fault(
            f"training.scheduler_kwargs.{key}",
            str(options[key]),
            "is not below training.learning_rate",
            f"use less than {rate:g}",
        )
        for key in _OF_RATES
        if isinstance(rate, float) and options.get(key, 0) >= rate
    ]


def _step_faults(training: Given, options: Given) -> list[Fault]:
    """Warm-up, stable and decay that take more steps than there are."""
    steps, warmup = training.get("steps"), training.get("warmup_steps") or 0
    if type(steps) is not int or steps < 1 or type(warmup) is not int:  # a fault of its own
        return []
    if warmup > steps:
        fix = f"use {steps} at most"
        return [Fault("training.warmup_steps", str(warmup), f"is more than training.steps {steps}", fix)]
    decay = options.get("num_decay_steps", 0)
    if warmup + decay > steps:
        problem = f"is more than what training.steps {steps} leaves after the warm-up"
        fix = f"use {steps - warmup} at most"
        return [Fault("training.scheduler_kwargs.num_decay_steps", str(decay), problem, fix)]
    return []


def longer_than(options: Given, warmup: int, steps: int) -> str:
    """What to say of a decay that does not fit into the steps of a run, once they are known; empty: it does."""
    decay = options.get("num_decay_steps", 0)
    if warmup + decay <= steps:
        return ""
    return (
        f"training.scheduler_kwargs.num_decay_steps: {decay}, with {warmup} steps of warm-up, is more than the "
        f"{steps} steps of this run; use {max(1, steps - warmup)} at most, or train for more epochs"
    )
