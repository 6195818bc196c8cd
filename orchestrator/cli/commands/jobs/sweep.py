"""A sweep as a table: what differs between its jobs and what came of it, best first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jobs.units import counted
from orchestrator.cli.commands.jobs.columns import evaluation_loss, training_loss
from orchestrator.cli.render import words
from orchestrator.cli.render.table import Cell, Column, Row, show, show_line

if TYPE_CHECKING:
    from orchestrator.schemas import GroupMember, GroupTable


def group_path(group: str, rest: str = "") -> str:
    """The path of a group of jobs, by id or name."""
    return f"/groups/{quote(group, safe='')}{rest}"


def show_sweep(table: GroupTable, now: float) -> None:
    """Print a line of what it is, and a row a job."""
    members = table["members"]
    states = Counter(member["job"]["state"] for member in members)
    states_said = ", ".join(f"{count} {state}" for state, count in states.items())
    named = f"group {table['id']} ({table['name']})" if table["name"] else f"group {table['id']}"
    show_line(f"{named}: {counted(len(members), 'job')}, {states_said}")
    show(_columns(table["keys"]), [_row(member, table["keys"], now) for member in members])


def _columns(keys: Sequence[str]) -> list[Column]:
    return [
        Column("ID", right=True),
        Column("NAME", keep=1, flexible=True),
        *(Column(title, right=True, keep=8, flexible=True) for title in titles(keys)),
        Column("STATE"),
        Column("PROGRESS", right=True, keep=5),
        Column("LOSS", right=True),
        Column("EVAL LOSS", right=True),
        Column("ETA", right=True, keep=4),
        Column("REASON", keep=3, flexible=True),
    ]


def titles(keys: Sequence[str]) -> list[str]:
    """The last part of each dotted key; all of it where two would be alike."""
    last = Counter(key.rpartition(".")[2] for key in keys)
    return [short if last[short := key.rpartition(".")[2]] == 1 else key for key in keys]


def _row(member: GroupMember, keys: Sequence[str], now: float) -> Row:
    job = member["job"]
    return [
        str(job["id"]),
        job["name"] or "-",
        *(_value(member["values"].get(key)) for key in keys),
        words.state(job["state"], job["cancel_requested"] and job["state"] not in words.ENDED),
        words.percent(job["progress"]),
        training_loss(job),
        evaluation_loss(job),
        words.eta(job, now),
        Cell(words.reason(job, now), "red" if job["state"] == "failed" else "dim"),
    ]


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
