"""tuneyard host: run a host agent, drain hosts."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from jobs.errors import UsageError
from orchestrator.cli.commands.fleet.services import cpu_cards_option, warm_option
from orchestrator.cli.groups import Verbs
from orchestrator.cli.output import client_verb, emit
from orchestrator.client.http import Api
from orchestrator.client.settings import find_server, home


@click.group("host", cls=Verbs)
def host_verb() -> None:
    """Run a host agent; drain hosts."""


def _labels(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    labels = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"--label {text!r} is no label; write KEY=VALUE, such as --label rack=b4")
        labels[key] = value
    return labels


@host_verb.command("run")
@click.option(
    "--server", metavar="URL", envvar="TUNEYARD_URL",
    help="Server to join; TUNEYARD_URL, or this machine's own. Several of one database with commas between.",
)  # fmt: skip
@click.option("--token", metavar="TOKEN", help="Its token; TUNEYARD_TOKEN.")
@click.option("--name", metavar="NAME", help="Name of this host; the machine's by default.")
@cpu_cards_option
@click.option(
    "--label", "labels", multiple=True, callback=_labels, metavar="K=V", help="A label; may be given again."
)
@click.option("--output-root", type=click.Path(path_type=Path, file_okay=False), help="Folder for results.")
@warm_option
@click.option(
    "--dcgm-job-mapping-dir", "dcgm_folder", type=click.Path(path_type=Path, file_okay=False),
    envvar=["TUNEYARD_DCGM_JOB_MAPPING_DIR", "DCGM_HPC_JOB_MAPPING_DIR"],
    help="Folder that dcgm-exporter --hpc-job-mapping-dir reads: the jobs on each card are kept there. "
    "TUNEYARD_DCGM_JOB_MAPPING_DIR, DCGM_HPC_JOB_MAPPING_DIR.",
)  # fmt: skip
def run_verb(
    server: str | None,
    token: str | None,
    name: str | None,
    cpu_cards: list[int] | None,
    labels: dict[str, str],
    output_root: Path | None,
    warm: int | None,
    dcgm_folder: Path | None,
) -> int:
    """Join a server with this machine's cards, in the foreground.

    Its home is the folder host/ in TUNEYARD_HOME (~/.tuneyard).
    """
    first, *others = server.split(",") if server else [None]
    found = find_server(first, token)
    urls = [found.url, *(find_server(other, found.token).url for other in others)]
    from workers.agent.agent import run_host  # here: it brings pydantic and psutil, which no other verb needs

    return run_host(
        server_url=",".join(urls),
        token=found.token,
        home=home() / "host",
        name=name,
        cpu_cards=cpu_cards or None,
        labels=labels,
        output_root=output_root,
        warm=warm,
        dcgm_folder=dcgm_folder,
    )


@host_verb.command("drain")
@click.argument("host")
@click.option("--reason", metavar="TEXT", default="", help="Why, for `tuneyard events`.")
@client_verb
def drain_verb(api: Api, as_json: bool, host: str, reason: str) -> None:
    """Give a host no new jobs; those on it go on."""
    _drain(api, as_json, host, True, reason)


@host_verb.command("undrain")
@click.argument("host")
@client_verb
def undrain_verb(api: Api, as_json: bool, host: str) -> None:
    """Give a drained host jobs again."""
    _drain(api, as_json, host, False)


def _drain(api: Api, as_json: bool, name: str, drained: bool, reason: str = "") -> None:
    body = {"drained": drained, **({"reason": reason} if reason else {})}
    _, answer = api.post(f"/hosts/{quote(name, safe='')}/drain", body)
    if as_json:
        emit(answer)
    else:
        click.echo(f"{name} gets {'no new jobs' if drained else 'jobs again'}")
