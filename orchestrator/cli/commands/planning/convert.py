"""tuneyard convert: a job file from a configuration of another tool."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.errors import UsageError
from orchestrator.cli.output import FAILED, OK, USAGE, emit, json_option
from orchestrator.cli.render.table import Cell, Column, show

if TYPE_CHECKING:
    from jobs.convert.convert import Conversion

MAX_BYTES = 1 << 20  # of a script; a YAML file is bounded by its loader
INFO = "dataset_info.json"


@click.command("convert")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("path", type=click.Path(path_type=Path), default="job.yaml")
@click.option(
    "--from",
    "tool",
    type=click.Choice(["axolotl", "llamafactory", "trl", "script"]),
    help="What SOURCE is of; told by its keys when left out.",
)
@click.option(
    "--gpus", type=click.IntRange(1, 1024), default=1, show_default=True, help="GPUs that it runs on."
)
@click.option(
    "--trainer",
    type=click.Choice(["sft", "dpo", "kto", "reward"]),
    default="sft",
    show_default=True,
    help="Of a file of TRL: which `trl` command it is for.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 if any key is not honoured.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@json_option
def convert_verb(
    source: Path,
    path: Path,
    tool: str | None,
    gpus: int,
    trainer: str,
    strict: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Write a job file from a configuration of axolotl, LLaMA-Factory or TRL.

    SOURCE is a YAML file, or a Python script with TRL, which is read and not run. PATH is job.yaml by default; - prints
    it. Each key of SOURCE stands in the job file, is tuneyard's to decide, or is listed with the reason why it is not
    honoured. Keys that could mean two things are refused. What the file does not say is how many GPUs it runs on.
    """
    from jobs.convert.convert import convert  # here: pydantic takes 0.2 s to import
    from jobs.convert.writing import text_of

    made = convert(_read(source), str(source), tool, gpus, _dataset_info(source), trainer)
    text = text_of(made, source.name)
    printed = str(path) == "-"
    if not printed:
        _write(path, text, force)
    if as_json:
        emit(_value(made, text, None if printed else str(path)))
    elif printed:
        click.echo(text, nl=False)
    else:
        _show(made, path)
    if made.missing:
        return USAGE
    return FAILED if strict and made.of("listed") else OK


def _show(made: Conversion, path: Path) -> None:
    from jobs.convert.convert import NAMES

    mapped, left, listed = (len(made.of(what)) for what in ("mapped", "left", "listed"))
    empty = len(made.of("empty"))
    more = f", {empty} without a value" if empty else ""
    click.echo(
        f"wrote {path} from {NAMES[made.tool]}: {mapped} keys honoured, {left} left to tuneyard, "
        f"{listed} not honoured{more}"
    )
    if made.of("listed"):
        columns = (
            Column("NOT HONOURED", flexible=True),
            Column("GIVEN", keep=1, flexible=True),
            Column("WHY", wrap=True),
        )
        click.echo()
        show(columns, [(Cell(one.key), one.given, one.reason) for one in made.of("listed")])
    if made.defaults:
        click.echo(f"\nwritten out, for the two differ in their defaults: {'; '.join(made.defaults)}")
    if made.missing:
        click.echo("\nnot a job yet:")
        for fault in made.missing:
            click.echo(f"  - {fault}")
    else:
        click.echo(f"\nnext: tuneyard plan {path}")


def _value(made: Conversion, text: str, path: str | None) -> dict[str, Any]:
    entries = [
        {"key": one.key, "given": one.given, "became": one.what, "path": one.path, "reason": one.reason}
        for one in made.entries
    ]
    return {
        "tool": made.tool,
        "path": path,
        "job": made.job,
        "text": text,
        "keys": entries,
        "defaults": list(made.defaults),
        "missing": [fault.as_dict() for fault in made.missing],
    }


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise UsageError(
                f"{path} is too large for a configuration: it has more than {MAX_BYTES // 1024} KiB"
            )
        return raw.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from None


def _dataset_info(source: Path) -> dict[str, Any] | None:
    """LLaMA-Factory's list of data sets: beside the file, or in a folder `data` from here."""
    for folder in (source.parent, source.parent / "data", Path("data")):
        try:
            value = json.loads((folder / INFO).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(value, dict):
            return value
    return None


def _write(path: Path, text: str, force: bool) -> None:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} is there already; name another, or write over it with --force") from None
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from None
