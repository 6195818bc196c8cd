"""What every verb shares: its options, JSON on stdout, notes on stderr, errors and exit codes."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from jobs.errors import (
    Conflict,
    InputError,
    NotFound,
    SpecError,
    TuneyardError,
    Unauthorized,
    Unavailable,
    UsageError,
)
from jobs.units import parse_duration, parse_size
from orchestrator.cli.render.table import UNSAFE, clean
from orchestrator.client.http import Api
from orchestrator.client.settings import find_server

OK, FAILED, USAGE = 0, 1, 2
_KINDS: tuple[tuple[type[TuneyardError], str], ...] = (
    (SpecError, "spec"),
    (UsageError, "usage"),
    (InputError, "usage"),
    (NotFound, "not_found"),
    (Conflict, "conflict"),
    (Unauthorized, "unauthorized"),
    (Unavailable, "unavailable"),
)

MOST_FACTOR = 100
_UNSAFE = re.compile(f"[{UNSAFE}]")

json_option = click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON value.")


def seconds(context: click.Context, option: click.Parameter, given: str | None) -> float | None:
    """Callback of options that take a duration such as 90s. Raises UsageError with the flag or variable it came by."""
    if given is None:
        return None
    try:
        return parse_duration(given)
    except ValueError as error:
        raise UsageError(f"{_named(context, option)} {given!r} is {error}") from None


def rate(context: click.Context, option: click.Parameter, given: str | None) -> float | None:
    """Callback of options that take bytes a second such as 1GiB. Raises UsageError as seconds() does."""
    if given is None:
        return None
    try:
        size = parse_size(given)
    except ValueError as error:
        raise UsageError(f"{_named(context, option)} {given!r} is {error}") from None
    if size <= 0:
        raise UsageError(
            f"{_named(context, option)} {given!r} is no rate: write a size a second, such as 1GiB"
        )
    return float(size)


def factor(context: click.Context, option: click.Parameter, given: str | None) -> float | None:
    """Callback of options that take a factor of at least 1. Raises UsageError as seconds() does."""
    try:
        if given is None or 1 <= float(given) <= MOST_FACTOR:
            return None if given is None else float(given)
    except ValueError:
        pass
    named = _named(context, option)
    raise UsageError(
        f"{named} {given!r} is not a factor: write a number from 1 to {MOST_FACTOR}, such as 1.5"
    )


def _named(context: click.Context, option: click.Parameter) -> str:
    """The flag or variable that an option's value came by."""
    by_variable = context.get_parameter_source(option.name or "") is ParameterSource.ENVIRONMENT
    return str(option.envvar) if by_variable else option.opts[0]


def client_verb(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb --server, --token and --json, and hand it an Api as its first argument.

    A verb that is told --local does without a server: it gets None.
    """

    @click.option("--server", metavar="URL", help="Server to ask; TUNEYARD_URL, or this machine's own.")
    @click.option(
        "--token", metavar="TOKEN", help="Its token; better in TUNEYARD_TOKEN, which `ps` does not show."
    )
    @json_option
    @click.pass_context  # type: ignore[arg-type] # wraps() forgets that the context is given by its place
    @functools.wraps(function)
    def run(context: click.Context, server: str | None, token: str | None, **given: Any) -> Any:
        if given.get("local"):
            return function(None, **given)
        shared = context.find_root().params
        api = Api(lambda: find_server(server or shared.get("server"), token or shared.get("token")))
        try:
            return function(api, **given)
        finally:
            api.close()

    return run


def emit(value: Any) -> None:
    """Print one JSON value: indented on a terminal, one line in a pipe."""
    on_terminal = sys.stdout.isatty()
    text = json.dumps(value, indent=2 if on_terminal else None, ensure_ascii=False)
    # JSON lets C1 controls stand as they are, and a terminal obeys them; they stand in strings alone.
    sys.stdout.write((_UNSAFE.sub(_escaped, text) if on_terminal else text) + "\n")


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def error_value(error: TuneyardError) -> dict[str, Any]:
    """The JSON form of an error, as the API has it."""
    kind = next((name for known, name in _KINDS if isinstance(error, known)), "failure")
    faults = [fault.as_dict() for fault in error.faults] if isinstance(error, SpecError) else []
    return {"error": {"kind": kind, "message": str(error), "faults": faults}}


def report(error: TuneyardError, as_json: bool) -> int:
    """Tell of an error; the exit code that goes with it."""
    if as_json:
        emit(error_value(error))
    else:
        lead = click.style("error", fg="red", bold=True)
        click.echo(f"{lead}: {clean(str(error), lines=True)}", err=True)
    return exit_code(error)


def exit_code(error: TuneyardError) -> int:
    """What a verb ends with that is refused or fails so."""
    return USAGE if isinstance(error, InputError) else FAILED
