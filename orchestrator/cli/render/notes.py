"""What is said beside the answer, on stderr."""

from __future__ import annotations

import click

from orchestrator.cli.render.table import clean


def note(text: str) -> None:
    """Say something that is not the answer: on stderr."""
    click.echo(clean(text, lines=True), err=True)
