"""A rehearsal on this machine, from the job file to what it came to."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jobs.cards import read_card
from jobs.errors import InputError, TuneyardError, Unavailable, UsageError
from orchestrator.local.prepare import cuda_card, prepare
from orchestrator.local.report import rehearsal_shape
from workers.cuda_double.environment import Environment, find, variables
from workers.cuda_double.host import environment_of_host, torch_of_host
from workers.rehearsal.child import rehearse_in_child
from workers.rehearsal.messages import Request

FOLDER = "cuda-double"  # in the state directory: the environment made of this machine's own torch


class Impossible(InputError):
    """A rehearsal can't be had on this machine as it is."""


def rehearse_here(
    body: Mapping[str, Any],
    card: str | None,
    steps: int,
    home: Path,
    timeout_s: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """What report.rehearsal_shape makes of it. Nothing is traced or run before all is there that it takes.

    Raises Impossible without the CUDA double or over a real driver, what `prepare` raises, and TuneyardError where the
    rehearsal itself failed.
    """
    if card:
        cuda_card(card)  # a name that is none is told first
    environment = _environment(home, say)
    prepared = prepare(body, card, home, timeout_s, say)
    on = prepared.card
    whole = read_card(on.short).memory_bytes == on.memory_bytes
    cards = on.short if whole else f"{on.short}:{on.memory_bytes}B"
    rung = prepared.projection.rung.label
    say(f"rehearsing {rung} on a {on.name} that is not there: real allocator, no GPU ..")
    answer = rehearse_in_child(
        environment, Request(assignment=prepared.assignment, steps=steps), cards, timeout_s
    )
    if answer.ending == "bad_input":
        raise UsageError(f"{body['source']}: {answer.message}")
    if answer.ending == "failed":
        raise TuneyardError(f"the rehearsal says nothing of memory, for it failed: {answer.message}")
    return rehearsal_shape(prepared, answer)


def _environment(home: Path, say: Callable[[str], None]) -> Environment:
    """Of this machine's own CUDA build of torch, else the one that make cuda-double made. Raises Impossible."""
    try:
        own = None if os.environ.get("TUNEYARD_CUDA_VENV") else torch_of_host()
        if own is None:
            made = find()
        else:
            if not (home / FOLDER / "made-of").exists():
                say("building the CUDA double for this machine's torch, once ..")
            made = environment_of_host(home / FOLDER, own)
        variables(made, "rtx4090")
    except Unavailable as error:
        raise Impossible(str(error)) from None
    return made
