"""tuneyard web: a link to the web page."""

from __future__ import annotations

import click

from orchestrator.cli.output import client_verb, emit
from orchestrator.client.http import Api


@click.command("web")
@click.option("--open", "opens", is_flag=True, help="Open it in this machine's browser.")
@client_verb
def web_verb(api: Api, as_json: bool, opens: bool) -> None:
    """Print a link to the web page that signs in once.

    It holds for 10 minutes. The page asks for the token otherwise.
    """
    _, made = api.post("/session/ticket")
    url = f"{api.server.url}/#ticket={made['ticket']}"
    if as_json:
        emit({"url": url, "expires_s": made["expires_s"]})
    else:
        click.echo(url)
    if opens:
        click.launch(url)
