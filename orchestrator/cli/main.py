"""`tuneyard`: the entry point, a click group that imports a verb's module when the verb runs."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from jobs.errors import TuneyardError, UsageError
from orchestrator.cli.groups import Verbs
from orchestrator.cli.output import OK, USAGE, report

INTERRUPTED = 130
BROKEN_PIPE = 1  # what click itself gives

# Verb -> module, and the line that --help shows without importing it (a test holds it to the verb's own).
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Begin": {
        "up": ("fleet.services", "Start server, host agent and Ray on this machine."),
        "down": ("fleet.services", "Stop what `tuneyard up` started."),
        "init": ("planning.init", "Write a commented job file to begin from."),
        "convert": (
            "planning.convert",
            "Write a job file from a configuration of axolotl, LLaMA-Factory or TRL.",
        ),
        "doctor": ("fleet.doctor", "Check this machine and the server, with what to do about each fault."),
    },
    "Jobs": {
        "submit": ("jobs.submit", "Submit jobs from files or flags."),
        "plan": ("planning.plan", "Show where a job would fit, and at what memory, without submitting it."),
        "rehearse": (
            "planning.rehearse",
            "Train a job's first steps on a card that is not there: real allocator, no GPU.",
        ),
        "list": (
            "jobs.list",
            "List jobs, newest first; of a SWEEP what differs between its jobs, best first.",
        ),
        "show": ("jobs.show", "Show one job: attempts, projected against measured, events."),
        "why": ("jobs.show", "Explain why a job waits, or why it ended."),
        "metrics": (
            "jobs.metrics",
            "Show loss, evaluation loss, learning rate and tokens/s of a job, step by step.",
        ),
        "logs": ("jobs.logs", "Print the log of a job's attempt."),
        "report": ("jobs.report", "Write what there is to know of one job into one HTML file."),
        "pull": ("jobs.pull", "Copy a job's result to this machine."),
        "cancel": ("jobs.control", "Cancel jobs."),
        "requeue": ("jobs.control", "Submit ended jobs again, from where they had come to."),
        "set": ("jobs.changes", "Change the job file of a job that waits."),
        "hold": ("jobs.changes", "Keep queued jobs from starting until they are released."),
        "release": ("jobs.changes", "Let held jobs start."),
    },
    "Fleet": {
        "top": ("fleet.top", "Watch cards and jobs live."),
        "web": ("fleet.web", "Print a link to the web page that signs in once."),
        "hosts": ("fleet.tables", "List hosts."),
        "events": ("fleet.events", "List what happened to jobs and hosts, and who asked for it."),
        "gpus": ("fleet.tables", "List cards with what they are doing."),
        "stats": (
            "watching.stats",
            "Show what was measured over time: utilisation, memory, power, temperature.",
        ),
        "usage": ("watching.usage", "Show where GPU-hours and energy went."),
        "project": ("fleet.project", "Set what projects may count on of the fleet."),
        "notify": (
            "fleet.notify",
            "Tell a web server, or somebody by e-mail, what happens to jobs, hosts and cards.",
        ),
        "secret": ("fleet.secret", "Set what trainers may use and nobody may read."),
        "accuracy": (
            "planning.accuracy",
            "Show projected against measured memory, coverage and the worst misses.",
        ),
        "simulate": ("planning.simulate", "Try policies and fleets on a trace of jobs."),
    },
    "Operate": {
        "serve": ("fleet.services", "Run the server in the foreground."),
        "host": ("fleet.host", "Run a host agent; drain hosts."),
        "db": ("fleet.database", "Upgrade, check, back up and restore the job database."),
        "audit": ("fleet.audit", "List who asked for what, and from where."),
        "schema": ("planning.init", "Print the JSON schema of the job file."),
        "completion": ("completion", "Print the shell completion script."),
    },
}
_MODULES = {verb: module for verbs in SECTIONS.values() for verb, (module, _) in verbs.items()}


class LazyGroup(Verbs):
    """Knows its verbs by name; imports one when it is asked for, for importing all takes time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        module = importlib.import_module(f"orchestrator.cli.commands.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_verb")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, verbs in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(verb, summary) for verb, (_, summary) in verbs.items()], col_spacing=3)


def _print_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # here: 20 ms that only --version needs

        click.echo(f"tuneyard {version('tuneyard')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("--server", metavar="URL", help="Server to ask; TUNEYARD_URL, or this machine's own.")
@click.option("--token", metavar="TOKEN", help="Its token; TUNEYARD_TOKEN.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print it."
)
@click.pass_context
def cli(ctx: click.Context, server: str | None, token: str | None) -> None:
    """Fine-tuning jobs on your own GPU fleet.

    Every verb that ends takes --json. Exit codes: 0 done, 1 failed, 2 usage or bad input, 130 interrupted;
    `tuneyard submit --help` has those of --wait.
    """
    if ctx.invoked_subcommand is None:
        from orchestrator.cli.welcome import welcome  # here: no verb needs it

        welcome(server, token)


def run(args: Sequence[str]) -> int:
    """Run the command line; its exit code. Every error that is meant for people is told here, on one path."""
    as_json = "--json" in args
    try:
        code = cli.main(args=list(args), prog_name="tuneyard", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else OK
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:  # a group without a verb: its help, and no complaint
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "tuneyard"
        message = error.format_message().rstrip(".")
        return report(UsageError(f"{message}; `{where} --help` shows what there is"), as_json)
    except click.ClickException as error:
        return report(TuneyardError(error.format_message()), as_json)
    except TuneyardError as error:
        return report(error, as_json)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone. Point stdout elsewhere, or the flush at exit would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        return report(
            TuneyardError(f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")), as_json
        )


def main() -> None:
    """Console script `tuneyard`."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
