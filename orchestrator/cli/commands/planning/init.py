"""tuneyard init and schema: what a job file looks like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from jobs.errors import UsageError
from orchestrator.cli.output import emit, json_option
from orchestrator.cli.render.table import Column, show

IN_FOLDER = "job.yaml"  # the job file of an example that is a folder
EXAMPLES = Path(__file__).resolve().parents[4] / "jobs" / "examples"


@click.command("init")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--example", default="lora", show_default=True, metavar="NAME", help="Which one to begin from.")
@click.option("--list", "listing", is_flag=True, help="List the examples.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
@json_option
def init_verb(path: Path | None, example: str, listing: bool, force: bool, as_json: bool) -> None:
    """Write a commented job file to begin from.

    PATH is job.yaml by default; - prints it. The example `tiny` is a folder, tiny by default, with data and a model
    that needs no download: it can be submitted as it is.
    """
    known = examples()
    if listing:
        about = {name: first_line(file) for name, file in known.items()}
        if as_json:
            emit({"examples": about})
        else:
            show((Column("EXAMPLE"), Column("WHAT", flexible=True)), list(about.items()))
        return
    if example not in known:
        raise UsageError(f"there is no example {example!r}; there are {', '.join(known)}")
    if str(path) == "-":
        _print(known[example], as_json)
        return
    whole = known[example].name == IN_FOLDER
    if whole:
        folder = path or Path(example)
        made = {
            folder / file.relative_to(known[example].parent): file for file in _files(known[example].parent)
        }
        job = folder / IN_FOLDER
    else:
        job = path or Path(IN_FOLDER)
        job = job / IN_FOLDER if job.is_dir() else job
        made = {job: known[example]}
    _write(made, force)
    if as_json:
        files = {"files": [str(file) for file in made]} if whole else {}
        emit({"path": str(job), "example": example, **files})
    elif whole:
        click.echo(f"wrote {', '.join(map(str, made))}; it runs as it is: tuneyard submit {job} --follow")
    else:
        click.echo(f"wrote {job}; edit model and data, then: tuneyard plan {job}, tuneyard submit {job}")


def examples() -> dict[str, Path]:
    """The job file of each example by name; one that brings more than that is a folder."""
    found = {file.stem: file for file in EXAMPLES.glob("*.yaml")}
    found |= {file.parent.name: file for file in EXAMPLES.glob(f"*/{IN_FOLDER}")}
    return dict(sorted(found.items()))


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _print(file: Path, as_json: bool) -> None:
    text = file.read_text(encoding="utf-8")
    if as_json:
        emit({"text": text})
    else:
        click.echo(text, nl=False)


def _write(made: Mapping[Path, Path], force: bool) -> None:
    """Copies of files, none where one of them is there already. Raises UsageError."""
    there = [path for path in made if path.exists() or path.is_symlink()]
    if there and not force:
        raise UsageError(f"{there[0]} is there already; name another, or write over it with --force")
    begun: list[Path] = []
    try:
        for path, source in made.items():
            if len(made) > 1:  # a folder of its own
                path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb" if force else "xb") as file:
                begun.append(path)
                file.write(source.read_bytes())
    except OSError as error:
        for path in [] if force else begun:
            path.unlink(missing_ok=True)
        raise UsageError(f"{error.filename or path} can't be written: {error.strerror}") from None


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
    from jobs.jobfile.spec import schema  # here: pydantic takes 0.2 s to import, and no other verb needs it

    emit(schema())
