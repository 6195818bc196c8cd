"""What the demo must have shown: findings(job) -> what is not as it should be, and the table of memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from jobs.units import gib
from workers.checkpoints.manifest import Corrupt, verify

LOSS_FALL = 0.02  # of the first loss, at least


@dataclass(frozen=True)
class Expected:
    """How a job of the demo is to end, and whether it is to run with activation checkpointing."""

    state: str
    checkpointing: bool | None = None


EXPECTED = {
    "squeezed": Expected("succeeded", checkpointing=True),
    "fits": Expected("succeeded", checkpointing=False),
    "impossible": Expected("cancelled"),
}


def findings(job: dict[str, Any]) -> list[str]:
    """What of a `tuneyard show --json` is not as EXPECTED says, in sentences; [] when all is well."""
    name, expected = job["name"], EXPECTED[job["name"]]
    if job["state"] != expected.state:
        return [f"{name} is {job['state']}, not {expected.state}: {job['reason']['text']}"]
    if expected.checkpointing is None:
        return [f"{name} was started, though it fits no card"] if job["attempts_detail"] else []
    attempt = job["attempts_detail"][-1]
    found = []
    if (attempt["rung"]["every_n"] > 0) != expected.checkpointing:
        wanted = "with" if expected.checkpointing else "without"
        found.append(f"{name} ran with checkpointing {attempt['rung']['label']}, it was to run {wanted}")
    first, last = attempt["first_loss"], attempt["last_loss"]
    if first is None or last is None or not last <= first * (1 - LOSS_FALL):
        found.append(f"{name}: its loss did not fall ({first} -> {last})")
    if not (attempt["measured"] or {}).get("device_bytes"):
        found.append(f"{name}: its memory was not measured")
    return found + result_findings(name, attempt["result"])


def result_findings(name: str, result: str | None) -> list[str]:
    """Whether the folder holds safetensors and every file is what its manifest says."""
    if not result:
        return [f"{name}: no result folder is named"]
    folder = Path(result)
    try:
        manifest = verify(folder)
    except (Corrupt, OSError) as error:
        return [f"{name}: {error}"]
    if not any(file.endswith(".safetensors") for file in manifest["files"]):
        return [f"{name}: {folder} holds no safetensors"]
    return []


def memory_table(jobs: list[dict[str, Any]], cards: dict[str, str]) -> Table:
    """Projected against measured memory of every attempt, for people. cards: what to call each, by UUID."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("JOB", "CARD", "CHECKPOINTING"):
        table.add_column(heading, no_wrap=True)
    for heading in ("PROJECTED", "AT MOST", "MEASURED", "LOSS", "STEP"):
        table.add_column(heading, justify="right", no_wrap=True)
    for job in jobs:
        for attempt in job["attempts_detail"]:
            projection, measured = attempt["projection"] or {}, attempt["measured"] or {}
            table.add_row(
                job["name"],
                ", ".join(cards[gpu["uuid"]] for gpu in attempt["gpus"]),
                attempt["rung"]["label"] if attempt["rung"] else "",
                _size(projection.get("device_bytes")),
                _size(projection.get("upper_bytes")),
                _size(measured.get("device_bytes")),
                _losses(attempt),
                _seconds(measured.get("step_s")),
            )
    return table


def _size(count: int | None) -> str:
    return "-" if count is None else gib(count)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _losses(attempt: dict[str, Any]) -> str:
    first, last = attempt["first_loss"], attempt["last_loss"]
    return "-" if first is None or last is None else f"{first:.2f} -> {last:.2f}"
