"""A time that is past, as an option takes it."""

from __future__ import annotations

import time
from datetime import datetime

import click

from jobs.errors import UsageError
from jobs.units import parse_duration


def past(_: click.Context, option: click.Parameter, given: str | None) -> float | None:
    """Unix seconds: so long ago, or a day or time by this machine's clock. Raises UsageError with the option's name."""
    if given is None:
        return None
    now, named = time.time(), option.opts[0]
    try:
        then = now - parse_duration(given)
    except ValueError:
        try:
            then = datetime.fromisoformat(given).timestamp()
        except (ValueError, OverflowError, OSError):
            raise UsageError(
                f"{named} {given!r} is no time; write 2h, 3d, 2026-11-01 or 2026-11-01T14:30"
            ) from None
    if then > now:
        raise UsageError(f"{named} {given!r} is yet to come; write a time that is past, such as 2h")
    return then
