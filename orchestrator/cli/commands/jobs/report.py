"""tuneyard report: one job as one file."""

from __future__ import annotations

import re
import time
from pathlib import Path

import click

from jobs.errors import UsageError
from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render.plots import check_plot
from orchestrator.cli.render.table import clean
from orchestrator.client.http import Api


@click.command("report")
@click.argument("job")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), metavar="FILE", help="Where to; job-ID.html here."
)
@click.option(
    "--png", type=click.Path(path_type=Path), metavar="FILE",
    help="A picture beside it (.png, .svg or .pdf; needs matplotlib).",
)  # fmt: skip
@click.option(
    "--dark", is_flag=True, help="The picture on a dark ground; the page follows its reader's theme."
)
@client_verb
def report_verb(api: Api, as_json: bool, job: str, output: Path | None, png: Path | None, dark: bool) -> None:
    """Write what there is to know of one job into one HTML file.

    JOB is an id or a name. Plan, memory by part projected and measured, curves, attempts, outcome, job file, versions.
    The file asks for nothing from anywhere: it can be mailed, and opened in ten years.
    """
    check_plot(png, "--png")
    if output is not None and not output.absolute().parent.is_dir():
        raise UsageError(f"--output {output}: the folder {output.absolute().parent} does not exist")
    if dark and png is None:
        raise UsageError("--dark is of the picture; give --png FILE too")
    import yaml  # here: no other client verb needs it

    from orchestrator.cli.report.facts import ask
    from orchestrator.cli.report.page import page

    facts = ask(api, job, time.time())
    name = re.sub(r"[^A-Za-z0-9._-]", "-", facts.job["name"])
    target = output or Path(f"job-{facts.job['id']}" + (f"-{name}" if name else "") + ".html")
    spec = yaml.safe_dump(facts.job["spec"], sort_keys=False, allow_unicode=True, width=100)
    if (
        clean(spec, lines=True) != spec
    ):  # what a page would not show is written as YAML's escapes: it stays the same
        spec = yaml.safe_dump(facts.job["spec"], sort_keys=False, width=100)
    try:
        target.write_text(page(facts, spec), encoding="utf-8", errors="replace")
    except OSError as error:
        raise UsageError(f"--output {target} can't be written: {error.strerror or error}") from None
    if png is not None:
        from orchestrator.cli.report.picture import draw_report

        draw_report(facts, png, dark)
    if as_json:
        emit({"job": facts.job["id"], "html": str(target), "picture": None if png is None else str(png)})
    else:
        click.echo(f"wrote {target}" + (f" and {png}" if png else ""))
