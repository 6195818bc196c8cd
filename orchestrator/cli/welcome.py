"""What `tuneyard` alone says: where to start, and how the server is."""

from __future__ import annotations

import click

from jobs.errors import TuneyardError, Unavailable
from orchestrator.cli.render.table import show_fields
from orchestrator.client.http import Api
from orchestrator.client.settings import find_server

START = (
    ("tuneyard up", "start it on this machine"),
    ("tuneyard init", "write a job file to begin from"),
    ("tuneyard submit job.yaml", "train"),
    ("tuneyard top", "watch"),
    ("tuneyard --help", "everything else"),
)


def welcome(url: str | None, token: str | None) -> None:
    """Print a few lines: what tuneyard is, the first four verbs, the server's state where one is known."""
    click.echo("tuneyard runs fine-tuning jobs on your own GPU fleet.\n")
    show_fields(START)
    click.echo(f"\n{server_state(url, token)}")


def server_state(url: str | None, token: str | None) -> str:
    """One line on the server. Whatever is wrong with it is the answer, not a failure."""
    try:
        found = find_server(url, token)
    except Unavailable:
        return "no server is configured on this machine"
    except TuneyardError as error:
        return str(error)
    api = Api(found, timeout_s=2)
    try:
        health = api.get("/health")
        total = api.get("/jobs", limit=1, state="queued,running").get("total", 0)
    except TuneyardError as error:
        return str(error)
    finally:
        api.close()
    hosts = health.get("hosts", 0)
    there = health.get("hosts_online", hosts)
    joined = (
        f"{there} of {hosts} {'host' if hosts == 1 else 'hosts'} online" if hosts else "no host has joined"
    )
    return (
        f"server {found.url}: {health.get('status', '?')}, version {health.get('version', '?')}, "
        f"Ray {health.get('ray', '?')}, "
        f"{joined}, {total} unfinished "
        f"{'job' if total == 1 else 'jobs'}"
    )
