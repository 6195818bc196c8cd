"""The exception tree. One root; the message says what was wrong and what would be right.

TuneyardError
├── InputError            what the user gave can't be used (CLI exit code 2, HTTP 422)
│   ├── SpecError         a job file, with every fault in it
│   ├── DoesNotFit        no rung of the memory ladder is low enough for this card
│   └── UsageError        a flag, an argument, a setting
├── NotFound              no job, host or file of that name (HTTP 404)
├── Conflict              the thing is not in a state that allows this (HTTP 409)
├── Unauthorized          the token is missing or wrong (HTTP 401)
├── TooLarge              a request of too many bytes, or that takes too long (HTTP 413)
├── Unavailable           the server, a host or a database is not there (exit code 1, HTTP 503)
│   ├── Deposed           another server leads now: what this one decided was not written
│   ├── Unanswered        it was asked, and its answer did not come: it may have done it
│   └── Busy              it has too much to do: when to come again (HTTP 429)
├── SchemaMismatch        the database belongs to another version of tuneyard
└── ProfileError          a model could not be traced, and why
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# Problems of faults that another machine may not have.
MISSING = "does not exist"
UNREADABLE = "can't be read: "


class TuneyardError(Exception):
    """Root of every error that tuneyard raises on purpose."""


class InputError(TuneyardError):
    """What was given can't be used."""

    missing = False  # what was named is not there, or can't be read; it may be so on this machine alone

    @property
    def line(self) -> str:
        """What is wrong, on one line."""
        return str(self)


@dataclass(frozen=True)
class Fault:
    """One thing wrong with an input.

    path: where, dotted (`memory.micro_batch`); given: what stood there, as text; problem: what is wrong with it;
    fix: what would be right.
    """

    path: str
    given: str
    problem: str
    fix: str = ""

    def __str__(self) -> str:
        given = f" (given: {self.given})" if self.given else ""
        fix = f"; {self.fix}" if self.fix else ""
        return f"{self.path}: {self.problem}{given}{fix}"

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


class SpecError(InputError):
    """A job file with faults; carries all of them."""

    def __init__(self, faults: list[Fault], source: str = "job") -> None:
        self.faults = faults
        self.source = source
        lines = "\n".join(f"  {fault}" for fault in faults)
        many = "fault" if len(faults) == 1 else "faults"
        super().__init__(f"{source}: {len(faults)} {many}\n{lines}")

    @property
    def missing(self) -> bool:  # type: ignore[override]
        return bool(self.faults) and all(
            fault.problem == MISSING or fault.problem.startswith(UNREADABLE) for fault in self.faults
        )

    @property
    def line(self) -> str:
        return "; ".join(map(str, self.faults))

    def __reduce__(self) -> tuple[Any, ...]:
        return (SpecError, (self.faults, self.source))


def words_of(error: Exception, most: int = 600) -> str:
    """What a library's exception says, on one line: its type and first line; all lines where that announces them."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines if lines and lines[0].endswith(":") else lines[:1])
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class UsageError(InputError):
    """A flag, an argument or a setting that can't be used."""


class DoesNotFit(InputError):
    """No rung of the memory ladder is low enough for this card."""


class NotFound(TuneyardError):
    """There is nothing of that name."""


class Conflict(TuneyardError):
    """The thing is not in a state that allows this."""


class Unauthorized(TuneyardError):
    """The token is missing or wrong."""


class Unavailable(TuneyardError):
    """The other side is not there."""


class Deposed(Unavailable):
    """Another server took over: what this one decided is not written."""


class Unanswered(Unavailable):
    """What was asked for may have been done: the answer did not come."""


class Busy(Unavailable):
    """Too much was asked at once. retry_after_s: when to come again."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"{message}; try again in {retry_after_s:g} s")


class TooLarge(TuneyardError):
    """A request is too large."""


class SchemaMismatch(TuneyardError):
    """The database belongs to another version of tuneyard."""


class ProfileError(TuneyardError):
    """A model could not be traced."""
