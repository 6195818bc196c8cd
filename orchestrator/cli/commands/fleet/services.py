"""tuneyard up, down, serve: the processes of the control host."""

from __future__ import annotations

from typing import Any

import click

from jobs.errors import UsageError
from jobs.units import parse_size
from orchestrator.cli.output import emit, factor, json_option, rate, seconds
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import show_fields
from orchestrator.client.settings import home


def parse_cards(_: click.Context, __: click.Parameter, text: str | None) -> list[int] | None:
    """Sizes of CPU cards in bytes, from `700MiB,2GiB`; `none` is no card. Raises UsageError."""
    if text is None:
        return None
    if text.strip().lower() == "none":
        return []
    sizes = []
    for part in text.split(","):
        try:
            sizes.append(parse_size(part))
        except ValueError as error:
            raise UsageError(f"--cpu-cards {part!r} is {error}") from None
    if min(sizes) <= 0:
        raise UsageError(f"--cpu-cards {text!r} has a card without memory; write sizes such as 700MiB,2GiB")
    return sizes


cpu_cards_option = click.option(
    "--cpu-cards",
    callback=parse_cards,
    metavar="SIZES",
    help="CPU cards in place of GPUs, such as 700MiB,2GiB; none: the GPUs.",
)
warm_option = click.option(
    "--warm", type=click.IntRange(0, 64), metavar="N", help="Trainers to keep with their imports done."
)
port_option = click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N", help="Port; 0 takes any free one."
)


@click.command("up")
@cpu_cards_option
@port_option
@warm_option
@json_option
def up_verb(cpu_cards: list[int] | None, port: int | None, warm: int | None, as_json: bool) -> None:
    """Start server, host agent and Ray on this machine.

    It listens on loopback only, with a token that it makes, and keeps everything in TUNEYARD_HOME
    (~/.tuneyard). The cards are the GPUs that NVML shows, or CPU cards; options that are not given are as at the
    last `up`. What runs already is left as it is, and an option that differs from how it runs is refused.
    """
    from orchestrator.server import local_cluster  # here: no client verb needs it

    state: dict[str, Any] = local_cluster.up(
        home=home(), cpu_cards=cpu_cards, port=port, warm=warm, say=(lambda _: None) if as_json else note
    )
    if as_json:
        emit(state)
        return
    click.echo(f"tuneyard {'is' if state['started'] else 'was already'} up at {state['url']}")
    show_fields(
        [
            ("next", "tuneyard init, tuneyard submit job.yaml"),
            ("watch", "tuneyard top"),
            ("page", f"{state['page']} (signs in once; `tuneyard web` prints another)"),
            ("stop", "tuneyard down"),
        ]
    )


@click.command("down")
@json_option
def down_verb(as_json: bool) -> None:
    """Stop what `tuneyard up` started.

    Running jobs are stopped too; they go on from their last checkpoint at the next `tuneyard up`.
    """
    from orchestrator.server import local_cluster  # here: no client verb needs it

    state: dict[str, Any] = local_cluster.down(home=home(), say=(lambda _: None) if as_json else note)
    if as_json:
        emit(state)
    else:
        click.echo("tuneyard is down" if state.get("stopped") else "tuneyard was not up")


