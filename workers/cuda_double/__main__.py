"""`python -m workers.cuda_double --cards rtx4090,a100-80gb:20GiB -- CMD...`: a command in front of the double."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from jobs.errors import InputError, TuneyardError
from workers.cuda_double.environment import find, variables


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m workers.cuda_double",
        description="Run a command on CUDA cards that are not there: torch's real allocator, no GPU. "
        "Memory is accounted, nothing is computed: its numbers and its speed mean nothing.",
    )
    parser.add_argument(
        "--cards",
        default="rtx4090",
        help="names of the catalogue with a size or without: rtx4090,a100-80gb:20GiB",
    )
    parser.add_argument(
        "--ledger",
        type=Path,
        help="file that all processes of one host share; without it each has the cards to itself",
    )
    parser.add_argument(
        "--trace",
        type=Path,
        help="folder for counts of calls and kernels (python -m workers.cuda_double.traces)",
    )
    parser.add_argument("--faults", help="what is to go wrong: 'oom launch=500', 'lost card=1', 'nan step=3'")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- CMD...", help="the command, with its arguments"
    )
    given = parser.parse_args(arguments)
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command:
        parser.error("no command was given; write one behind --, such as -- python train.py")
    try:
        ledger = given.ledger and given.ledger.absolute()
        trace = given.trace and given.trace.absolute()
        made = variables(find(), given.cards, ledger=ledger, trace=trace, faults=given.faults)
    except TuneyardError as error:
        print(f"cuda double: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    try:
        os.execvpe(command[0], command, made)
    except OSError as error:
        print(f"cuda double: {command[0]} can't be run: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main())
