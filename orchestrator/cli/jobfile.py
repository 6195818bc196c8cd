"""tuneyard init and schema: what a job file looks like."""

from __future__ import annotations

from pathlib import Path

import click

from jobs.errors import UsageError
from orchestrator.cli.output import emit, json_option
from orchestrator.cli.table import Column, show

EXAMPLES = Path(__file__).resolve().parents[2] / "jobs" / "examples"


@click.command("init")
@click.argument("path", type=click.Path(path_type=Path), default="job.yaml")
@click.option("--example", default="lora", show_default=True, metavar="NAME", help="Which one to begin from.")
@click.option("--list", "listing", is_flag=True, help="List the examples.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@json_option
def init_verb(path: Path, example: str, listing: bool, force: bool, as_json: bool) -> None:
    """Write a commented job file to begin from.

    PATH is job.yaml by default; - prints it.
    """
    known = {file.stem: file for file in sorted(EXAMPLES.glob("*.yaml"))}
    if listing:
        about = {name: first_line(file) for name, file in known.items()}
        if as_json:
            emit({"examples": about})
        else:
            show((Column("EXAMPLE"), Column("WHAT", flexible=True)), list(about.items()))
        return
    if example not in known:
        raise UsageError(f"there is no example {example!r}; there are {', '.join(known)}")
    text = known[example].read_text(encoding="utf-8")
    if str(path) == "-":
        if as_json:
            emit({"text": text})
        else:
            click.echo(text, nl=False)
        return
    if path.is_dir():
        path = path / "job.yaml"
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} is there already; name another, or write over it with --force") from None
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from None
    if as_json:
        emit({"path": str(path), "example": example})
    else:
        click.echo(f"wrote {path}; edit model and data, then: tuneyard plan {path}, tuneyard submit {path}")


def first_line(file: Path) -> str:
    """What an example says of itself in its first line."""
    with file.open(encoding="utf-8") as text:
        return text.readline().lstrip("# ").rstrip()


@click.command("schema")
@json_option
def schema_verb(as_json: bool) -> None:
    """Print the JSON schema of the job file.

    \b
    For an editor with the YAML language server, make job files begin with:
      # yaml-language-server: $schema=./tuneyard.schema.json
    """
    from jobs.spec import schema  # here: pydantic takes 0.2 s to import, and no other verb needs it

    emit(schema())