@click.command("serve")
@click.option("--host", metavar="ADDRESS", help="Address to listen on; 127.0.0.1 by default.")
@port_option
@click.option(
    "--database", metavar="URL", help="sqlite:///PATH or postgresql://USER@HOST/NAME; TUNEYARD_DATABASE."
)
@click.option(
    "--token", metavar="TOKEN", help="Token that clients and hosts need; TUNEYARD_TOKEN, or one is made."
)
@click.option(
    "--ray/--no-ray", "ray", default=None, help="Whether it holds the Ray head; without it nothing runs."
)
@click.option("--ray-ip", metavar="ADDRESS", help="Private address of this machine that hosts reach Ray at.")
@click.option("--shared-files/--no-shared-files", default=None, help="Whether it sees the hosts' files.")
@click.option("--trust-model", "trusted", multiple=True, metavar="ID", help="A model whose own code may run.")
@click.option(
    "--trusted-proxy", "proxies", multiple=True, metavar="ADDRESS",
    help="Proxy, or network of proxies, whose X-Forwarded-For is believed; none by default. May be given again. "
    "TUNEYARD_TRUSTED_PROXIES.",
)  # fmt: skip
@click.option(
    "--notify-allow", "notify_allowed", multiple=True, metavar="HOST",
    help="Host or network that notifications may go to though it is private. May be given again.",
)  # fmt: skip
@click.option(
    "--secrets-key", type=click.Path(dir_okay=False), metavar="FILE",
    help="Key of the projects' secrets; secrets.key in its home by default. TUNEYARD_SECRETS_KEY.",
)  # fmt: skip
@click.option(
    "--hostname", "hostnames", multiple=True, metavar="NAME",
    help="Name by which browsers reach the page, besides localhost, this machine's name and addresses. May be given "
    "again. TUNEYARD_HOSTNAMES.",
)  # fmt: skip
@click.option(
    "--price", "prices", multiple=True, metavar="CARD=PRICE",
    help="Price of an hour of one GPU, such as L40S=0.9; kept in config.json. May be given again.",
)  # fmt: skip
@click.option(
    "--oom-requeues", type=click.IntRange(0, 100), metavar="N",
    help="How often a job that ran out of memory continues on a smaller rung or a larger card; 3 by default.",
)  # fmt: skip
@click.option(
    "--policy", type=click.Choice(["fair", "fifo", "shortest", "attained"]), envvar="TUNEYARD_POLICY",
    help="Order of the jobs of one priority; fair by default. TUNEYARD_POLICY.",
)  # fmt: skip
@click.option(
    "--preempt/--no-preempt", default=None, envvar="TUNEYARD_PREEMPT",
    help="Whether a job may be stopped for another; it may. TUNEYARD_PREEMPT.",
)  # fmt: skip
@click.option(
    "--move/--no-move", default=None, envvar="TUNEYARD_MOVE",
    help="Whether a job may be moved to other cards where it ends clearly sooner; it may not. TUNEYARD_MOVE.",
)  # fmt: skip
@click.option(
    "--min-run", "min_run_s", callback=seconds, metavar="TIME", envvar="TUNEYARD_MIN_RUN",
    help="No job is stopped for another before it ran so long; 5m by default. TUNEYARD_MIN_RUN.",
)  # fmt: skip
@click.option(
    "--patience", "patience_s", callback=seconds, metavar="TIME", envvar="TUNEYARD_PATIENCE",
    help="How long a job waits before others of its own priority are stopped for it; 5m by default. "
    "TUNEYARD_PATIENCE.",
)  # fmt: skip
@click.option(
    "--share-slowdown", callback=factor, metavar="FACTOR", envvar="TUNEYARD_SHARE_SLOWDOWN",
    help="How many times longer than alone a step may take beside others on one card, until the job that came last "
    "is moved away; 1.5 by default. TUNEYARD_SHARE_SLOWDOWN.",
)  # fmt: skip
@click.option(
    "--preempt-grace", "preempt_grace_s", callback=seconds, metavar="TIME", envvar="TUNEYARD_PREEMPT_GRACE",
    help="What a trainer gets to save its checkpoint when it is stopped for another; 2m by default. "
    "TUNEYARD_PREEMPT_GRACE.",
)  # fmt: skip
@click.option(
    "--carry-rate", "carry_bytes_s", callback=rate, metavar="SIZE", envvar="TUNEYARD_CARRY_RATE",
    help="What of a checkpoint goes from one host to another in a second, such as 1GiB; 100MiB by default. "
    "TUNEYARD_CARRY_RATE.",
)  # fmt: skip
@click.option(
    "--away-after", "away_after_s", callback=seconds, metavar="TIME", envvar="TUNEYARD_AWAY_AFTER",
    help="How long a host may be silent before it gets no new jobs; 20s by default. TUNEYARD_AWAY_AFTER.",
)  # fmt: skip
@click.option(
    "--lost-after", "lost_after_s", callback=seconds, metavar="TIME", envvar="TUNEYARD_LOST_AFTER",
    help="How long a host may be silent before what runs there counts as lost; 1m30s by default. "
    "TUNEYARD_LOST_AFTER.",
)  # fmt: skip
@click.option(
    "--idle-after", "idle_after_s", callback=seconds, metavar="TIME", envvar="TUNEYARD_IDLE_AFTER",
    help="How long a job may hold its GPUs and do nothing before it is ended, 5m or more; by default for ever. "
    "TUNEYARD_IDLE_AFTER.",
)  # fmt: skip
@click.option(
    "--waiting-after", "waiting_after_s", callback=seconds, metavar="TIME", envvar="TUNEYARD_WAITING_AFTER",
    help="Write an event, and notices, of jobs that have waited so long, such as 2h; of none by default. "
    "TUNEYARD_WAITING_AFTER.",
)  # fmt: skip
@click.option(
    "--keep-checkpoints", "keep_checkpoints_s", callback=seconds, metavar="TIME",
    envvar="TUNEYARD_KEEP_CHECKPOINTS",
    help="How long checkpoints of a job that ended stay on its hosts; by default until it has succeeded, else 7d. "
    "TUNEYARD_KEEP_CHECKPOINTS.",
)  # fmt: skip
@click.option(
    "--keep-samples", "keep_samples_s", callback=seconds, metavar="TIME", envvar="TUNEYARD_KEEP_SAMPLES",
    help="How long the cards' readings of each second stay in the database; 1d by default. TUNEYARD_KEEP_SAMPLES.",
)  # fmt: skip
@click.option(
    "--keep-minutes", "keep_minutes_s", callback=seconds, metavar="TIME", envvar="TUNEYARD_KEEP_MINUTES",
    help="How long their means of each minute stay; 30d by default. TUNEYARD_KEEP_MINUTES.",
)  # fmt: skip
@click.option(
    "--keep-quarters", "keep_quarters_s", callback=seconds, metavar="TIME", envvar="TUNEYARD_KEEP_QUARTERS",
    help="How long their means of each quarter of an hour stay; 730d by default. TUNEYARD_KEEP_QUARTERS.",
)  # fmt: skip
@click.option(
    "--keep-history", "keep_history_s", callback=seconds, metavar="TIME", envvar="TUNEYARD_KEEP_HISTORY",
    help="How long logs, progress and events of jobs that ended stay in the database; 180d by default. The jobs and "
    "how they ended stay. TUNEYARD_KEEP_HISTORY.",
)  # fmt: skip
def serve_verb(trusted: tuple[str, ...], prices: tuple[str, ...], **given: Any) -> None:
    """Run the server in the foreground.

    Its home is TUNEYARD_HOME (~/.tuneyard). Hosts join it with `tuneyard host run`.
    """
    from jobs.cards import parse_price  # here: no client verb needs it
    from orchestrator.config import load
    from orchestrator.server.serve import run_server

    priced = dict(map(parse_price, prices))
    run_server(load(home(), trusted_models=trusted or None, prices=priced, **given))
