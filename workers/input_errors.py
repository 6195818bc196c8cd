"""Errors of what a job asks for: Refused, and Bad of a reader of data that knows the place and not the file."""

from __future__ import annotations

from typing import Any

from jobs.errors import Fault, InputError, SpecError


class Refused(InputError):
    """The job asks for what can't be trained here."""


class Bad(Exception):
    """Data that won't do: the problem (with the line or row where there is one), and what would be right."""

    def __init__(self, problem: str, fix: str = "") -> None:
        self.problem, self.fix = problem, fix
        super().__init__(problem)

    def at(self, where: str) -> Bad:
        """The same, of a place in the file."""
        return Bad(f"{where}: {self.problem}", self.fix)

    def fault(self, path: str) -> Fault:
        return Fault("data.path", path, self.problem, self.fix)

    def error(self, path: str) -> SpecError:
        return SpecError([self.fault(path)], "data")


def type_of(value: Any) -> str:
    """What a value is, in JSON's words."""
    if isinstance(value, bool):
        return "true or false"
    for kind, name in ((str, "text"), (dict, "an object"), (list, "a list"), (int | float, "a number")):
        if isinstance(value, kind):
            return "NaN" if value != value else name
    return "null" if value is None else f"a {type(value).__name__}"
