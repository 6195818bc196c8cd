"""`make demo`: a fleet with two cards, three jobs, and what became of them, shown and checked.

Everything goes through the `tuneyard` command, as a user would type it; all files are under .demo/ in the
checkout.
Exits with 0 only if each job ended as deploy/demo/checks.py expects.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.demo.checks import EXPECTED, findings, memory_table
from deploy.demo.data import prepare
from jobs.errors import Conflict
from jobs.units import gib, span
from workers.durable import take

CHECKOUT = Path(__file__).resolve().parents[2]
DEMO = CHECKOUT / ".demo"
JOB_FILES = [f"deploy/demo/jobs/{name}.yaml" for name in EXPECTED]
CARDS = ("700MiB", "2GiB")
DEADLINE_S = 600.0
POLL_S = 0.5
ENDED = ("succeeded", "failed", "cancelled")


class DemoFailed(Exception):
    """The demo did not show what it is to show."""


class Fleet:
    """The `tuneyard` command with a home of its own, so that a fleet of the user's is never touched."""

    def __init__(self, home: Path, console: Console) -> None:
        self.home = home
        self._console = console
        # Jobs on two CPU cards share this machine's cores; more threads than cores slow both down.
        threads = max(1, (os.cpu_count() or 1) // len(CARDS))
        self._environment = {name: value for name, value in os.environ.items() if name[:9] != "TUNEYARD_"}
        self._environment |= {"TUNEYARD_HOME": str(home), "TUNEYARD_CPU_THREADS": str(threads)}

    def show(self, *arguments: str) -> None:
        """Print a command and run it, its output going to the terminal. Raises DemoFailed when it fails."""
        command = ["tuneyard", *arguments]
        self._console.print(f"\n[bold]$ {shlex.join(command)}[/bold]", highlight=False)
        done = subprocess.run(self._argv(arguments), env=self._environment, cwd=CHECKOUT, check=False)
        if done.returncode:
            raise DemoFailed(f"`{shlex.join(command)}` ended with {done.returncode}")

    def ask(self, *arguments: str) -> Any:
        """What the command prints with --json, without showing it. Raises DemoFailed when it fails."""
        argv = [*self._argv(arguments), "--json"]
        done = subprocess.run(
            argv, env=self._environment, cwd=CHECKOUT, check=False, capture_output=True, text=True
        )
        if done.returncode:
            told = (done.stderr or done.stdout).strip()
            raise DemoFailed(f"`tuneyard {shlex.join(arguments)}` ended with {done.returncode}: {told}")
        return json.loads(done.stdout)

    @staticmethod
    def _argv(arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "orchestrator.cli.main", *arguments]


def main() -> int:
    """Run the demo; 0 when all went as expected."""
    parser = argparse.ArgumentParser(prog="make demo DEMO='...'", description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave the fleet up at the end")
    parser.add_argument("--home", type=Path, default=DEMO / "home", help="folder of the fleet")
    given = parser.parse_args()
    # A file or a pipe has no width of its own; the table needs this much.
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 110)
    try:
        with alone(given.home.absolute()) as home:
            return run(Fleet(home, console), console, given.keep)
    except DemoFailed as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        return 1


@contextlib.contextmanager
def alone(home: Path) -> Iterator[Path]:
    """Hold this home: a second demo would end the first one's fleet. Raises DemoFailed when one runs."""
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = take(
            home.with_name(f"{home.name}.lock"),
            f"a demo already runs in {home}; wait for it, or make demo DEMO='--home /another/folder'",
        )
    except Conflict as error:
        raise DemoFailed(str(error)) from None
    with lock:
        yield home


def run(fleet: Fleet, console: Console, keep: bool) -> int:
    """The demo from start to end, whatever happens in between; the exit code."""
    began = time.monotonic()
    failed = True
    try:
        faults = _demo(fleet, console)
        for fault in faults:
            console.print(f"[red]not as expected:[/red] {fault}", highlight=False)
        failed = bool(faults)
    except DemoFailed as error:
        console.print(f"\n[red]the demo failed:[/red] {error}", highlight=False)
    except KeyboardInterrupt:
        console.print("\ninterrupted")
    finally:
        if keep:
            console.print(
                f"\nThe fleet is still up: export TUNEYARD_HOME={fleet.home}; `tuneyard down` ends it."
            )
        elif fleet.home.exists():
            _down(fleet, console)
    if failed:
        console.print(f"Logs: {fleet.home}/server.log and host.log")
    else:
        _farewell(console, time.monotonic() - began)
    return int(failed)


def _demo(fleet: Fleet, console: Console) -> list[str]:
    """The demo from input to table; what was not as expected."""
    began = time.monotonic()
    made = prepare(DEMO / "input")
    taken = time.monotonic() - began
    console.print(
        f"Input: {made.count:,} questions and answers from the docstrings of Python's library, and a "
        f"tokenizer trained on them ({span(taken) if taken >= 1 else 'made before'}).",
        highlight=False,
    )
    _clear(fleet)
    fleet.show("up", "--cpu-cards", ",".join(CARDS), "--port", "0")
    fleet.show("gpus")
    console.print("\nThree jobs for these two cards: what would happen to the second one?")
    fleet.show("plan", JOB_FILES[0])
    fleet.show("submit", *JOB_FILES)
    _watch(fleet, console, _reject_impossible(fleet, console))
    jobs = [fleet.ask("show", name) for name in EXPECTED]
    fleet.show("list")
    fleet.show("show", "squeezed")
    console.print("\n[bold]Projected against measured memory[/bold]")
    cards = {gpu["uuid"]: f"{gpu['name']} {gib(gpu['memory_bytes'])}" for gpu in fleet.ask("gpus")["gpus"]}
    console.print(memory_table(jobs, cards))
    console.print(
        "\n[bold]Results[/bold]: safetensors with a manifest of checksums, here verified", highlight=False
    )
    for job in jobs:
        for attempt in job["attempts_detail"][-1:]:
            console.print(f"  {job['name']}: {attempt['result']}", highlight=False)
    return [fault for job in jobs for fault in findings(job)]


def _clear(fleet: Fleet) -> None:
    """End what a demo before this one kept up, and forget it."""
    if (fleet.home / "config.json").exists():
        fleet.ask("down")
    shutil.rmtree(fleet.home, ignore_errors=True)


def _watch(fleet: Fleet, console: Console, on_job: Callable[[dict[str, Any]], None]) -> None:
    """Tell each move of each job until all have ended. Raises DemoFailed at the deadline."""
    console.print("\n[bold]Watching[/bold] (`tuneyard top` shows this live)")
    began, told = time.monotonic(), dict[str, str]()
    while True:
        listed = fleet.ask("list")["jobs"]
        for job in listed:
            line = _line(job)
            if told.get(job["name"]) != line:
                told[job["name"]] = line
                console.print(
                    f"  {span(time.monotonic() - began):>6}  {job['name']:<10}  {line}", highlight=False
                )
            on_job(job)
        if listed and all(job["state"] in ENDED for job in listed):
            return
        if time.monotonic() - began > DEADLINE_S:
            raise DemoFailed(f"not all jobs had ended after {span(DEADLINE_S)}")
        time.sleep(POLL_S)


def _line(job: dict[str, Any]) -> str:
    """A job in a few words, the same for steps close to each other."""
    progress = job["progress"]
    if job["state"] != "running" or not progress or not progress["total_steps"]:
        return f"{job['state']}: {job['reason']['text']}"
    tenths = 10 * progress["step"] // progress["total_steps"]
    rung = f", checkpointing {job['rung']}" if job["rung"] else ""
    return f"running on {', '.join(job['cards'])}{rung}: {10 * tenths}% of {progress['total_steps']} steps"


def _reject_impossible(fleet: Fleet, console: Console) -> Callable[[dict[str, Any]], None]:
    """A watcher that has the job which fits nowhere explained, then cancels it."""
    done = False

    def on_job(job: dict[str, Any]) -> None:
        nonlocal done
        if done or job["name"] != "impossible" or job["reason"]["code"] != "memory":
            return
        done = True
        fleet.show("why", "impossible")
        fleet.show("cancel", "impossible")
        console.print()

    return on_job


def _down(fleet: Fleet, console: Console) -> None:
    try:
        fleet.show("down")
    except DemoFailed as error:
        console.print(f"[red]{error}[/red]", highlight=False)


def _farewell(console: Console, seconds: float) -> None:
    console.print(
        f"\n[bold]What happened[/bold] (in {span(seconds)})\n"
        "  squeezed    does not fit the 700 MiB card as it is; with its layers recomputed it does\n"
        "  fits        went to the larger card, with nothing recomputed\n"
        "  impossible  fits no card even so; it said what it lacks instead of failing after an hour\n"
        "\n[bold]What to type next[/bold]\n"
        "  source .venv/bin/activate\n"
        "  tuneyard up                # your own fleet, on this machine's GPUs\n"
        "  tuneyard init              # a commented job file\n"
        "  tuneyard plan job.yaml     # what it needs, card by card\n"
        "  tuneyard submit job.yaml --follow",
        highlight=False,
    )


if __name__ == "__main__":
    sys.exit(main())
