"""tuneyard plan."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jobs.errors import Unavailable, UsageError
from orchestrator.cli.flags import faults_first, job_bodies, job_flags
from orchestrator.cli.output import FAILED, OK, client_verb, emit
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.plan_text import tell
from orchestrator.cli.render.plots import check_dark, check_plot
from orchestrator.client.http import Api
from orchestrator.client.settings import home

if TYPE_CHECKING:
    from orchestrator.schemas import PlanShape

POLL_S = 0.3


@click.command("plan")
@job_flags
@click.option(
    "--cards", multiple=True, metavar="NAMES",
    help="Cards of the catalogue beside the fleet's, such as rtx4090,l40s,h100; h100:40GiB for less of one; all for "
    "all of them.",
)  # fmt: skip
@click.option(
    "--local", is_flag=True, help="Trace on this machine: no server, no host. Needs the worker extra."
)
@click.option(
    "--price", "prices", multiple=True, metavar="CARD=PRICE",
    help="Price of an hour of one GPU, such as L40S=0.9; over the server's own. May be given again.",
)  # fmt: skip
@click.option(
    "--details", "-v", "--explain", "explain", is_flag=True,
    help="On every card: all parts of the peak, and every rung that was tried. And the lengths of the data.",
)  # fmt: skip
@click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Draw memory by part against rung, with the card's line: .png, .svg or .pdf.",
)  # fmt: skip
@click.option("--dark", is_flag=True, help="The picture on a dark ground.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0), default=300.0, show_default=True, metavar="SECONDS",
    help="How long to wait for the memory profile.",
)  # fmt: skip
@client_verb
def plan_verb(
    api: Api | None,
    as_json: bool,
    files: tuple[Path, ...],
    settings: tuple[str, ...],
    cards: tuple[str, ...],
    local: bool,
    prices: tuple[str, ...],
    explain: bool,
    plot: Path | None,
    dark: bool,
    timeout_s: float,
    **flags: Any,
) -> int:
    """Show where a job would fit, and at what memory, without submitting it.

    PEAK is the projected peak of the card's memory, UPPER what it stays under at the confidence that the job
    asks for; SLOWDOWN is against the fastest rung without checkpointing, were memory no matter. TAKES and PRICE are
    of the whole job, where its steps are known. * marks the card that resources.policy picks; its details follow.
    The exit code is 1 when the job fits no card.

    No data is needed: without it, rows as long as sequence_length are planned for. --model may be a hub id, a folder
    with a config.json, or such a file.
    """
    if len(files) > 1:
        raise UsageError("plan takes one job file")
    check_plot(plot)
    check_dark(dark, plot)
    if not math.isfinite(timeout_s):
        raise UsageError(f"--timeout {timeout_s:g} is no number of seconds; write one such as 600")
    named = [name for text in cards for name in text.split(",") if name.strip()]
    if cards and not named:
        raise UsageError("--cards names no card; write some such as rtx4090,l40s,h100, or leave it out")
    if "all" in named:
        named = [name for name in named if name != "all"] + _catalogue()
    body = job_bodies(files, settings, flags, needs="--model")[0]
    _read_config(body["overrides"])
    if local or api is None:
        plan = _here(body, named, prices, timeout_s, quiet=as_json)
    else:
        asked = {"job": body, "cards": named, "prices": dict(map(_price, prices))}
        with faults_first([body], plan=True):
            plan = _ask(api, asked, timeout_s, quiet=as_json)
    if not as_json:
        for line in plan["replaced"]:
            note(line)
    if plot is not None:
        from orchestrator.cli.render.plan_plot import draw_plan  # here: only --plot needs it

        draw_plan(plan, plot, dark)
        note(f"wrote {plot}")
    if as_json:
        emit(plan)
    else:
        tell(plan, explain)
    return OK if any(card["fits"] for card in plan["cards"]) else FAILED


def _here(
    body: dict[str, Any], cards: list[str], prices: tuple[str, ...], timeout_s: float, quiet: bool
) -> PlanShape:
    # Here: a client's verb has no use for what a trace imports.
    from jobs.cards import parse_price, read_card

    wanted, priced = [read_card(text) for text in cards], dict(map(parse_price, prices))
    from orchestrator.local.plan import plan_here

    say = (lambda _: None) if quiet else note
    return plan_here(body, wanted, priced, home(), timeout_s, say)


def _catalogue() -> list[str]:
    from jobs.cards import CATALOGUE  # here: takes pydantic to import, and few ask for all

    return [card.short for card in CATALOGUE]


def _read_config(overrides: dict[str, Any]) -> None:
    """Where --model is a config.json: what it says in its place. Raises UsageError."""
    given = overrides.get("model.path")
    if not isinstance(given, str) or not given.endswith(".json"):
        return
    try:
        config = json.loads(Path(given).expanduser().read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"--model {given} can't be read as a model's config: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise UsageError(f"--model {given} is no model's config: it has no model_type")
    del overrides["model.path"]
    overrides["model.config"] = config


def _price(text: str) -> tuple[str, float]:
    from jobs.cards import parse_price  # here: takes pydantic to import, and few give a price

    return parse_price(text)


def _ask(api: Api, body: Any, timeout_s: float, quiet: bool) -> PlanShape:
    deadline = time.monotonic() + timeout_s
    told = ""
    while True:
        status, answer = api.post("/plan", body)
        if status != 202:
            plan: PlanShape = answer
            return plan
        text = str(answer.get("text") or "the memory profile is being traced")
        if not quiet and text != told:
            note(f"{text} ..")
            told = text
        if time.monotonic() >= deadline:
            raise Unavailable(
                f"there is no memory profile after {timeout_s:g} s: {text}; --timeout waits longer"
            )
        time.sleep(POLL_S)
