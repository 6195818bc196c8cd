"""tuneyard hosts and gpus: the tables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from jobs.units import gib, span
from orchestrator.cli.commands.fleet.card import show_card
from orchestrator.cli.output import client_verb, emit
from orchestrator.cli.render import words
from orchestrator.cli.render.notes import note
from orchestrator.cli.render.table import Cell, Column, Row, show
from orchestrator.client.http import Api

if TYPE_CHECKING:
    from orchestrator.schemas import Gpu, Host

HOST_COLUMNS = (
    Column("NAME"),
    Column("STATE"),
    Column("RAY", keep=4),
    Column("CARDS", right=True),
    Column("FREE", right=True),
    Column("LAST SEEN", right=True, keep=5),
    Column("DISK FREE", right=True, keep=3),
    Column("LABELS", keep=3, flexible=True),
    Column("TORCH", keep=1),
    Column("VERSION", keep=2),
)

GPU_COLUMNS = (
    Column("HOST"),
    Column("#", right=True),
    Column("CARD", flexible=True),
    Column("MEMORY", right=True),
    Column("IN USE", right=True, keep=7),
    Column("BUSY", right=True, keep=6),
    Column("POWER", right=True, keep=4),
    Column("TEMP", right=True, keep=3),
    Column("JOB", right=True, keep=8),
    Column("NOTE", keep=8, flexible=True),
)


@click.command("hosts")
@client_verb
def hosts_verb(api: Api, as_json: bool) -> None:
    """List hosts."""
    answer = api.get("/hosts")
    if as_json:
        emit(answer)
        return
    if (said := words.leader(answer.get("leader"), time.time())) is not None:
        note(said)
    if not answer["hosts"]:
        note(
            "no host has joined; `tuneyard host run --server URL --token T` joins one, `tuneyard up` this one"
        )
        return
    now = time.time()
    show(HOST_COLUMNS, [_host_row(host, now) for host in answer["hosts"]])
    for host in answer["hosts"]:
        if host.get("fault"):
            rest = max(0.0, (host["tried_again_at"] or now) - now)
            note(f"{host['name']} can't start a trainer: {host['fault']}; tried again in {span(rest)}")


def _host_row(host: Host, now: float) -> Row:
    return [
        host["name"],
        words.host_state(host),
        Cell("ready", "green") if host["ray_ready"] else Cell("not yet", "yellow"),
        str(host["gpus"]),
        str(host["free"]),
        Cell(words.ago(host["last_seen"], now) or "never", "dim"),
        words.size(min((disk["free_bytes"] for disk in host.get("disks") or ()), default=None)),
        ", ".join(f"{key}={value}" for key, value in sorted(host["labels"].items())),
        host["stack"].get("torch", ""),
        host["version"],
    ]


@click.command("gpus")
@click.argument("card", required=False)
@click.option(
    "--limit", "-n", type=click.IntRange(1, 500), default=20, show_default=True, metavar="N",
    help="Of one card: how many of the newest events and jobs.",
)  # fmt: skip
@client_verb
def gpus_verb(api: Api, as_json: bool, card: str | None, limit: int) -> None:
    """List cards with what they are doing.

    With CARD (HOST/INDEX, a uuid or an id) one alone: what it reads, what happened to it, which jobs ran on it.
    PROJECTED and MEASURED are the peaks of device memory.
    """
    if card is not None:
        show_card(api, card, as_json, limit)
        return
    answer = api.get("/gpus")
    if as_json:
        emit(answer)
        return
    if not answer["gpus"]:
        note("no cards: no host has joined; `tuneyard hosts` shows who has")
        return
    now = time.time()
    show(GPU_COLUMNS, [gpu_row(gpu, now) for gpu in answer["gpus"]])


def _card_note(gpu: Gpu, now: float) -> Cell:
    """Why no job starts there now. A host that is away says no more of what is wrong with its cards."""
    if gpu["host_state"] == "online":
        return Cell(gpu["fault"] or "", "red")
    text = f"host is {gpu['host_state']}"
    if words.gone(gpu) and (seen := gpu.get("host_seen")) is not None:
        text = f"{gpu['host_state']} since {words.clock(seen, now)}"
    return (
        Cell(text, words.STATE_STYLES.get(gpu["host_state"], ""))
        if words.gone(gpu) or not gpu["fault"]
        else Cell(f"{gpu['fault']}; {text}", "red")
    )


def gpu_row(gpu: Gpu, now: float) -> list[Cell | str]:
    """One card as a row under GPU_COLUMNS."""
    used = words.latest(gpu).get("memory_used_bytes")
    return [
        gpu["host"],
        str(gpu["index"]),
        gpu["name"],
        gib(gpu["memory_bytes"]),
        words.size(used) or "-",
        words.reading(gpu, "utilization", "{:.0f}%", 100),
        words.reading(gpu, "power_w", "{:.0f} W"),
        words.reading(gpu, "temperature_c", "{:.0f} °C"),
        Cell(", ".join(map(str, gpu["jobs"])), "cyan"),
        _card_note(gpu, now),
    ]
