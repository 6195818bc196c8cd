"""The columns that a list of jobs can have, and how a job fills them. Pure: the time comes in as an argument."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jobs.errors import UsageError
from orchestrator.cli.render import words
from orchestrator.cli.render.table import Cell, Column

if TYPE_CHECKING:
    from orchestrator.schemas import Job

Fill = Callable[["Job", float], Cell | str]

# Those of plain `list`, in its order. What tells a job apart, and how it goes, is dropped last.
JOB_COLUMNS = (
    Column("ID", right=True),
    Column("NAME", keep=8, flexible=True),
    Column("GROUP", right=True, keep=3),
    Column("USER", keep=5, flexible=True),
    Column("PROJECT", keep=5, flexible=True),
    Column("STATE"),
    Column("PRIORITY", right=True, keep=2),
    Column("GPUS", right=True, keep=3),
    Column("PROGRESS", right=True, keep=8),
    Column("LOSS", right=True, keep=7),
    Column("ETA", right=True, keep=7),
    Column("HOST", keep=6),
    Column("CARD", keep=3, flexible=True),
    Column("CHECKPOINTING", keep=1, flexible=True),
    Column("PROJECTED", right=True, keep=0),
    Column("MEASURED", right=True, keep=0),
    Column("SUBMITTED", right=True, keep=4),
    Column("REASON", keep=8, flexible=True),
)
# Those that only --columns shows.
MORE_COLUMNS = (
    Column("EVAL_LOSS", right=True),
    Column("METHOD"),
    Column("MODEL", flexible=True),
    Column("TRAINER"),
    Column("ATTEMPTS", right=True),
    Column("STARTED", right=True),
    Column("ENDED", right=True),
)

_FILLS: dict[str, Fill] = {
    "ID": lambda job, now: str(job["id"]),
    "NAME": lambda job, now: job["name"] or "-",
    "GROUP": lambda job, now: "" if job["group"] is None else str(job["group"]),
    "USER": lambda job, now: job["user"],
    "PROJECT": lambda job, now: "" if job["project"] == "default" else job["project"],
    "STATE": lambda job, now: words.state(
        job["state"], job["cancel_requested"] and job["state"] not in words.ENDED
    ),
    "PRIORITY": lambda job, now: str(job["priority"]),
    "GPUS": lambda job, now: str(job["gpus"]),
    "PROGRESS": lambda job, now: words.percent(job["progress"]),
    "LOSS": lambda job, now: training_loss(job),
    "ETA": words.eta,
    "HOST": lambda job, now: ", ".join(job["hosts"]),
    "CARD": lambda job, now: words.cards(job["cards"]),
    "CHECKPOINTING": lambda job, now: job["rung"] or "",
    "PROJECTED": lambda job, now: words.size(job["projected_bytes"]),
    "MEASURED": lambda job, now: words.size(job["measured_bytes"]),
    "SUBMITTED": lambda job, now: Cell(words.ago(job["submitted_at"], now), "dim"),
    "REASON": lambda job, now: Cell(words.reason(job, now), "red" if job["state"] == "failed" else "dim"),
    "EVAL_LOSS": lambda job, now: evaluation_loss(job),
    "METHOD": lambda job, now: job["method"],
    "MODEL": lambda job, now: job["model"],
    "TRAINER": lambda job, now: job["trainer"],
    "ATTEMPTS": lambda job, now: str(job["attempts"]),
    "STARTED": lambda job, now: Cell(words.ago(job["started_at"], now), "dim"),
    "ENDED": lambda job, now: Cell(words.ago(job["ended_at"], now), "dim"),
}


def job_row(
    job: Job, now: float, columns: Sequence[Column] = JOB_COLUMNS, asked: bool = False
) -> list[Cell | str]:
    """One job as a row under the columns. asked: people named them, so none is left out for being empty."""
    cells = [_FILLS[column.title](job, now) for column in columns]
    return [cell if not asked or cell != "" else "-" for cell in cells]


def chosen(text: str) -> list[Column]:
    """The columns of a comma-separated list of names, none of which a narrow terminal drops. Raises UsageError."""
    known = {column.title.lower(): column for column in (*JOB_COLUMNS, *MORE_COLUMNS)}
    names = [name.strip().lower().replace("-", "_") for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"--columns {unknown[0]!r} is no column; use {', '.join(known)}")
    if not names:
        raise UsageError(f"--columns {text!r} names no column; use {', '.join(known)}")
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UsageError(f"--columns names {twice[0]} twice; name each column once")
    return [replace(known[name], keep=9) for name in names]


def loss(value: float | None) -> str:
    """A loss for people."""
    if value is None:
        return ""
    return f"{value:.3f}" if 0.001 <= abs(value) < 10_000 or value == 0 else f"{value:.3g}"


def training_loss(job: Job) -> Cell | str:
    """A line of progress without a loss had one that is no number: JSON has no word for it."""
    progress: Any = job["progress"]
    if progress is None:
        return ""
    return (
        Cell(progress.get("loss_text") or "nan", "red")
        if progress["loss"] is None
        else loss(progress["loss"])
    )


def evaluation_loss(job: Job) -> Cell | str:
    """The same of the last evaluation."""
    evaluation: Any = job.get("evaluation")
    if evaluation is None:
        return ""
    return (
        Cell(evaluation.get("loss_text") or "nan", "red")
        if evaluation["loss"] is None
        else loss(evaluation["loss"])
    )
