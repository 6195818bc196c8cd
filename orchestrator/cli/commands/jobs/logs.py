"""tuneyard logs."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from jobs.errors import UsageError
from jobs.units import counted, gib, parse_size
from orchestrator.cli import follow as watch
from orchestrator.cli.log_output import MOST_BYTES, LogOutput, read_log, to_stdout
from orchestrator.cli.output import OK, client_verb, emit
from orchestrator.cli.render import words
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import is_terminal
from orchestrator.cli.times import past
from orchestrator.client.http import Api, job_path

if TYPE_CHECKING:
    from orchestrator.schemas import JobFull

LONGEST_PATTERN = 1000


def _pattern(_: click.Context, __: click.Parameter, given: str | None) -> re.Pattern[str] | None:
    if given is None:
        return None
    if not given or len(given) > LONGEST_PATTERN:
        raise UsageError(
            f"--grep takes a regular expression of 1 to {LONGEST_PATTERN} characters, such as 'loss|nan'"
        )
    try:
        return re.compile(given)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"--grep {given!r} is no regular expression: {error}") from None


def _size(_: click.Context, __: click.Parameter, given: str | None) -> int:
    if given is None:
        return MOST_BYTES
    try:
        size = int(parse_size(given))
    except ValueError as error:
        raise UsageError(f"--limit {given!r} is {error}") from None
    if size < 1:
        raise UsageError(f"--limit {given!r} leaves nothing to show; write a size such as 64MiB")
    return size


@click.command("logs")
@click.argument("job")
@click.option("--follow", "-f", "following", is_flag=True, help="Go on until the job has ended.")
@click.option(
    "--attempt", type=click.IntRange(1), metavar="N", help="That attempt's log, not the last one's."
)
@click.option(
    "--all", "-a", "everything", is_flag=True, help="The logs of all attempts, one after the other."
)
@click.option(
    "--since", callback=past, metavar="TIME", help="Only what came since: 10m ago, or 2026-11-01T14:30."
)
@click.option("--grep", callback=_pattern, metavar="REGEX", help="Only lines that it is found in.")
@click.option("--ignore-case", "-i", is_flag=True, help="Of --grep.")
@click.option(
    "--limit", callback=_size, metavar="SIZE",
    help=f"At most so much of an attempt, without its middle; {gib(MOST_BYTES)} unless it is given.",
)  # fmt: skip
@click.option("--raw", is_flag=True, help="As the job wrote it; only into a file or a pipe.")
@client_verb
def logs_verb(
    api: Api,
    as_json: bool,
    job: str,
    following: bool,
    attempt: int | None,
    everything: bool,
    since: float | None,
    grep: re.Pattern[str] | None,
    ignore_case: bool,
    limit: int,
    raw: bool,
) -> int:
    """Print the log of a job's attempt.

    JOB is an id or a name. Ranks of one host write one log. Progress bars come as they stood last, and nothing that
    would drive a terminal comes out. With --follow, later attempts' logs come after it, and a server that restarts is
    waited for: the log goes on at the byte it had come to.
    """
    if raw and is_terminal():
        raise UsageError(
            "--raw lets through what drives a terminal; send it to a file or a pipe, or leave it out"
        )
    if everything and attempt:
        raise UsageError("--all and --attempt are two answers to one question; give one of the two")
    if ignore_case and grep is None:
        raise UsageError("--ignore-case goes with --grep")
    if ignore_case and grep is not None:
        grep = re.compile(grep.pattern, re.IGNORECASE)
    found: JobFull = api.get(job_path(job))
    if attempt and attempt > found["attempts"] and not following:
        raise UsageError(
            f"{words.label(found)} has {counted(found['attempts'], 'attempt')}; --attempt {attempt} is not one"
        )

    def output(write: Any) -> LogOutput:
        return LogOutput(write, raw=raw, grep=grep, most_bytes=limit, live=following and is_terminal())

    if following:
        ended = watch.follow(
            api, str(found["id"]), attempt, None if as_json else output(to_stdout), since, patience_s=None
        )
        if not as_json:
            return OK
        found = ended
    if not found["attempts"]:
        _not_started(found, as_json, everything)
        return OK
    numbers = _numbers(found, attempt, everything)
    told = []
    for number in numbers:
        pieces: list[str] = []
        out = output(pieces.append if as_json else to_stdout)
        if everything and not as_json:
            _head(found, number)
        page = read_log(api, str(found["id"]), number, out, since)
        text = "".join(pieces)
        told.append(
            {
                "attempt": page["attempt"],
                "text": text,
                "ended": page["ended"],
                "left_out_bytes": out.left_out_bytes,
            }
        )
    if as_json:
        emit({"attempts": told} if everything else told[0])
    _tell_elsewhere(found, numbers)
    return OK


def _numbers(found: JobFull, attempt: int | None, everything: bool) -> list[int | None]:
    if not everything:
        return [attempt]
    return [one["number"] for one in found["attempts_detail"]]


def _head(found: JobFull, number: int | None) -> None:
    detail = next(one for one in found["attempts_detail"] if one["number"] == number)
    sys.stdout.flush()
    outcome = f", {detail['outcome']}" if detail["outcome"] else ""
    note(f"--- attempt {number} on {', '.join(detail['hosts'])}{outcome} ---")


def _tell_elsewhere(found: JobFull, numbers: list[int | None]) -> None:
    """Which hosts keep logs of their own: a report carries that of the first."""
    shown = {number or found["attempts"] for number in numbers}
    rest = {host for one in found["attempts_detail"] if one["number"] in shown for host in one["hosts"][1:]}
    if rest:
        sys.stdout.flush()
        note(f"the ranks on {', '.join(sorted(rest))} have logs of their own there: jobs/{found['id']}/logs")


def _not_started(found: JobFull, as_json: bool, everything: bool) -> None:
    if as_json:
        none = {"attempt": None, "text": "", "ended": found["state"] in words.ENDED}
        emit({"attempts": []} if everything else none)
    else:
        note(f"{words.label(found)} has not started: {(found['reason'] or {}).get('text', found['state'])}")
